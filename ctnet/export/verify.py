"""Comparing an exported file's maps and detections with those of its detector."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from ctnet.checkpoint.exported import Exported
from ctnet.core.fields import differences
from ctnet.core.records import Detections
from ctnet.core.task import Task

#: Number of matched detections below which a comparison proves nothing.
FEWEST = 50


@dataclass(frozen=True)
class Bounds:
    """Largest differences allowed between file and detector.

    Attributes:
        maps: largest difference of a map, relative to its largest value.
        boxes: largest difference of a box coordinate, pixels of the image.
        scores: largest difference of a score.
        unmatched: largest share of detections that only one of the two may have.
    """

    maps: float = 1e-4
    boxes: float = 0.01
    scores: float = 1e-5
    unmatched: float = 0.0


def bounds_of(exported: Exported) -> Bounds:
    """How far an exported file may differ from its detector.

    float16 is accurate to a thousandth of each number. 8-bit convolutions guarantee nothing for a single
    image: only metrics on data with ground truth show how good they are.
    """
    if exported.int8:
        return Bounds(maps=math.inf, boxes=math.inf, scores=math.inf, unmatched=math.inf)
    if exported.half:
        # Of two neighbouring cells of almost equal height either may be the peak.
        return Bounds(maps=2e-2, boxes=1.0, scores=2e-2, unmatched=0.05)
    # A resized pixel halfway between two grey levels may be rounded either way.
    return Bounds(maps=1e-2, boxes=0.1, scores=1e-3) if exported.letterbox else Bounds()


@dataclass
class Verification:
    """The result of comparing file and detector.

    Attributes:
        runtime: name of the runtime that ran the file.
        images: number of images compared.
        matched: number of detections of the two that were matched one to one.
        unmatched: number of detections above the score that only one of the two has.
        maps: largest difference per map, relative to its largest value.
        fields: largest difference per column.
        bounds: the largest differences allowed.
        score: detections above this score were compared.
        topk: largest number of detections per image.
        pixels: for a file that resizes images, the largest difference from ctnet's own resizing, grey levels.
        figures: metrics before and after, by name, where there was ground truth.
    """

    runtime: str
    score: float
    topk: int
    bounds: Bounds
    images: int = 0
    matched: int = 0
    unmatched: int = 0
    maps: dict[str, float] = field(default_factory=dict)
    fields: dict[str, float] = field(default_factory=dict)
    pixels: int = 0
    figures: dict[str, tuple[float, float]] = field(default_factory=dict)

    def take_maps(self, name: str, expected: np.ndarray, got: np.ndarray) -> None:
        """Compare one map."""
        scale = max(float(np.abs(expected).max(initial=0)), 1e-12)
        gap = float(np.abs(expected.astype(np.float64) - got).max(initial=0)) / scale
        self.maps[name] = max(self.maps.get(name, 0.0), gap)

    def take_resized(self, expected: np.ndarray, got: np.ndarray) -> None:
        """Compare one image resized in two ways, uint8."""
        gap = np.abs(expected.astype(np.int16) - got).max(initial=0)
        self.pixels = max(self.pixels, int(gap))

    def take(self, task: Task, expected: Detections, got: Detections) -> None:
        """Match the detections of one image: same label, nearest box, each used once.

        A detection whose score equals the limit (within the bound) may be present or absent.
        """
        self.images += 1
        # Where there are more than topk, the last may be swapped for others with the same score.
        last = expected.scores.min() if len(expected) >= self.topk else 0
        limit = max(self.score, float(last))
        margin = min(self.bounds.scores, _MARGIN)
        low, high = limit - margin, limit + margin
        one, other = expected.above(low), got.above(low)
        pairs = _pairs(one, other)
        rows, columns = (
            np.array(side, np.int64) for side in (zip(*pairs, strict=True) if pairs else ((), ()))
        )
        self.matched += len(pairs)
        for record, used in ((one, rows), (other, columns)):
            left = np.ones(len(record), bool)
            left[used] = False
            self.unmatched += int((np.asarray(record.scores)[left] > high).sum())
        gaps = differences(task.fields, one[rows], other[columns])
        gaps["scores"] = np.abs(np.asarray(one.scores, np.float64)[rows] - np.asarray(other.scores)[columns])
        for name, gap in gaps.items():
            self.fields[name] = max(self.fields.get(name, 0.0), float(gap.max(initial=0)))

    @property
    def proves(self) -> bool:
        """Whether enough detections were matched for a verdict."""
        return self.matched >= FEWEST

    def failures(self) -> list[str]:
        """One phrase for each difference beyond the bounds."""
        found = [
            f"map {name} differs by {gap:.1e} of its largest value (at most {self.bounds.maps:g})"
            for name, gap in self.maps.items()
            if not gap <= self.bounds.maps
        ]
        limits = {"boxes": (self.bounds.boxes, " px"), "scores": (self.bounds.scores, "")}
        for name, (limit, unit) in limits.items():
            gap = self.fields.get(name, 0.0)
            if not gap <= limit:
                found.append(f"{name} differ by {gap:.1e}{unit} (at most {limit:g})")
        if self.unmatched > self.bounds.unmatched * max(1, self.matched):
            found.append(f"{self.unmatched} detections above {self.score:g} have no partner")
        return found

    def to_json(self) -> dict[str, Any]:
        """The form stored in the file."""
        bounds = {name: None if math.isinf(bound) else bound for name, bound in asdict(self.bounds).items()}
        return {**asdict(self), "bounds": bounds, "proves": self.proves}


def _pairs(one: Detections, other: Detections) -> list[tuple[int, int]]:
    """Matching rows: nearest boxes with the same label, nearest pair first; see ``_REACH``."""
    if not len(one) or not len(other):
        return []
    gaps = np.abs(np.asarray(one.boxes, np.float64)[:, None] - np.asarray(other.boxes)[None]).max(axis=2)
    gaps += np.abs(np.asarray(one.scores, np.float64)[:, None] - np.asarray(other.scores)[None])
    gaps[np.asarray(one.labels)[:, None] != np.asarray(other.labels)[None]] = np.inf
    pairs, taken = [], (set[int](), set[int]())
    for position in np.argsort(gaps, axis=None, kind="stable"):
        row, column = (int(index) for index in np.unravel_index(position, gaps.shape))
        if gaps[row, column] > _REACH:
            break
        if row not in taken[0] and column not in taken[1]:
            pairs.append((row, column))
            taken[0].add(row)
            taken[1].add(column)
    return pairs


#: Detections this close to the limit may be missing, even where no bound is set.
_MARGIN = 0.05
#: Boxes further apart than this, pixels, are different detections.
_REACH = 2.0
