"""Shared output of the commands that evaluate a subject."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ctnet.base.output import print_line, print_note

if TYPE_CHECKING:
    from ctnet.analysis.subject import Subject
    from ctnet.data.dataset import Dataset
    from ctnet.data.problems import Problem

#: The number of overall metrics that fit next to each other.
MOST_FIGURES = 6


def about(subject: Subject, problems: Sequence[Problem]) -> dict[str, Any]:
    """The head of the JSON document."""
    return {
        subject.kind: str(subject.source),
        "data": str(subject.dataset.coco.path),
        "images": len(subject.dataset),
        "skipped": len(problems),
    }


def print_about(subject: Subject) -> None:
    """Print the subject and its data."""
    print_line(f"{subject.source} on {len(subject.dataset)} images of {subject.dataset.coco.path}")


def warn(problems: Sequence[Problem], dataset: Dataset) -> None:
    """Print the records that are left out, and other warnings about the data."""
    from ctnet.data.problems import summarize

    for line in [*summarize(problems), *dataset.warnings]:
        print_note(f"warning: {line}")


def some_names(names: Sequence[str]) -> str:
    """The first few, separated by commas."""
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")


def overall(metrics: Mapping[str, float], most: int = MOST_FIGURES) -> list[str]:
    """Names of the first metrics that are not of a single class."""
    return [name for name in metrics if "/" not in name][:most]


def figure(metrics: Mapping[str, float], name: str) -> str:
    """A metric as text; empty if there is none."""
    return f"{metrics[name]:.3f}" if name in metrics else ""
