"""Common to the readers of other formats."""

from __future__ import annotations

from pathlib import Path

import pytest

from ctnet.convert.report import BadRecord
from ctnet.convert.sources import (
    checked_number,
    finite_number,
    image_files,
    listed_names,
    numbered_lines,
    read_each,
    readable_size,
)
from ctnet.data.problems import Problem


def test_images_are_found_below_a_folder_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    for name in ("b.PNG", "a.txt", "deep/c.jpg"):
        (tmp_path / name).touch()
    (tmp_path / "folder.jpg").mkdir()
    assert image_files(tmp_path) == [tmp_path / "b.PNG", tmp_path / "deep" / "c.jpg"]
    assert image_files(tmp_path / "nowhere") == []


def test_an_unreadable_image_is_a_bad_record(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("no image")
    with pytest.raises(BadRecord, match="image that cannot be read"):
        readable_size(tmp_path / "a.png")


def test_lines_are_numbered_from_one_and_blank_ones_left_out() -> None:
    assert list(numbered_lines(["one", " ", "three"], "a.txt")) == [("a.txt:1", "one"), ("a.txt:3", "three")]


def test_names_of_a_list_that_come_again_are_problems(tmp_path: Path) -> None:
    path = tmp_path / "val.txt"
    path.write_text("b\n\na \nb\nold\n")
    problems: list[Problem] = []
    assert list(listed_names(path, problems, "frame", known={"old": None})) == ["b", "a"]
    assert [str(problem) for problem in problems] == [
        f"{path}:4: frame listed twice (b)",
        f"{path}:5: frame listed twice (old)",
    ]


def test_bad_records_are_listed_and_the_others_read() -> None:
    problems = [Problem("earlier", "x", "y")]
    found = read_each(
        [("a:1", "1"), ("a:2", "one"), ("a:3", "3")], lambda text: checked_number(text, "no number"), problems
    )
    assert list(found) == [1, 3]
    assert [str(problem) for problem in problems] == ["x: earlier (y)", "a:2: no number ('one')"]


@pytest.mark.parametrize(
    ("text", "value"), [("1.5", 1.5), ("-2", -2), ("nan", None), ("inf", None), ("", None), ("1,5", None)]
)
def test_finite_numbers(text: str, value: float | None) -> None:
    assert finite_number(text) == value


def test_a_number_that_is_none_tells_what_it_is() -> None:
    with pytest.raises(BadRecord, match=r"z that is not a number \(it is 'far'\)"):
        checked_number("far", "z that is not a number", "it is 'far'")
