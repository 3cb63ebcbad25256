"""What a conversion did: counts per split, the records it left out, and notes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ctnet.data.problems import Problem


@dataclass(frozen=True)
class SplitReport:
    """What one split came to.

    Attributes:
        name: as in the name of its annotation file.
        images: number of images written.
        objects: number of annotated objects written (crowds aside), by category name.
    """

    name: str
    images: int
    objects: dict[str, int]


@dataclass(frozen=True)
class ConvertReport:
    """What a conversion did.

    Attributes:
        target: the folder that was written.
        splits: counts of each split; an image in several splits counts in each.
        problems: the records left out, each once.
        notes: what else the user should know, one line each.
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
        kind: what is wrong, in words that many records share.
        what: the offending value.
    """

    def __init__(self, kind: str, what: str) -> None:
        super().__init__(f"{kind} ({what})")
        self.kind = kind
        self.what = what

    def at(self, where: str) -> Problem:
        """The problem to list, now that the place is known."""
        return Problem(self.kind, where, self.what)
