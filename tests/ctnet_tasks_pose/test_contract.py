"""The conformance kit on pose, snapping and not."""

from __future__ import annotations

import pytest

from ctnet.core.task import create_task
from ctnet.testing import TASK_CHECKS, Check
from ctnet_tasks_pose.figures import FIGURES

TASKS = {snap: create_task("pose", FIGURES, snap=snap) for snap in (True, False)}


@pytest.mark.parametrize("check", TASK_CHECKS, ids=lambda check: check.name)
@pytest.mark.parametrize("snap", TASKS)
def test_contract(snap: bool, check: Check) -> None:
    check(TASKS[snap])
