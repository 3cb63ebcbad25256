"""The metrics of tracking, from frames of identities and how much their boxes overlap."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment  # type: ignore[import-untyped,unused-ignore]

#: Overlaps at which HOTA is averaged.
ALPHAS = np.arange(0.05, 0.99, 0.05)
#: Overlap from which a detection is right, for MOTA and IDF1.
THRESHOLD = 0.5
_EPS = float(np.finfo(float).eps)


@dataclass(frozen=True)
class Frame:
    """One frame of a video, of one class.

    Attributes:
        truth: (N,) int64, identities of the annotated objects, each once.
        found: (M,) int64, identities of the detections, each once.
        overlap: (N, M) float64 in [0, 1].
    """

    truth: np.ndarray
    found: np.ndarray
    overlap: np.ndarray


@dataclass
class Counts:
    """What videos add up to; ``+`` joins those of several.

    Attributes:
        hits, misses, wrong: (alphas,), true positives, false negatives, false positives of HOTA.
        association: (alphas,), the sum over hits of how well their two tracks agree.
        matched: hits of MOTA.
        switches: hits of an object that had another identity before.
        objects, detections: how many there are.
        same: hits under the one assignment of identities that has most of them (IDTP).
    """

    hits: np.ndarray
    misses: np.ndarray
    wrong: np.ndarray
    association: np.ndarray
    matched: int = 0
    switches: int = 0
    objects: int = 0
    detections: int = 0
    same: int = 0

    @classmethod
    def none(cls) -> Counts:
        """Those of no video."""
        empty = np.zeros(len(ALPHAS))
        return cls(empty, empty.copy(), empty.copy(), empty.copy())

    def __add__(self, other: Counts) -> Counts:
        return Counts(**{name: value + vars(other)[name] for name, value in vars(self).items()})

    def figures(self) -> dict[str, float]:
        """HOTA with its two parts, MOTA, IDF1 and the number of identity switches.

        Source: Luiten et al., "HOTA", 2021; Bernardin and Stiefelhagen, "CLEAR MOT", 2008; Ristani et al.,
        "Performance Measures ... for Multi-Target, Multi-Camera Tracking", 2016.
        """
        detection = self.hits / np.maximum(1, self.hits + self.misses + self.wrong)
        association = self.association / np.maximum(1, self.hits)
        missed, extra = self.objects - self.matched, self.detections - self.matched
        both = self.objects + self.detections
        return {
            "HOTA": float(np.sqrt(detection * association).mean()),
            "DetA": float(detection.mean()),
            "AssA": float(association.mean()),
            "MOTA": 1 - (missed + extra + self.switches) / max(1, self.objects),
            "IDF1": 2 * self.same / max(1, both),
            "switches": float(self.switches),
        }


def counts_of(frames: Sequence[Frame]) -> Counts:
    """The counts of one video, of one class."""
    truth, found = _contiguous(frames)
    shape = (int(sum(len(one) for one in truth)), int(sum(len(one) for one in found)))
    counts = Counts.none()
    counts.objects, counts.detections = shape
    if not shape[0] or not shape[1]:
        counts.misses = counts.misses + shape[0]
        counts.wrong = counts.wrong + shape[1]
        return counts
    table = (1 + max(one.max() for one in truth if len(one)), 1 + max(one.max() for one in found if len(one)))
    overlaps = [frame.overlap for frame in frames]
    _count_hota(counts, truth, found, overlaps, table)
    _count_clear(counts, truth, found, overlaps, table[0])
    _count_identity(counts, truth, found, overlaps, table)
    return counts


def _contiguous(frames: Sequence[Frame]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The identities of all frames, numbered from 0."""
    numbered = []
    for name in ("truth", "found"):
        column = [np.asarray(getattr(frame, name), np.int64) for frame in frames]
        known = np.unique(np.concatenate([*column, np.zeros(0, np.int64)]))
        numbered.append([np.searchsorted(known, values) for values in column])
    return numbered[0], numbered[1]


def _count_hota(
    counts: Counts,
    truth: Sequence[np.ndarray],
    found: Sequence[np.ndarray],
    overlaps: Iterable[np.ndarray],
    table: tuple[int, int],
) -> None:
    """Hits, misses, false ones and the agreement of tracks, at every overlap of ``ALPHAS``.

    Objects and detections of a frame are matched by overlap, times how well their whole tracks agree.

    Source: Luiten et al. 2021, equations 8 to 14 and section 5.
    """
    overlaps = list(overlaps)
    together = np.zeros(table)
    of_truth, of_found = np.zeros((table[0], 1)), np.zeros((1, table[1]))
    for rows, columns, overlap in zip(truth, found, overlaps, strict=True):
        either = overlap.sum(axis=0)[None] + overlap.sum(axis=1)[:, None] - overlap
        share = np.divide(overlap, either, out=np.zeros_like(overlap), where=either > _EPS)
        together[rows[:, None], columns[None]] += share
        of_truth[rows] += 1
        of_found[0, columns] += 1
    agreement = together / (of_truth + of_found - together)
    matches = np.zeros((len(ALPHAS), *table))
    for rows, columns, overlap in zip(truth, found, overlaps, strict=True):
        if len(rows) and len(columns):
            worth = agreement[rows[:, None], columns[None]] * overlap
            first, second = linear_sum_assignment(-worth)
            for number, alpha in enumerate(ALPHAS):
                right = overlap[first, second] >= alpha - _EPS
                matches[number, rows[first[right]], columns[second[right]]] += 1
    for number, matched in enumerate(matches):
        hits = matched.sum()
        counts.hits[number] = hits
        counts.misses[number] = counts.objects - hits
        counts.wrong[number] = counts.detections - hits
        agree = matched / np.maximum(1, of_truth + of_found - matched)
        counts.association[number] = (matched * agree).sum()


def _count_clear(
    counts: Counts,
    truth: Sequence[np.ndarray],
    found: Sequence[np.ndarray],
    overlaps: Iterable[np.ndarray],
    objects: int,
) -> None:
    """Matches that keep the identity of the frame before where they can, and switches.

    Source: Bernardin and Stiefelhagen 2008, section 2.2.
    """
    ever, last = np.full(objects, -1), np.full(objects, -1)
    for rows, columns, overlap in zip(truth, found, overlaps, strict=True):
        if not len(rows) or not len(columns):
            continue  # as in TrackEval, the matches of the last frame stay those to keep
        worth = 1000.0 * (columns[None] == last[rows[:, None]]) + overlap
        worth[overlap < THRESHOLD - _EPS] = 0
        first, second = linear_sum_assignment(-worth)
        right = worth[first, second] > _EPS
        matched, identity = rows[first[right]], columns[second[right]]
        counts.matched += len(matched)
        counts.switches += int(((ever[matched] >= 0) & (ever[matched] != identity)).sum())
        ever[matched] = identity
        last[:] = -1
        last[matched] = identity


def _count_identity(
    counts: Counts,
    truth: Sequence[np.ndarray],
    found: Sequence[np.ndarray],
    overlaps: Iterable[np.ndarray],
    table: tuple[int, int],
) -> None:
    """Hits of the assignment of found to annotated tracks, one to one, that has most of them.

    Source: Ristani et al. 2016, section 3.
    """
    together = np.zeros(table)
    for rows, columns, overlap in zip(truth, found, overlaps, strict=True):
        first, second = np.nonzero(overlap >= THRESHOLD)
        together[rows[first], columns[second]] += 1
    first, second = linear_sum_assignment(-together)
    counts.same = int(together[first, second].sum())
