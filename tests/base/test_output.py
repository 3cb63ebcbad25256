from __future__ import annotations

import io
import json
import os
import sys

import pytest

from ctnet.base.output import print_json, print_line, print_table, printable


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
    lines = capsys.readouterr().err.splitlines()
    assert lines[:2] == ["", shown]
    assert lines[-1] == shown


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_json_fits_what_it_is_printed_to(monkeypatch, encoding: str) -> None:
    value = {"name": os.fsdecode(b"caf\xe9"), "other": "é"}
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding))
    print_json(value)
    sys.stdout.flush()
    assert json.loads(raw.getvalue().decode(encoding)) == value
