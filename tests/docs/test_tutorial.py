"""The tutorial is accurate: its code is the plugin's, its failures are the kit's, its files exist."""

from __future__ import annotations

import doctest
import importlib
import re
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import pytest

from ctnet.core.heads import Regression
from ctnet.core.task import Task, scenes_of
from ctnet.testing import TASK_CHECKS, ContractViolation

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "plugins" / "tutorial.md"
PLUGIN = ROOT / "plugins" / "ctnet-tasks-obb"
TEXT = PAGE.read_text("utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)
SOURCES = [path.read_text("utf-8") for path in sorted((PLUGIN / "ctnet_tasks_obb").glob("*.py"))]


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.split("(")[0].split(":")[0].strip())
def test_a_block_is_the_plugins_code(block: str) -> None:
    written = [block, textwrap.indent(block, "    ")]  # a function, or a method
    found = any(each in source for source in SOURCES for each in written)
    assert found, "the plugin's code has changed: copy it into the tutorial"


def test_there_are_blocks() -> None:
    assert len(BLOCKS) > 15


@pytest.mark.parametrize("target", re.findall(r"\]\((?!http)([^)#]+)", TEXT))
def test_a_link_leads_somewhere(target: str) -> None:
    assert (PAGE.parent / target).exists()


def test_the_files_are_those_of_the_plugin() -> None:
    named = re.findall(r"^\| `(ctnet_tasks_obb/\w+\.py)` \| (\d+) \|", TEXT, re.MULTILINE)
    lines = {name: len((PLUGIN / name).read_text("utf-8").splitlines()) for name, _ in named}
    assert {name: int(count) for name, count in named} == lines
    paths = {f"ctnet_tasks_obb/{path.name}" for path in (PLUGIN / "ctnet_tasks_obb").glob("*.py")}
    assert set(lines) == paths - {"ctnet_tasks_obb/__init__.py"}


@pytest.fixture(scope="module")
def obb() -> type[Task]:
    """The plugin's task, installed or not."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(PLUGIN))
        known = set(sys.modules)
        cls: type[Task] = importlib.import_module("ctnet_tasks_obb").Obb
        yield cls
        for name in set(sys.modules) - known:
            if name.startswith("ctnet_tasks_obb"):
                patch.delitem(sys.modules, name)


def test_what_is_shown_comes_out(obb: type[Task]) -> None:
    shown = "\n".join(re.findall(r"^```pycon\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE))
    examples = doctest.DocTestParser().get_doctest(shown, {}, "tutorial", str(PAGE), 0)
    assert len(examples.examples) > 8
    assert doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(examples).failed == 0


def without_completion(obb: type[Task]) -> Task:
    return _changed(obb, complete=Task.complete)


def without_any_corner_first(obb: type[Task]) -> Task:
    return _changed(obb, fields={**obb.fields, "corners": replace(obb.fields["corners"], cyclic=False)})


def without_declared_corners(obb: type[Task]) -> Task:
    return _changed(obb, fields={name: field for name, field in obb.fields.items() if name != "corners"})


def without_a_sign_in_the_mirror(obb: type[Task]) -> Task:
    task = _changed(obb)
    task.heads = {**task.heads, "angle": Regression(4, symmetric=True)}
    return task


def _changed(obb: type[Task], **members: object) -> Task:
    return type("Changed", (obb,), members)(scenes_of(obb).categories)


@pytest.mark.parametrize(
    ("change", "check"),
    [
        (without_completion, "fields_are_declared"),
        (without_any_corner_first, "the_round_trip_holds"),
        (without_declared_corners, "the_round_trip_holds"),
        (without_a_sign_in_the_mirror, "encode_commutes_with_mirroring"),
    ],
)
def test_a_step_left_out_fails_as_the_tutorial_says(obb: type[Task], change, check: str) -> None:
    (chosen,) = (each for each in TASK_CHECKS if each.name == check)
    with pytest.raises(ContractViolation) as failure:
        chosen(change(obb))
    said = _plain(str(failure.value))
    told = re.findall(rf"`?{check}`? says `([^`]+)`|^ {{4}}({check}:(?:.+\n)+)", TEXT, re.MULTILINE)
    assert any(_matches(said, quote or block) for quote, block in told), said


def _plain(text: str) -> str:
    """One line, numbers to two digits."""
    return re.sub(r"(\d+\.\d\d)\d+", r"\1", " ".join(text.split()))


def _matches(said: str, told: str) -> bool:
    """Whether all parts of the page's text, between its (...), are in the real message."""
    return all(_plain(part) in said for part in told.split("(...)"))


def test_the_finished_task_passes_these_checks(obb: type[Task]) -> None:
    task = obb(scenes_of(obb).categories)
    names = (
        "annotations_survive_a_file",
        "the_round_trip_holds",
        "results_survive_a_file",
        "encode_commutes_with_mirroring",
    )
    for check in TASK_CHECKS:
        if check.name in names:
            check(task)
