"""Every command block of README and docs is run, or marked with what it needs; every command line parses.

A block is marked by a comment above it, which no page shows:

    <!-- needs: minutes, network -->

Blocks without one are run here, in a folder that has what the pages name (``mydata``, ``RUN``, ``photos``, ...),
made of synthetic scenes and one tiny run. Trainings are shortened to an epoch of a network of two convolutions.
"""

from __future__ import annotations

import ast
import re
import shlex
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import pytest
import typer

from ctnet.cli import app
from ctnet.core.task import load_task_class

ROOT = Path(__file__).parents[2]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "plugins").glob("*/README.md")),
]
#: What a marked block may need.
NEEDS = {
    "network": "downloads something",
    "minutes": "trains or measures for minutes",
    "data": "reads a data set that is not in the repository",
    "release": "reads a checkpoint of the authors' release",
    "plugin": "needs an installed plugin",
    "processes": "starts several processes",
    "hardware": "needs a camera, a stream or a GPU",
    "environment": "changes the Python environment, or works on a checkout of the repository",
    "damaged files": "shows what ctnet says about files that are damaged in a particular way",
    "extras": "needs an extra of ctnet-toolkit",
}
#: Pages whose Python is run by a test of their own.
PYTHON_ELSEWHERE = {
    "docs/python.md": "tests/docs/test_python.py",
    "docs/plugins/conventions.md": "tests/docs/test_plugins.py",
    "docs/plugins/task-in-90-lines.md": "tests/docs/test_task_in_90_lines.py",
    "docs/plugins/tutorial.md": "tests/docs/test_tutorial.py",
}
PROGRAMS = ("ctnet", "python", "pip", "torchrun", "git", "pytest", "ruff", "mypy", "npm", "node", "zensical", "srun")
SHELLS = ("", "sh", "bash", "console")
MARK = re.compile(r"<!-- needs: ([\w ,]+) -->")
OPTIONAL = re.compile(r" \[[^\]]*\]")


class Block(NamedTuple):
    """A block of commands.

    Attributes:
        page: relative to the repository.
        line: of its first line.
        language: shell or python.
        lines: without indentation.
        needs: from its mark; empty: it is run.
    """

    page: str
    line: int
    language: str
    lines: tuple[str, ...]
    needs: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def commands(self) -> list[str]:
        """Its command lines, continued lines joined."""
        lines = iter(self.lines)
        prompted = any(line.startswith("$ ") for line in self.lines)
        found = []
        for line in lines:
            if line.startswith("$ ") if prompted else is_command(line):
                while line.endswith("\\"):
                    line = line[:-1] + next(lines).strip()
                found.append(line.removeprefix("$ "))
        return found


def is_command(line: str) -> bool:
    words = [word for word in line.split() if not re.fullmatch(r"[A-Z_]+=\S*", word)]
    return bool(words) and (words[0] in PROGRAMS or words[0] == ".ci/run")


def blocks_of(page: str, text: str) -> Iterator[Block]:
    """The command blocks of a page: fenced, or indented by four spaces after an empty line."""
    lines = text.split("\n")
    mark, number = "", 0
    while number < len(lines):
        start, line = number, lines[number]
        number += 1
        fence = re.fullmatch(r"```(\w*)", line)
        indented = line.startswith("    ") and (start == 0 or not lines[start - 1].strip())
        if fence:
            number = lines.index("```", number) + 1
            inside = lines[start + 1 : number - 1]
        elif indented:
            while number < len(lines) and (lines[number].startswith("    ") or not lines[number].strip()):
                number += 1
            inside = [each[4:] for each in lines[start:number]]
        else:
            mark = line if line.strip() else mark
            continue
        language = language_of(inside, fence[1] if fence else "")
        if language:
            found = MARK.fullmatch(mark.strip())
            needs = tuple(word.strip() for word in found[1].split(",")) if found else ()
            yield Block(page, start + 1 + bool(fence), language, tuple(inside), needs)
        mark = ""


def language_of(lines: Sequence[str], stated: str) -> str | None:
    """shell, python, or None for blocks that are neither."""
    if stated in ("python", "pycon"):
        return "python"
    if stated not in SHELLS or not lines:
        return None
    if any(line.startswith("$ ") or is_command(line) for line in lines):
        return "shell"
    if re.match(r"(import|from) \w", lines[0]):
        return "python"
    return None


BLOCKS = [
    block
    for path in PAGES
    if not path.read_text("utf-8").startswith("<!-- Written by")  # generated pages show signatures
    for block in blocks_of(path.relative_to(ROOT).as_posix(), path.read_text("utf-8"))
]
COMMANDS = [(block, command) for block in BLOCKS if block.language == "shell" for command in block.commands]


def calls(command: str) -> list[list[str]]:
    """The arguments of every call of ctnet in a command line."""
    found = []
    for part in re.split(r" && | \| ", command):
        words = shlex.split(part, comments=True)
        if "ctnet" in words and is_command(part) and words[0] not in ("git", "pip"):
            found.append(words[words.index("ctnet") + 1 :])
    return found


def complete(command: str) -> str:
    """A line with all that is optional in it, and the first of each alternative."""
    return re.sub(r"(?<=[A-Z])\|[A-Z]+", "", re.sub(r" \[([^\]]*)\]", r" \1", command)).replace("...", "")


def minimal(command: str) -> str:
    """A line without all that is optional in it."""
    return OPTIONAL.sub("", command).replace("...", "")


def parse(arguments: list[str]) -> None:
    """Parse a command line without running it; names, types and choices of all options are checked."""
    command: Any = typer.main.get_command(app)
    context = command.make_context("ctnet", [], resilient_parsing=True)
    rest = list(arguments)
    while hasattr(command, "list_commands") and rest:
        name = rest.pop(0)
        command = command.get_command(context, name)
        if command is None:
            raise ValueError(f"there is no command {name}")
        if not hasattr(command, "list_commands"):
            command.make_context(name, rest, parent=context)
            continue
        context = command.make_context(name, [], parent=context, resilient_parsing=True)
        if name == "backbones" and rest[:1] not in (["list"], ["check"]):
            rest.insert(0, "list")  # its short form


def plugins_of(arguments: list[str]) -> bool:
    """Whether a call uses a plugin of the folder plugins, which need not be installed."""
    return arguments[:2] == ["convert", "dota"]


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.language == "shell"], ids=str)
def test_every_command_line_parses(block: Block) -> None:
    assert block.commands
    for command in block.commands:
        for line in {complete(command), minimal(command)}:
            for arguments in calls(line):
                if not plugins_of(arguments):
                    parse(arguments)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("train ctdet --epoch 3", "No such option"),
        ("train ctdet --epochs many", "many"),
        ("eval --nms medium", "medium"),
        ("data chek mydata", "no command chek"),
        ("convert voc", "Missing argument"),
    ],
)
def test_what_is_wrong_does_not_parse(line: str, message: str) -> None:
    with pytest.raises(Exception, match=message):
        parse(line.split())


def test_marks_are_of_the_known_kinds_and_above_a_block() -> None:
    for block in BLOCKS:
        assert set(block.needs) <= set(NEEDS), f"{block}: {block.needs}"
    marks = sum(path.read_text("utf-8").count("<!-- needs: ") for path in PAGES)
    assert marks == sum(bool(block.needs) for block in BLOCKS)


def test_what_is_not_marked_can_be_run_here() -> None:
    for block in BLOCKS:
        if block.language == "shell" and not block.needs:
            for command in block.commands:
                assert calls(command), f"{block}: mark it with what it needs: {command}"


def test_blocks_are_found() -> None:
    """Also counts them: pytest -s shows the figures."""
    text = "text\n\n    $ ctnet eval\n    an output\n\n<!-- needs: minutes -->\n\n```\npython a.py\n```\n\n- a list\n"
    first, second = blocks_of("page.md", text)
    assert (first.line, first.language, first.commands, first.needs) == (3, "shell", ["ctnet eval"], ())
    assert (second.line, second.commands, second.needs) == (9, ["python a.py"], ("minutes",))
    assert complete("ctnet eval [RUN|FILE] [--split S]") == "ctnet eval RUN --split S"
    assert minimal("ctnet eval [RUN|FILE] A... [--split S]") == "ctnet eval A"
    assert calls("A=1 torchrun -m ctnet eval x && pip install ctnet  # y") == [["eval", "x"]]
    count = Counter("marked" if each.needs else how_run(each) for each in BLOCKS)
    print("command blocks:", dict(count), "in all", len(BLOCKS), "command lines:", len(COMMANDS))
    assert count["run here"] > 50


def how_run(block: Block) -> str:
    python = block.language == "python"
    return "run by another test" if python and block.page in PYTHON_ELSEWHERE else "run here"


@pytest.mark.parametrize("page", PYTHON_ELSEWHERE)
def test_another_test_runs_the_python_of_a_page(page: str) -> None:
    assert any(block.page == page and block.language == "python" for block in BLOCKS)
    assert Path(page).name in (ROOT / PYTHON_ELSEWHERE[page]).read_text("utf-8")
