"""What train, eval and predict show on terminals of 60, 80 and 120 columns, and write to pipes.

The texts are in ``screens/``. Numbers with decimals and times are replaced by zeros there; the progress lines
of a training, which a terminal shows and erases again, are marked with ``>``. If an output changes on
purpose, write them again and read the diff:

    CTNET_WRITE_SCREENS=1 pytest tests/cli/test_screens.py
"""

from __future__ import annotations

import itertools
import os
import re
import sys
from contextlib import redirect_stderr, redirect_stdout, suppress
from io import StringIO
from pathlib import Path
from types import SimpleNamespace

import pytest
import rich.live
import rich.progress  # before its Live is replaced below
from rich.text import Text

from ctnet.base import progress
from ctnet.cli import main
from ctnet.inference import timing
from ctnet.training import display

SCREENS = Path(__file__).parent / "screens"

TRAIN = "train ctdet --data data --size 64 --batch-size 1 --epochs 1 --workers 0 --device cpu -o run"
COMMANDS = {
    "train": TRAIN,
    "eval": "eval trained --data data --device cpu --workers 0",
    "predict": "predict trained data/val bad.jpg -o out --score 0 --topk 3 --device cpu",
    "nothing-found": "predict trained data/val -o out --score 0.9 --device cpu",
}


class Terminal(StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def folder(ctnet, run_folder: Path, scenes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with a data set, a run and a broken picture, and a clock that ticks the same every time."""
    Path("data").symlink_to(scenes)
    Path("trained").symlink_to(run_folder)
    Path("bad.jpg").write_bytes(b"no image")
    for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    ticks = itertools.count(100, 0.25)
    clock = SimpleNamespace(monotonic=lambda: next(ticks))
    monkeypatch.setattr(display, "time", clock)
    monkeypatch.setattr(progress, "_QUIET_SECONDS", 1e6)  # a slow machine shows no bar either
    monkeypatch.setattr(timing.StageTimes, "milliseconds", lambda self: dict.fromkeys(timing.STAGES, 10.0))
    monkeypatch.setattr(timing.StageTimes, "images_per_second", 10.0)


@pytest.fixture
def passing(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The progress lines that were shown and erased."""
    lines: list[str] = []

    class Recorded:
        def __init__(self, **_: object) -> None: ...
        def start(self) -> None: ...
        def stop(self) -> None: ...
        def update(self, line: Text) -> None:
            lines.append(line.plain)

    monkeypatch.setattr(rich.live, "Live", Recorded)
    return lines


def run(arguments: str, out: StringIO, err: StringIO) -> None:
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr(sys, "argv", ["ctnet", *arguments.split()])
        with suppress(SystemExit):
            main()


def normal(text: str) -> str:
    """With zeros for what varies with machine and day; in tables they are as wide as the numbers were."""
    return "".join(zeros(line, wide="│" in line) for line in plain(text).splitlines(keepends=True))


def plain(text: str) -> str:
    """Without the codes for bold text."""
    return re.sub("\x1b\\[[0-9;]*m", "", text)


def zeros(line: str, wide: bool) -> str:
    if wide:
        return re.sub(r"\d+\.\d+", lambda match: re.sub(r"\d", "0", match[0]), line)
    for pattern, zero in ((r"\d+\.\d+(e[+-]\d+)?", "0.0"), (r"\d+:\d\d:\d\d", "0:00:00"), (r"\d+ %", "0 %")):
        line = re.sub(pattern, zero, line)
    return line


def compare(name: str, text: str) -> None:
    path = SCREENS / f"{name}.txt"
    if os.environ.get("CTNET_WRITE_SCREENS"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8"), "see the top of this file for how to write it again"


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("columns", [60, 80, 120])
@pytest.mark.parametrize("command", COMMANDS)
def test_on_a_terminal(monkeypatch, tiny: str, passing: list[str], command: str, columns: int) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    screen = Terminal()
    extra = f" --backbone {tiny}" if command == "train" else ""
    run(COMMANDS[command] + extra, screen, screen)
    text = normal(screen.getvalue())
    lines = [f"> {normal(line)}\n" for line in passing[-2:]]  # the last of the epoch, and its evaluation
    assert all(len(line) <= columns for line in [*passing, *plain(screen.getvalue()).splitlines()])
    compare(f"{command}-{columns}", "".join([f"$ ctnet {COMMANDS[command]}\n", *lines, text]))


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("command", COMMANDS)
def test_into_pipes(tiny: str, command: str) -> None:
    out, err = StringIO(), StringIO()
    extra = f" --backbone {tiny}" if command == "train" else ""
    run(COMMANDS[command] + extra, out, err)
    text = normal(f"--- out\n{out.getvalue()}--- err\n{err.getvalue()}")
    compare(f"{command}-piped", f"$ ctnet {COMMANDS[command]} >out 2>err\n{text}")
