from __future__ import annotations

import io
import json
import os
import sys

import pytest

from ctnet.base.output import (
    clock,
    counted,
    fitting,
    print_json,
    print_line,
    print_note,
    print_table,
    printable,
    width_of,
    wrapped,
)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("straße 日本 \U0001f600", "straße 日本 \U0001f600"),
        ("a\x1b[2J\x07", r"a\x1b[2J\x07"),
        ("one\nerror: two\r", r"one\nerror: two\r"),
        ("\x85\u2028", r"\x85\u2028"),
        ("gpj.\u202eexe", r"gpj.\u202eexe"),
        (os.fsdecode(b"caf\xe9"), r"caf\xe9"),
        ("\ud800", r"\ud800"),
    ],
)
def test_names_do_nothing_to_a_terminal(capsys, text: str, shown: str) -> None:
    assert printable(text) == shown
    print_line(f"\n{text}")
    print_table(("name",), [(text,)])
    print_note(text)
    captured = capsys.readouterr()
    lines = captured.out.splitlines()
    assert lines[:2] == ["", shown]
    assert lines[-1] == shown
    assert captured.err == f"{shown}\n"


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_json_fits_what_it_is_printed_to(monkeypatch, encoding: str) -> None:
    value = {"name": os.fsdecode(b"caf\xe9"), "other": "é"}
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding))
    print_json(value)
    sys.stdout.flush()
    assert json.loads(raw.getvalue().decode(encoding)) == value


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_only_a_terminal_has_a_width(monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "66")
    assert width_of(io.StringIO()) is None
    assert width_of(Terminal()) == 66
    monkeypatch.delenv("COLUMNS")
    assert width_of(Terminal()) is None  # it does not say


def test_lines_are_wrapped_at_words_and_commands_stay_whole(monkeypatch, capsys) -> None:
    text = "stopped after step 12; continue with `ctnet train --resume runs/ctdet-resfpn18-1`, please"
    lines = wrapped(text, 60).splitlines()
    assert lines == [
        "stopped after step 12; continue with",
        "  `ctnet train --resume runs/ctdet-resfpn18-1`, please",
    ]
    assert wrapped(text, None) == text
    assert wrapped("short", 60) == "short"
    assert wrapped(f"see {'x' * 70}", 60) == f"see\n  {'x' * 70}"
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setattr(sys, "stderr", Terminal())
    print_note(text)
    assert sys.stderr.getvalue().splitlines() == lines
    print_line(text)  # into a file
    assert capsys.readouterr().out == f"{text}\n"


def test_what_does_not_fit_is_left_out() -> None:
    parts = ["0:00:10 left", "3.5 images/s", "loss 1.25", "x"]
    assert fitting(parts, None) == "0:00:10 left  3.5 images/s  loss 1.25  x"
    assert fitting(parts, 26) == "0:00:10 left  3.5 images/s"
    assert fitting(parts, 36) == "0:00:10 left  3.5 images/s"  # in order of importance
    assert fitting(parts, 37) == "0:00:10 left  3.5 images/s  loss 1.25"
    assert fitting(parts, 5) == "0:00:"


def test_numbers_in_words() -> None:
    assert [counted(number, "image") for number in (0, 1, 2)] == ["0 images", "1 image", "2 images"]
    assert clock(3723.9) == "1:02:03"
