"""The layout of docstrings: each entry of a section is one indented item, which names what it is."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("ctnet", "ctnet_tasks_ddd", "ctnet_tasks_pose", "plugins", "benchmarks", "tests")
FILES = [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]

SECTION = re.compile(r"(Args|Attributes|Raises):$")
ITEM = re.compile(r"\*{0,2}[\w.]+(, \*{0,2}[\w.]+)*( \([^)]*\))?:( |$)")
VAGUE = re.compile(r"\w+: of ")  # "name: of the file" leaves out the noun


def lines_of_sections(docstring: str) -> Iterator[tuple[int, str]]:
    """(indentation within the section, text) of the lines under ``Args:`` and the like."""
    section = None
    for line in docstring.expandtabs().splitlines():
        text = line.strip()
        indentation = len(line) - len(line.lstrip())
        if SECTION.match(text):
            section = indentation
        elif text and section is not None:
            if indentation <= section:
                section = None
            else:
                yield indentation - section, text


def mistakes(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            for indentation, text in lines_of_sections(ast.get_docstring(node) or ""):
                if indentation == 4 and not ITEM.match(text):
                    yield f"indent this line, it continues the one above: {text}"
                elif indentation == 4 and VAGUE.match(text):
                    yield f"say what it is: {text}"
                elif indentation not in (4, 8):
                    yield f"indent by 4 or 8: {text}"


def test_sections_are_laid_out() -> None:
    found = [
        f"{path.relative_to(ROOT)}: {text}" for path in FILES for text in mistakes(path.read_text("utf-8"))
    ]
    assert not found, "\n".join(found)
    assert len(FILES) > 400


@pytest.mark.parametrize(
    ("lines", "mistake"),
    [
        (["one: a long text", "that goes on."], "indent this line"),
        (["name: of the file."], "say what it is"),
        (["one: a long text", "      that goes on."], "indent by 4 or 8"),
    ],
)
def test_mistakes_are_found(lines: list[str], mistake: str) -> None:
    indented = "\n".join(" " * 8 + line for line in lines)
    source = f'def function():\n    """Do it.\n\n    Args:\n{indented}\n    """\n'
    (found,) = mistakes(source)
    assert found.startswith(mistake)
