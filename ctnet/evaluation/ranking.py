"""Average precision of one class for many draws of the images at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ctnet.core.tally import Drawn, Tally

#: How precision is averaged: at COCO's 101 recalls, at Pascal VOC's 11 of 2007, or over every object found.
Rule = Literal["coco", "voc07", "voc10"]

_POINTS = {"coco": 101, "voc07": 11}

#: COCO compares with ``linspace(0, 1, 101)``, of which these values are above their hundredth: a recall of
#: exactly such a hundredth does not reach them.
_ABOVE = np.array([point > row / 100 for row, point in enumerate(np.linspace(0, 1, 101).tolist())])


@dataclass(frozen=True)
class Averages:
    """Of D draws and T thresholds.

    Attributes:
        precision: (T, D) float64, average precision; NaN for a draw without objects.
        recall: (T, R, D) float64, the recall with each limit of detections per image; NaN likewise.
    """

    precision: np.ndarray
    recall: np.ndarray


class Ranking:
    """The detections of one class in all images, best first, and whether each is right.

    The cumulative sums of a draw weigh every detection by how often its image was drawn. Precision only has
    to be known where a detection is right, which are few of all: there, the number of right detections is a
    cumulative sum over those alone, and the number of all is one sum shared by the thresholds, corrected for
    the few detections that only count at some of them.

    Detections of one image with equal scores repeat as a whole with their image (a, b, a, b), so they are
    written down once for each copy wherever their order matters.
    """

    def __init__(
        self,
        image: np.ndarray,
        scores: np.ndarray,
        right: np.ndarray,
        counts: np.ndarray,
        rank: np.ndarray | None = None,
    ) -> None:
        """Sort the detections.

        Args:
            image: (N,) index of the image of each detection, ascending where scores are equal.
            scores: (N,), in any order.
            right: (T, N) bool, whether each is right at each threshold.
            counts: (T, N) bool, whether it counts at all; what is right counts.
            rank: (N,) int, its place among those of its image, from 0, for limits of detections per image.
        """
        order = np.argsort(-np.asarray(scores, np.float64), kind="stable")
        order = order[np.asarray(counts.any(axis=0))[order]]
        self._right, self._counts = right[:, order], counts[:, order]
        self._image = np.asarray(image, np.int64)[order]
        self._rank = np.zeros(len(order), np.int64) if rank is None else np.asarray(rank)[order]
        self._group = self._groups(np.asarray(scores, np.float64)[order])
        self._has_ties = bool((self._group >= 0).any())
        self._prepared = self._prepare(1)
        if not self._has_ties:
            self._right = self._counts = np.zeros((len(right), 0), bool)  # what is prepared serves all draws

    def __len__(self) -> int:
        return len(self._prepared.image)

    def averages(
        self, weights: np.ndarray, objects: np.ndarray, rule: Rule, limits: Sequence[int] = ()
    ) -> Averages:
        """Average precision and recall.

        Args:
            weights: (D, I) int32, how often each image was drawn.
            objects: (D,) int64, the number of objects in each draw.
            rule: how precision is averaged.
            limits: limits of detections per image, for the recall; the ranking has none beyond the highest.
        """
        most = int(weights.max(initial=1))
        if most > self._prepared.copies and self._has_ties:
            self._prepared = self._prepare(-(-most // 4) * 4)
        ready, draws = self._prepared, len(weights)
        drawn = np.take(weights, ready.image, axis=1)
        if len(ready.repeated):
            drawn[:, ready.repeated] = drawn[:, ready.repeated] > ready.copy
        sums = np.zeros((draws, len(ready.image) + 1), np.int32)
        np.cumsum(drawn * ready.usual, axis=1, out=sums[:, 1:])
        reached = None if rule == "voc10" else _reached(objects, rule)
        precision = np.zeros((len(ready.right), draws))
        recall = np.zeros((len(ready.right), len(limits), draws))
        for row, (at, changed) in enumerate(zip(ready.right, ready.changed, strict=True)):
            if not len(at):
                continue
            own = np.take(drawn, at, axis=1)
            found = np.cumsum(own, axis=1, dtype=np.int32)
            seen = np.take(sums, at + 1, axis=1)
            if len(changed):
                seen += _corrections(drawn, at, changed, ready.usual)
            precision[row] = _area(own, found, np.maximum(seen, 1), reached)
            rank = ready.rank[at]
            for column, limit in enumerate(limits):
                beyond = np.take(own, np.flatnonzero(rank >= limit), axis=1)
                recall[row, column] = found[:, -1] - beyond.sum(axis=1)
        divisor = np.where(objects > 0, objects, np.nan)
        return Averages(
            precision / (divisor if reached is None else _POINTS[rule]) + 0 * divisor, recall / divisor
        )

    def _groups(self, scores: np.ndarray) -> np.ndarray:
        """(N,) the first detection of the group of equal ones whose order matters; -1 outside of groups."""
        if not len(scores):
            return np.zeros(0, np.int64)
        begins = np.ones(len(scores), bool)
        begins[1:] = (scores[1:] != scores[:-1]) | (self._image[1:] != self._image[:-1])
        first = np.flatnonzero(begins)[np.cumsum(begins) - 1]
        differs = (self._right != self._right[:, first]) | (self._counts != self._counts[:, first])
        mixed = np.zeros(len(scores), bool)
        mixed[first[differs.any(axis=0)]] = True
        return np.where(mixed[first], first, -1)

    def _prepare(self, copies: int) -> _Prepared:
        """Write down the detections whose order matters once for each of so many copies of their image."""
        rows = np.arange(len(self._image))
        tied = np.flatnonzero(self._group >= 0)
        plain = rows[self._group < 0]
        source = np.concatenate([plain, np.tile(tied, copies)])
        copy = np.concatenate([np.full(len(plain), -1), np.repeat(np.arange(copies), len(tied))])
        order = np.lexsort((source, copy, np.where(copy < 0, source, self._group[source])))
        source, copy = source[order], copy[order]
        counts = self._counts[:, source]
        usual = (counts.sum(axis=0) * 2 > len(counts)).astype(np.int32)
        repeated = np.flatnonzero(copy >= 0)
        return _Prepared(
            copies=copies,
            image=self._image[source],
            rank=self._rank[source],
            repeated=repeated,
            copy=copy[repeated],
            usual=usual,
            right=[np.flatnonzero(row) for row in self._right[:, source]],
            changed=[np.flatnonzero(row) for row in counts != usual.astype(bool)],
        )


@dataclass(frozen=True)
class _Prepared:
    """A ranking in the form that draws are computed from.

    Attributes:
        copies: up to this weight of an image, its detections with equal scores are written down.
        image, rank: (N,) as in ``Ranking``.
        repeated: (R,) rows that stand for one copy of their image, ``copy`` (R,).
        usual: (N,) int32, 0 or 1, whether a detection counts at most thresholds.
        right: by threshold, the rows that are right.
        changed: by threshold, the rows that count though they usually do not, or the other way round.
    """

    copies: int
    image: np.ndarray
    rank: np.ndarray
    repeated: np.ndarray
    copy: np.ndarray
    usual: np.ndarray
    right: list[np.ndarray]
    changed: list[np.ndarray]


class RankedTally(Tally):
    """Metrics that are the average precision of one ranking each, over every object found.

    Args:
        image_ids, objects, detections: see ``Tally``.
        rankings: metric -> the ranking, of one threshold, and (I,) int64, the objects of each image.
    """

    def __init__(
        self,
        image_ids: Sequence[int],
        objects: Mapping[str, np.ndarray],
        detections: np.ndarray,
        rankings: Mapping[str, tuple[Ranking, np.ndarray]],
    ) -> None:
        super().__init__(image_ids, objects, detections)
        self._rankings = rankings
        self.rows = max([self.rows, *(len(ranking) for ranking, _ in rankings.values())])

    def metrics(self, weights: np.ndarray) -> Drawn:
        return {
            name: ranking.averages(weights, weights @ of_image, "voc10").precision[0]
            for name, (ranking, of_image) in self._rankings.items()
        }


def _area(own: np.ndarray, found: np.ndarray, seen: np.ndarray, reached: np.ndarray | None) -> np.ndarray:
    """(D,) the sum of the precision made monotone, over objects found or over recalls reached.

    Args:
        own, found, seen: (D, M) int32, at each right detection: how often it was drawn, and how many right
            ones and how many in all there are up to it.
        reached: see ``_reached``; None for the sum over objects.
    """
    envelope = np.maximum.accumulate((found / seen)[:, ::-1], axis=1)[:, ::-1]
    if reached is None:
        return np.asarray(np.einsum("dm,dm->d", envelope, own))
    starts = np.arange(len(own), dtype=np.int64)[:, None] * reached.shape[1]
    passed = np.take(reached, found + starts)
    before = np.einsum("dm,dm->d", envelope[:, 1:], passed[:, :-1])
    return np.asarray(np.einsum("dm,dm->d", envelope, passed) - before)


def _corrections(drawn: np.ndarray, at: np.ndarray, changed: np.ndarray, usual: np.ndarray) -> np.ndarray:
    """(D, M): what to add to the number of detections up to each row of ``at``."""
    sums = np.zeros((len(drawn), len(changed) + 1), np.int32)
    np.cumsum(np.take(drawn, changed, axis=1) * np.where(usual[changed], -1, 1), axis=1, out=sums[:, 1:])
    return np.take(sums, np.searchsorted(changed, at, side="right"), axis=1)


def _reached(objects: np.ndarray, rule: Rule) -> np.ndarray:
    """(D, M + 1) int32: how many of the rule's recalls are reached with 0, 1 ... M objects found.

    Args:
        objects: (D,) int64, the number of objects in each draw; M is the largest.
        rule: "coco" or "voc07".
    """
    points = _POINTS[rule]
    places = np.arange(points)
    product = objects[:, None] * places
    needed = -(-product // (points - 1))
    if rule == "coco":
        needed += _ABOVE & (product % (points - 1) == 0)
    width = int(objects.max(initial=0)) + 2
    flat = np.minimum(needed, width - 1) + width * np.arange(len(objects))[:, None]
    table = np.bincount(flat.ravel(), minlength=width * len(objects)).reshape(len(objects), width)
    return np.asarray(table.cumsum(axis=1, dtype=np.int32)[:, :-1])
