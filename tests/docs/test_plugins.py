"""The generated pages are up to date, and the hand-written one speaks of what exists."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

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
    ]
    for group in groups:
        assert f'GROUP = "{group}"' in sources or f'plugin_group("{group}")' in sources
