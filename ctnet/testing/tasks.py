"""All checks of a task, in the order in which they run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ctnet.core.task import Task, load_task_class, scenes_of

# Importing a module adds its checks, so the order of these lines is the order of the checks.
# isort: off
from ctnet.testing import declaration as _declaration  # noqa: F401
from ctnet.testing import scenes as _scenes  # noqa: F401
from ctnet.testing import fields as _fields  # noqa: F401
from ctnet.testing import encoding as _encoding  # noqa: F401
from ctnet.testing import round_trip as _round_trip  # noqa: F401
from ctnet.testing import losses as _losses  # noqa: F401
from ctnet.testing import mirroring as _mirroring  # noqa: F401
from ctnet.testing import decoding as _decoding  # noqa: F401
from ctnet.testing import tiles as _tiles  # noqa: F401
from ctnet.testing import videos as _videos  # noqa: F401
from ctnet.testing import evaluators as _evaluators  # noqa: F401
from ctnet.testing import results as _results  # noqa: F401

# isort: on
from ctnet.testing.check import NONE, Outcome, require_known, run
from ctnet.testing.probe import TASK_CHECKS

__all__ = ["TASK_CHECKS", "as_task", "check_task"]


def check_task(
    task: Task | type[Task] | str, expected_failures: Mapping[str, str] = NONE, **options: Any
) -> list[Outcome]:
    """Run every check of the contract on a task.

    Args:
        task: a task, or a task's class or name, which is bound to the categories of its ``scenes``.
        expected_failures: name of a check -> reason for its failure; a check that passes anyway counts as
            failed.
        options: the options of the task, for a class or a name.

    Returns:
        The outcome of each check: passed, or skipped or expected to fail with the reason.

    Raises:
        ContractViolation: naming every check that fails, what the contract requires, and where it is broken.
        CtnetError: for a name that is not installed, invalid options, and expected failures of checks
            that do not exist or without a reason.
    """
    require_known(expected_failures, TASK_CHECKS)
    task = as_task(task, **options)
    return run(TASK_CHECKS, task, f"task {task.name}", expected_failures)


def as_task(task: Task | type[Task] | str, **options: Any) -> Task:
    """The task for an argument of ``check_task``."""
    if isinstance(task, str):
        task = load_task_class(task)
    if isinstance(task, Task):
        return task
    scenes = scenes_of(task)
    scenes = scenes if scenes.chosen is None else scenes.chosen(options)
    return task(scenes.categories, **options)
