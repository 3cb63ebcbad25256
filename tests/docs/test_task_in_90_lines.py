"""The page about the circle task shows all of its file, and nothing else."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "plugins" / "task-in-90-lines.md"
FILE = ROOT / "tests" / "testing" / "circles.py"
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text("utf-8"), re.DOTALL | re.MULTILINE)


def shown(block: str) -> str | None:
    """The block as in the file: at the margin, or as a method; None if the file has neither."""
    ways = (block, textwrap.indent(block, "    "))
    return next((each for each in ways if each in FILE.read_text("utf-8")), None)


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.split("(")[0].split(":")[0].strip())
def test_a_block_is_the_files_code(block: str) -> None:
    assert shown(block), "the file has changed: copy it into the page"


def test_the_page_shows_the_whole_file() -> None:
    left = FILE.read_text("utf-8").partition("\n")[2]  # its docstring is not shown
    for block in BLOCKS:
        left = left.replace(shown(block) or "", "")
    assert left.strip() == ""


def test_the_task_without_its_evaluator_has_90_lines() -> None:
    counts = [
        len(block.splitlines())
        for block in BLOCKS
        if not block.startswith(("def circle_iou", "class CircleEvaluator"))
    ]
    assert sum(counts) <= 90
