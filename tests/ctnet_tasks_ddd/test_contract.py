"""The conformance kit on ddd under its options; with its defaults it runs with all tasks that ship."""

from __future__ import annotations

import pytest

from ctnet.core.task import scenes_of
from ctnet.testing import task_checks
from ctnet_tasks_ddd.task import Boxes3d

TASKS = [
    Boxes3d(scenes_of(Boxes3d).categories, **options)
    for options in ({"center": "projected"}, {"loss": "released", "ignore": "rectangle"})
]
#: Checks whose outcome no option of ddd changes.
SAME = ("decode_exports", "example_is_valid", "drawing_makes_a_new_image", "evaluators_merge")


@task_checks(*TASKS)
def test_contract_under_options(task, check) -> None:
    if check.name in SAME:
        pytest.skip("as with the defaults")
    check(task)
