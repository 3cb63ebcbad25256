"""The report of a conversion: counts per split, skipped records, and notes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ctnet.data.problems import Problem


@dataclass(frozen=True)
class SplitReport:
    """The counts of one split.

    Attributes:
        name: as in the name of its annotation file.
        images: number of images written.
        objects: number of annotated objects written (without crowd regions), by category name.
    """

    name: str
    images: int
    objects: dict[str, int]


@dataclass(frozen=True)
class ConvertReport:
    """The report of a conversion.

    Attributes:
        target: the folder that was written.
        splits: counts of each split; an image in several splits counts in each.
        problems: the skipped records, each once.
        notes: anything else that the user should know, one line each.
    """

    target: Path
    splits: tuple[SplitReport, ...]
    problems: tuple[Problem, ...]
    notes: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON values."""
        return {
            "target": str(self.target),
            "splits": [
                {
                    "name": split.name,
                    "images": split.images,
                    "objects": sum(split.objects.values()),
                    "objects_by_category": split.objects,
                }
                for split in self.splits
            ],
            "problems": [{"kind": p.kind, "where": p.where, "what": p.what} for p in self.problems],
            "notes": list(self.notes),
        }


class BadRecord(Exception):
    """A record that cannot be converted.

    Args:
        kind: the kind of error, shared by many records.
        what: the offending value.
    """

    def __init__(self, kind: str, what: str) -> None:
        super().__init__(f"{kind} ({what})")
        self.kind = kind
        self.what = what

    def at(self, where: str) -> Problem:
        """The problem to list, with the place of the record."""
        return Problem(self.kind, where, self.what)
