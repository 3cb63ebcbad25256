"""exdet keeps ctnet's contract, with its usual options and with others."""

from __future__ import annotations

import pytest
from ctnet_tasks_exdet import ExtremeDetection

from ctnet.core.task import create_task
from ctnet.testing import TASK_CHECKS, task_checks

SHAPES = ExtremeDetection.scenes.categories
AGNOSTIC = ExtremeDetection(SHAPES, agnostic=True)
RELEASED = ExtremeDetection(SHAPES, middle="cells")


@task_checks(ExtremeDetection)
def test_contract(task, check):
    check(task)


@task_checks(AGNOSTIC)
def test_contract_of_agnostic_points(task, check):
    if check.name == "decode_exports":
        pytest.skip("exported in test_grouping, with all options")
    check(task)


def test_the_law_of_the_released_middle():
    """Most objects come back with it; for the others it looks for the centre in a cell beside theirs."""
    next(check for check in TASK_CHECKS if check.name == "the_round_trip_holds")(RELEASED)


def test_it_is_installed_under_its_name():
    assert isinstance(create_task("exdet", SHAPES), ExtremeDetection)
