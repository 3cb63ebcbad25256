"""The data page lists the kinds of records that ``data check`` counts."""

from __future__ import annotations

import re
from pathlib import Path

from ctnet.data.check import PROBLEMS, WARNINGS

PAGE = (Path(__file__).parents[2] / "docs" / "data.md").read_text("utf-8")


def test_the_table_of_data_check_is_that_of_the_code() -> None:
    shown = PAGE.partition("$ ctnet data check data/bccd\n")[2].partition("no bad records\n")[0]
    rows = re.findall(r"^ {6}(\S.*?)  +0", shown, re.MULTILINE)
    overlapping = "two boxes of one category with IoU over 0.8"
    kinds = [kind for kind in (*PROBLEMS, *WARNINGS) if kind != overlapping]
    assert rows == kinds
    assert overlapping in shown
