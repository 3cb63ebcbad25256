"""What a conversion's report looks like for people."""

from __future__ import annotations

from pathlib import Path

import pytest

from ctnet.convert.command import print_report
from ctnet.convert.report import ConvertReport, SplitReport
from ctnet.data.problems import Problem

PROBLEMS = tuple(Problem("box without area", f"a.txt:{number}", "0 0 0 0") for number in range(1, 26))
REPORT = ConvertReport(Path("out"), (SplitReport("train", 3, {"cat": 4, "dog": 5}),), PROBLEMS, ("a note",))


def test_counts_problems_and_notes_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    print_report(REPORT, as_json=False)
    shown = capsys.readouterr()
    assert "train       3        9" in shown.out
    assert "2 categories: cat, dog" in shown.out
    assert shown.out.endswith("\n3 images and 9 objects written to out\n")
    assert "25 bad records, skipped unless stated otherwise:\n  a.txt:1: box without area" in shown.err
    assert shown.err.endswith("  ... and 5 more; --json lists them all\nnote: a note\n")


def test_each_category_may_have_a_column(capsys: pytest.CaptureFixture[str]) -> None:
    print_report(REPORT, as_json=False, by_category=True)
    shown = capsys.readouterr().out
    assert "split  images  cat  dog" in shown
    assert "categories:" not in shown
