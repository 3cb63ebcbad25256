"""pytest decorators that make one test of every check."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ctnet.core.task import Task
from ctnet.testing.backbones import BACKBONE_CHECKS, Factory, as_factory
from ctnet.testing.tasks import TASK_CHECKS, as_task


def task_checks(*tasks: Task | type[Task] | str) -> Callable[[Any], Any]:
    """Run a test function, which takes ``task`` and ``check``, for every check of every task.

    The function's body is ``check(task)``.

    Args:
        tasks: see ``check_task``.
    """
    import pytest

    made = [as_task(task) for task in tasks]
    cases = [
        pytest.param(task, check, id=f"{task.name}-{check.name}") for task in made for check in TASK_CHECKS
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
