"""exdet keeps ctnet's contract, with its usual options and with others."""

from __future__ import annotations

import pytest
from ctnet_tasks_exdet import ExtremeDetection

from ctnet.task import create_task
from ctnet.testing import task_checks

AGNOSTIC = ExtremeDetection(ExtremeDetection.example_categories, agnostic=True, ghosts="suppress")


@task_checks(ExtremeDetection)
def test_contract(task, check):
    check(task)


@task_checks(AGNOSTIC)
def test_contract_of_agnostic_points(task, check):
    if check.name == "decode_exports":
        pytest.skip("exported in test_grouping, with all options")
    check(task)


def test_it_is_installed_under_its_name():
    assert isinstance(create_task("exdet", ExtremeDetection.example_categories), ExtremeDetection)
