"""What the commands that measure a subject print alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ctnet.base.output import print_line, print_note

if TYPE_CHECKING:
    from ctnet.analysis.subject import Subject
    from ctnet.data.dataset import Dataset
    from ctnet.data.problems import Problem

#: The overall figures that fit beside each other.
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
    """Say what was measured on what."""
    print_line(f"{subject.source} on {len(subject.dataset)} images of {subject.dataset.coco.path}")


def warn(problems: Sequence[Problem], dataset: Dataset) -> None:
    """Say which records are left out, and what else is odd about the data."""
    from ctnet.data.problems import summarize

    for line in [*summarize(problems), *dataset.warnings]:
        print_note(f"warning: {line}")


def some_names(names: Sequence[str]) -> str:
    """The first few, separated by commas."""
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")


def overall(metrics: Mapping[str, float], most: int = MOST_FIGURES) -> list[str]:
    """Names of the first figures that are not of one class."""
    return [name for name in metrics if "/" not in name][:most]


def figure(metrics: Mapping[str, float], name: str) -> str:
    """A figure, or nothing where there is none."""
    return f"{metrics[name]:.3f}" if name in metrics else ""
