"""The generated pages are up to date and complete, and the hand-written ones describe what exists."""

from __future__ import annotations

import doctest
import json
import re
import runpy
from pathlib import Path

import numpy as np
import pytest

from ctnet import plugin
from ctnet.base.errors import CtnetError
from ctnet.report.writing import write_image

FOLDER = Path(__file__).parents[2] / "docs" / "plugins"
PAGES = runpy.run_path(str(FOLDER / "generate.py"))["pages"]()


@pytest.mark.parametrize("name", PAGES)
def test_a_generated_page_is_up_to_date(name: str) -> None:
    written = (FOLDER / name).read_text("utf-8")
    assert written == PAGES[name], "run python docs/plugins/generate.py"


def test_the_groups_are_those_that_are_searched() -> None:
    text = (FOLDER / "README.md").read_text("utf-8")
    package = FOLDER.parents[1] / "ctnet"
    sources = "".join(path.read_text("utf-8") for path in package.rglob("*.py"))
    groups = [line.split("`")[1] for line in text.splitlines() if line.startswith("| `ctnet.")]
    assert groups == [
        "ctnet.tasks",
        "ctnet.backbones",
        "ctnet.converters",
        "ctnet.analyses",
        "ctnet.commands",
        "ctnet.observers",
        "ctnet.report_sections",
    ]
    for group in groups:
        assert f'GROUP = "{group}"' in sources or f'plugin_group("{group}")' in sources


SECTIONS = re.split(r"^#{2,4} ", PAGES["contract.md"], flags=re.MULTILINE)[1:]


def test_the_contract_has_every_name_of_the_plugin_module() -> None:
    titles = [section.partition("\n")[0] for section in SECTIONS]
    assert set(plugin.CONTENTS) | set(plugin.__all__) - {"CONTRACTS"} <= set(titles)
    for title in (
        "Task.encode",
        "Evaluator.merge",
        "Detections.replace",
        "CellTargets.collate",
        "Dataset.as_coco",
    ):
        assert title in titles
    assert len(titles) == len(set(titles)), "two sections of one name have one address"


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.partition("\n")[0])
def test_a_section_of_the_contract_says_something(section: str) -> None:
    title, _, body = section.partition("\n")
    words = re.sub(r"```.*?```", "", body, flags=re.DOTALL).strip()
    assert title in plugin.CONTENTS or words, f"{title} has no docstring"


HAND_WRITTEN = {
    name: (FOLDER / name).read_text("utf-8")
    for name in ("README.md", "conventions.md", "task-in-90-lines.md", "tutorial.md")
}


@pytest.mark.parametrize("page", HAND_WRITTEN)
def test_a_page_sends_plugins_to_the_plugin_module_alone(page: str) -> None:
    words = re.findall(r"\bctnet\.[\w.]*\w", HAND_WRITTEN[page])
    kinds = ("tasks", "backbones", "converters", "analyses", "commands", "observers", "report_sections")
    groups = {f"ctnet.{kind}" for kind in kinds}
    known = {"ctnet.plugin", "ctnet.plugin.CONTRACTS", "ctnet.testing", "ctnet.testing.check_task"}
    assert set(words) <= groups | known


@pytest.mark.parametrize("page", HAND_WRITTEN)
def test_links_lead_somewhere(page: str) -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)", HAND_WRITTEN[page]):
        assert (FOLDER / target).exists(), target


def test_what_the_conventions_show_comes_out() -> None:
    shown = "\n".join(
        re.findall(r"^```pycon\n(.*?)^```$", HAND_WRITTEN["conventions.md"], re.DOTALL | re.MULTILINE)
    )
    examples = doctest.DocTestParser().get_doctest(shown, {}, "conventions", "conventions.md", 0)
    assert len(examples.examples) == 4
    assert doctest.DocTestRunner().run(examples).failed == 0


def test_the_converter_of_the_conventions_converts(tmp_path: Path) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```$", HAND_WRITTEN["conventions.md"], re.DOTALL | re.MULTILINE)
    [text] = [block for block in blocks if "convert_points" in block]
    names: dict = {}
    exec(text, names)
    source = tmp_path / "source"
    write_image(source / "a.jpg", np.zeros((20, 30, 3), np.uint8))
    (source / "a.txt").write_text("cat 1 2 10 5\ndog 1 2 0 5\ncat 1 2\n")
    report = names["convert_points"](source, tmp_path / "target")
    assert [problem.where for problem in report.problems] == ["a.txt:2", "a.txt:3"]
    content = json.loads((tmp_path / "target" / "annotations" / "instances_train.json").read_text())
    assert [(each["bbox"], each["area"]) for each in content["annotations"]] == [([1, 2, 10, 5], 50)]
    [dataset] = plugin.open_splits(tmp_path / "target", None, "ctdet")
    assert dataset[0].instances.boxes.tolist() == [[1, 2, 11, 7]]
    with pytest.raises(CtnetError, match="2 bad records"):
        names["convert_points"](source, tmp_path / "other", strict=True)
