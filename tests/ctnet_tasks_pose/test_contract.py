"""The conformance kit on pose without snapping; ``tests/testing/test_tasks.py`` runs it with the defaults."""

from __future__ import annotations

import pytest

from ctnet.core.task import create_task
from ctnet.testing import TASK_CHECKS, Check
from ctnet_tasks_pose.figures import FIGURES

TASK = create_task("pose", FIGURES, snap=False)


@pytest.mark.parametrize("check", TASK_CHECKS, ids=lambda check: check.name)
def test_contract(check: Check) -> None:
    check(TASK)
