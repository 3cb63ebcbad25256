"""pytest decorators that create one test per check."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ctnet.core.task import Task
from ctnet.testing.backbones import BACKBONE_CHECKS, Factory, as_factory
from ctnet.testing.check import NONE, ContractViolation, require_known
from ctnet.testing.tasks import TASK_CHECKS, as_task


def task_checks(
    *tasks: Task | type[Task] | str, expected_failures: Mapping[str, str] = NONE
) -> Callable[[Any], Any]:
    """Run a test function, which takes ``task`` and ``check``, for every check of every task.

    The function's body is ``check(task)``. Tests of expected failures are strict xfails.

    Args:
        tasks: see ``check_task``.
        expected_failures: see ``check_task``.
    """
    import pytest

    require_known(expected_failures, TASK_CHECKS)
    marks = {
        name: [pytest.mark.xfail(reason=reason, strict=True, raises=ContractViolation)]
        for name, reason in expected_failures.items()
    }
    cases = [
        pytest.param(task, check, id=f"{task.name}-{check.name}", marks=marks.get(check.name, ()))
        for task in map(as_task, tasks)
        for check in TASK_CHECKS
    ]
    return pytest.mark.parametrize(("task", "check"), cases)


def backbone_checks(*factories: Factory | str) -> Callable[[Any], Any]:
    """Run a test function, which takes ``factory`` and ``check``, for every check of every backbone.

    The function's body is ``check(factory)``.

    Args:
        factories: see ``check_backbone``.
    """
    import pytest

    cases = []
    for factory in factories:
        made = as_factory(factory)
        name = factory if isinstance(factory, str) else getattr(factory, "__name__", "backbone")
        cases += [pytest.param(made, check, id=f"{name}-{check.name}") for check in BACKBONE_CHECKS]
    return pytest.mark.parametrize(("factory", "check"), cases)
