"""Shared arguments, options and texts of the studies of annotations."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ctnet.base.output import print_line, print_note

if TYPE_CHECKING:
    from ctnet.data.dataset import Dataset

Directory = Annotated[
    Path, typer.Argument(help="A data directory: `annotations/<prefix>_<split>.json` and images.")
]
Split = Annotated[str, typer.Option(help="Which split.")]
Category = Annotated[list[str] | None, typer.Option(help="Only this category (repeatable).")]

#: Rows of the longer tables.
FIRST = 10


def print_rest(number: int, what: str) -> None:
    """Say that a table was truncated."""
    if number > FIRST:
        print_line(f"and {number - FIRST} more {what}; --json lists all")


def print_skipped(dataset: Dataset) -> None:
    """Print how many records are left out."""
    if problems := dataset.problems:
        print_note(f"{len(problems)} bad records are not counted; ctnet data check names them")


def percent(part: int, whole: int) -> float:
    """``part`` as a percentage of ``whole``; 0 if that is 0."""
    return 100 * part / max(whole, 1)
