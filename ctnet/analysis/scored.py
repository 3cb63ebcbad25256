"""All detections of a data set with their matches: counts at any score, curves, confusion, worst images."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ctnet.analysis.breakdown import (
    BACKGROUND_IOU,
    RIGHT,
    TYPES,
    Compared,
    average_precision,
    compare,
    examine,
    match_objects,
)
from ctnet.core.records import Detections
from ctnet.data.dataset import Dataset
from ctnet.data.stats import SIZE_LIMITS

#: The scores at which detections are counted: 0, 0.01 ... 1.
THRESHOLDS = np.arange(101) / 100

#: The ways in which an image can be wrong.
WORST = ("missed", "false", "class", "place")

#: Types of error of each, ``TYPES``; missed objects are counted by themselves.
_KINDS_OF = {
    "false": tuple(TYPES.index(name) for name in ("background", "duplicate", "both")),
    "class": (TYPES.index("classification"),),
    "place": (TYPES.index("localisation"),),
}
_SIZE_NAMES = ("small (below 32² px)", "medium (to 96² px)", "large")
_CROWDS = (1, 2, 5, 10, 20)  # the smallest number of objects of each group of images
_ALL = slice(None)


@dataclass(frozen=True)
class Counts:
    """What is right and wrong above each of ``THRESHOLDS``.

    Attributes:
        right, wrong: (101,) int64, detections with at least that score.
        objects: number of objects.
    """

    right: np.ndarray
    wrong: np.ndarray
    objects: int

    @property
    def best(self) -> int:
        """The index of the threshold with the best F1 score (the lowest of equal ones)."""
        wanted = self.right + self.wrong + self.objects
        f1 = 2 * self.right / np.maximum(wanted, 1)
        return int(f1.argmax())

    def at(self, row: int) -> tuple[int, int, int]:
        """Right detections, wrong ones and missed objects at a threshold."""
        right = int(self.right[row])
        return right, int(self.wrong[row]), self.objects - right


@dataclass(frozen=True)
class Ratios:
    """Precision and recall as the score falls; ``scores`` are where they are reached."""

    precision: np.ndarray
    recall: np.ndarray
    scores: np.ndarray


@dataclass(frozen=True)
class Group:
    """A part of the objects or images, and the AP at an overlap of 0.5 in it."""

    name: str
    objects: int
    ap: float


@dataclass(frozen=True)
class Scored:
    """The detections that count (see ``break_down``) and the objects of a data set, image by image.

    Attributes:
        images: number of images; an index below is that of the data set.
        scores, labels, kinds: (N,) of detections; ``kinds`` as in ``Examined``.
        image: (N,) int64.
        row: (N,) int64, the row among the detections of its image.
        taken: (N,) int64, the object that it is matched to; -1.
        taken_of_any_class: (N,) int64, the same if classes did not matter.
        areas: (N,) float64, of the boxes, square pixels.
        object_labels, object_image, object_areas: (M,) of objects without crowd regions.
    """

    images: int
    scores: np.ndarray
    labels: np.ndarray
    kinds: np.ndarray
    image: np.ndarray
    row: np.ndarray
    taken: np.ndarray
    taken_of_any_class: np.ndarray
    areas: np.ndarray
    object_labels: np.ndarray
    object_image: np.ndarray
    object_areas: np.ndarray

    @staticmethod
    def of(dataset: Dataset, found: Mapping[int, Detections], iou: float = 0.5) -> Scored:
        """Match the detections of a data set.

        Args:
            dataset: the ground truth, bound to a task.
            found: detections by image id.
            iou: smallest overlap (``Task.overlap``) of a right detection.
        """
        order = np.argsort(dataset.image_ids, kind="stable").tolist()
        return Scored.of_images(zip(order, compare(dataset, found), strict=True), iou)

    @staticmethod
    def of_images(images: Iterable[tuple[int, Compared]], iou: float = 0.5) -> Scored:
        """The same for images of any source, given with their indices."""
        parts: list[tuple[np.ndarray, ...]] = []
        count = first = 0
        for index, one in images:
            parts.append(_columns(index, one, first, iou))
            first += len(parts[-1][-1])
            count += 1
        empty = (*[np.zeros(0)] * 11,)
        columns = [np.concatenate(column) for column in zip(*(parts or [empty]), strict=True)]
        whole = [
            column if place in (0, 7, 10) else column.astype(np.int64) for place, column in enumerate(columns)
        ]
        return Scored(count, *whole)

    @cached_property
    def object_scores(self) -> np.ndarray:
        """(M,) float64, the score of the detection that found each object; -1 for none."""
        scores = np.full(len(self.object_labels), -1.0)
        matched = self.taken >= 0
        scores[self.taken[matched]] = self.scores[matched]
        return scores

    def counts(self, label: int | None = None) -> Counts:
        """The counts of one class, or of all together."""
        mine = _ALL if label is None else self.labels == label
        scores, right = self.scores[mine], self.kinds[mine] == RIGHT
        objects = len(self.object_labels) if label is None else int((self.object_labels == label).sum())
        return Counts(_at_least(scores[right]), _at_least(scores[~right]), objects)

    def ratios(self, label: int | None = None) -> Ratios:
        """Precision and recall of one class, or of all together, wherever a detection is right."""
        mine = np.flatnonzero(self.labels == label) if label is not None else np.arange(len(self.labels))
        mine = mine[np.argsort(-self.scores[mine], kind="stable")]
        right = self.kinds[mine] == RIGHT
        objects = len(self.object_labels) if label is None else int((self.object_labels == label).sum())
        found = np.cumsum(right)
        precision = found / np.arange(1, len(found) + 1)
        return Ratios(precision[right], (found / max(objects, 1))[right], self.scores[mine][right])

    def confusion(self, score: float, classes: int) -> np.ndarray:
        """(C + 1, C + 1) int64 of annotated (rows) and detected (columns) classes; the background is last.

        Detections of at least that score are matched to objects of any class.

        Args:
            score: the threshold.
            classes: their number C.
        """
        table = np.zeros((classes + 1, classes + 1), np.int64)
        above = self.scores >= score
        matched = above & (self.taken_of_any_class >= 0)
        objects = self.taken_of_any_class[matched]
        np.add.at(table, (self.object_labels[objects], self.labels[matched]), 1)
        np.add.at(table[classes], self.labels[above & ~matched], 1)
        missed = np.ones(len(self.object_labels), bool)
        missed[objects] = False
        np.add.at(table[:, classes], self.object_labels[missed], 1)
        return table

    def by_size(self) -> list[Group]:
        """AP of small, medium and large objects, by the area of their boxes; as in COCO, other objects and
        what is found of them do not count, nor do wrong detections of another size."""
        size = np.searchsorted(SIZE_LIMITS, self.object_areas, side="right")
        found_size = np.searchsorted(SIZE_LIMITS, self.areas, side="right")
        matched = self.taken >= 0
        if len(size):
            found_size[matched] = size[self.taken[matched]]
        return [
            group
            for place, name in enumerate(_SIZE_NAMES)
            if (group := self._group(name, found_size == place, size == place)) is not None
        ]

    def by_crowding(self) -> list[Group]:
        """AP of images with few and with many objects."""
        per_image = np.bincount(self.object_image, minlength=self.images)
        of_image = np.searchsorted(_CROWDS, per_image, side="right") - 1
        groups = []
        for place, least in enumerate(_CROWDS):
            below = _CROWDS[place + 1] if place + 1 < len(_CROWDS) else None
            if below is None:
                name = f"{least} objects or more"
            else:
                name = "1 object" if below == 2 else f"{least} to {below - 1} objects"
            mine = of_image == place
            group = self._group(name, mine[self.image], mine[self.object_image])
            groups += [] if group is None else [group]
        return groups

    def worst(self, score: float, kind: str) -> list[int]:
        """Images that are wrong in one of the ways ``WORST``, the worst first.

        Args:
            score: objects count as missed, and detections as wrong, at this threshold.
            kind: "missed" puts the image with the most missed objects first, the others the image with the
                highest score of a wrong detection.
        """
        if kind == "missed":
            missed = self.object_image[self.object_scores < score]
            images, amounts = np.unique(missed, return_counts=True)
            keys = amounts.astype(np.float64)
        else:
            wrong = np.isin(self.kinds, _KINDS_OF[kind]) & (self.scores >= score)
            images, place = np.unique(self.image[wrong], return_inverse=True)
            keys = np.zeros(len(images))
            np.maximum.at(keys, place, self.scores[wrong])
        order = np.argsort(-keys, kind="stable")
        return [int(image) for image in images[order]]

    def worst_row(self, index: int, kind: str) -> int:
        """Which of the detections of an image (in their order here) is wrong in that way, highest score."""
        kinds = self.kinds[self.image == index]
        return int(np.flatnonzero(np.isin(kinds, _KINDS_OF[kind]))[0])

    def _group(self, name: str, found: np.ndarray, objects: np.ndarray) -> Group | None:
        """AP of some detections and objects; None without objects."""
        labels = self.object_labels[objects]
        if not len(labels):
            return None
        order = np.flatnonzero(found)
        order = order[np.argsort(-self.scores[order], kind="stable")]
        found_labels, right = self.labels[order], self.kinds[order] == RIGHT
        present, amounts = np.unique(labels, return_counts=True)
        figures = [
            average_precision(right[found_labels == label], int(amount))
            for label, amount in zip(present, amounts, strict=True)
        ]
        return Group(name, len(labels), float(np.mean(figures)))


def _columns(index: int, image: Compared, first: int, iou: float) -> tuple[np.ndarray, ...]:
    """The columns of one image, in the order of ``Scored``; objects are numbered from ``first``."""
    seen = examine(image, iou, BACKGROUND_IOU)
    rows, counts = seen.rows, seen.counts
    overlap = np.asarray(image.overlap, np.float64)[rows]
    any_class = match_objects(np.where(counts[:, None], overlap, -1.0), iou)[counts]
    rows, taken = rows[counts], seen.taken[counts]
    objects = image.instances[~image.instances.crowd]
    return (
        np.asarray(image.found.scores, np.float64)[rows],
        np.asarray(image.found.labels)[rows],
        seen.kinds[counts],
        np.full(len(rows), index),
        rows,
        np.where(taken >= 0, taken + first, -1),
        np.where(any_class >= 0, any_class + first, -1),
        _areas(np.asarray(image.found.boxes)[rows]),
        objects.labels,
        np.full(len(objects), index),
        _areas(objects.boxes),
    )


def _areas(boxes: np.ndarray) -> np.ndarray:
    sides = np.maximum(boxes[:, 2:].astype(np.float64) - boxes[:, :2], 0)
    areas: np.ndarray = sides.prod(axis=1)
    return areas


def _at_least(scores: np.ndarray) -> np.ndarray:
    """(101,) int64, how many scores are at least each threshold."""
    return np.asarray(len(scores) - np.searchsorted(np.sort(scores), THRESHOLDS, side="left"), np.int64)


def thinned(count: int, most: int) -> Sequence[int]:
    """At most so many of ``count`` indices, evenly spaced, with the first and the last."""
    rows: list[int] = np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(int)).tolist()
    return rows
