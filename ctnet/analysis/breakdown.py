"""The cost of each type of error: a breakdown like TIDE's, for any task."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ctnet.base.errors import CtnetError
from ctnet.core.documents import truth_of
from ctnet.core.records import Detections, Instances
from ctnet.data.dataset import Dataset
from ctnet.ops.boxes import box_coverage

#: The types of error; a wrong detection is of one of the first five, a missed object of the last.
TYPES = ("classification", "localisation", "both", "duplicate", "background", "missed")
_CLASSIFICATION, _LOCALISATION, _BOTH, _DUPLICATE, _BACKGROUND, _MISSED = range(6)

#: What a correct detection has in place of the index of a type.
RIGHT = 6

#: Maximum number of detections per class and image, as in COCO's evaluation.
_MOST_OF_A_CLASS = 100

#: Below this overlap with every object, a detection is on the background (TIDE's value).
BACKGROUND_IOU = 0.1
_RECALLS = np.linspace(0, 1, 101)


@dataclass(frozen=True)
class ErrorCost:
    """One type of error.

    Attributes:
        count: their number.
        cost: AP gained when errors of this type, and no others, are fixed; AP is in [0, 1].
    """

    count: int
    cost: float


@dataclass(frozen=True)
class Breakdown:
    """The errors that keep the AP below 1.

    Attributes:
        iou: the smallest overlap of a well localised box.
        background_iou: below this overlap with every object a detection is on the background.
        ap: COCO's AP at ``iou``, in [0, 1].
        objects: number of objects, without crowd regions.
        detections: number of detections that count.
        right: number of correct ones.
        errors: count and cost by type, in the order of ``TYPES``.
    """

    iou: float
    background_iou: float
    ap: float
    objects: int
    detections: int
    right: int
    errors: Mapping[str, ErrorCost]

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return dataclasses.asdict(self)


@dataclass(frozen=True)
class Compared:
    """The objects and detections of one image, with their overlaps.

    Attributes:
        instances: M objects and C crowd regions, in image pixels.
        found: N detections, in image pixels.
        overlap: (N, M) in [0, 1], of detections and objects, without crowd regions.
    """

    instances: Instances
    found: Detections
    overlap: np.ndarray


def break_down(
    images: Iterable[Compared], iou: float = 0.5, background_iou: float = BACKGROUND_IOU
) -> Breakdown:
    """Classify a detector's errors by type, with the AP that each type costs.

    Detections are matched to objects as in COCO's evaluation: highest score first, each to the free object of
    its class that it overlaps most, by at least ``iou``. An unmatched one that is not absorbed by a crowd
    region of its class is wrong; the first of these conditions that holds is its type:

    * localisation: its best overlap with objects of its class is in [background_iou, iou);
    * classification: it overlaps an object of another class by at least ``iou``;
    * duplicate: it overlaps an object of its class by at least ``iou`` (which another detection is matched
    to);
    * background: it overlaps no object by ``background_iou`` or more;
    * both: any other, an object of another class that is badly localised.

    An object that is neither matched nor the target of a classification or localisation error (the object
    that such a detection overlaps most) is missed.

    Fixing: a localisation or classification error becomes right, keeping its score, if its target is not
    matched and it has the highest score among the errors with this target; otherwise it is removed, like
    duplicate, background and both errors. Missed objects are no longer counted; a class without remaining
    objects is dropped from the mean. A cost can be slightly below 0, since AP is read at 101 recalls.

    Args:
        images: instances and detections of every image, and their overlaps.
        iou: smallest overlap of a well localised detection.
        background_iou: largest overlap of a background error (exclusive).

    Raises:
        CtnetError: for thresholds out of order, and when there are no objects.

    Source: Bolya et al., TIDE: A General Toolbox for Identifying Object Detection Errors, ECCV 2020; where
    its text is ambiguous (order of the types, one fixed error per object), as its authors' tool.
    """
    check_thresholds(iou, background_iou)
    parts = [_examine(image, iou, background_iou) for image in images]
    columns = _Columns(*(np.concatenate([part[i] for part in parts]) for i in range(6))) if parts else None
    if columns is None or not len(columns.object_labels):
        raise CtnetError(
            "there are no objects, so there are no errors to classify; give a split with annotations"
        )
    ap = _mean_ap(columns, None)
    counts = np.bincount(columns.kinds, minlength=RIGHT + 1)
    counts[_MISSED] = columns.missed.sum()
    errors = {
        name: ErrorCost(int(counts[kind]), _mean_ap(columns, kind) - ap if counts[kind] else 0.0)
        for kind, name in enumerate(TYPES)
    }
    return Breakdown(
        iou, background_iou, ap, len(columns.object_labels), len(columns.kinds), int(counts[RIGHT]), errors
    )


def check_thresholds(iou: float, background_iou: float = BACKGROUND_IOU) -> None:
    """Refuse thresholds that are out of order.

    Raises:
        CtnetError: stating the allowed range.
    """
    if not 0 <= background_iou < iou <= 1:
        raise CtnetError(
            f"--iou is {iou:g}; it must be above {background_iou:g} (what counts as background) and at most 1"
        )


def compare(dataset: Dataset, found: Mapping[int, Detections]) -> Iterator[Compared]:
    """Every image's instances and detections, in the order of image ids.

    Args:
        dataset: the ground truth, bound to a task, which defines the overlap of a detection and an object.
        found: detections by image id, in image pixels; missing images have no detections.
    """
    task = dataset.task
    assert task is not None
    for index in np.argsort(dataset.image_ids, kind="stable"):
        instances = dataset.instances(index)
        detections = found.get(int(dataset.image_ids[index]), Detections.empty())
        truth = truth_of(task, instances)
        overlap = task.overlap(detections, truth) if len(detections) else np.zeros((0, len(truth)))
        yield Compared(instances, detections, overlap)


@dataclass(frozen=True)
class _Columns:
    """All images' detections (without those absorbed by crowd regions), and all objects.

    Attributes:
        scores: (N,) float64.
        labels: (N,) int64.
        kinds: (N,) int64, index into ``TYPES``, or ``RIGHT``.
        fixed: (N,) int64, the class in which the detection is right once its error is fixed; -1: none.
        object_labels: (M,) int64.
        missed: (M,) bool.
    """

    scores: np.ndarray
    labels: np.ndarray
    kinds: np.ndarray
    fixed: np.ndarray
    object_labels: np.ndarray
    missed: np.ndarray


@dataclass(frozen=True)
class Examined:
    """The detections of one image that can count, highest score first, and what each of them is.

    Attributes:
        rows: (K,) int64, rows of the image's detections: at most 100 of a class.
        kinds: (K,) int64, index into ``TYPES``, or ``RIGHT``.
        counts: (K,) bool, False for one that a crowd region absorbs.
        taken: (K,) int64, the object (without crowd regions) that a right one is matched to; -1.
        target: (K,) int64, the object that a classification or localisation error is about; -1.
        missed: (M,) bool, objects that are neither matched nor a target.
    """

    rows: np.ndarray
    kinds: np.ndarray
    counts: np.ndarray
    taken: np.ndarray
    target: np.ndarray
    missed: np.ndarray


def examine(image: Compared, iou: float, background_iou: float = BACKGROUND_IOU) -> Examined:
    """Match the detections of one image and classify the others, see ``break_down``.

    A detection's match does not depend on detections that score less: those above any threshold are matched
    as if there were no others.

    Args:
        image: objects and detections.
        iou, background_iou: see ``break_down``.
    """
    instances, found = image.instances, image.found
    objects, crowds = instances[~instances.crowd], instances[instances.crowd]
    rows = _counted(np.asarray(found.scores, np.float64), np.asarray(found.labels, np.int64))
    boxes, labels = np.asarray(found.boxes)[rows], np.asarray(found.labels, np.int64)[rows]
    boxes = boxes.astype(np.float64).reshape(-1, 4)
    boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2])  # a size may be negative early in training
    overlap = np.asarray(image.overlap, np.float64)[rows]
    same = labels[:, None] == objects.labels[None, :]
    taken = match_objects(np.where(same, overlap, -1.0), iou)
    is_found = np.zeros(len(objects), bool)
    is_found[taken[taken >= 0]] = True
    kinds = _kinds(overlap, same, iou, background_iou)
    kinds[taken >= 0] = RIGHT
    counts = (taken >= 0) | ~_absorbed(boxes, labels, crowds, iou)
    target = _targets(overlap, same, kinds)
    target[~counts] = -1
    missed = ~is_found
    missed[target[target >= 0]] = False
    return Examined(rows, kinds, counts, taken, target, missed)


def _examine(image: Compared, iou: float, background_iou: float) -> tuple[np.ndarray, ...]:
    """The columns of one image, in the order of ``_Columns``."""
    seen = examine(image, iou, background_iou)
    object_labels = image.instances.labels[~image.instances.crowd].astype(np.int64)
    is_found = np.zeros(len(object_labels) + 1, bool)
    is_found[seen.taken[seen.taken >= 0]] = True
    claimed = (seen.target >= 0) & ~is_found[seen.target]
    fixed = np.full(len(seen.rows), -1, np.int64)
    first = np.flatnonzero(claimed)[np.unique(seen.target[claimed], return_index=True)[1]]  # the best one
    fixed[first] = object_labels[seen.target[first]]
    scores = np.asarray(image.found.scores)[seen.rows].astype(np.float64)
    labels = np.asarray(image.found.labels)[seen.rows].astype(np.int64)
    counts = seen.counts
    return (scores[counts], labels[counts], seen.kinds[counts], fixed[counts], object_labels, seen.missed)


def _counted(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Rows of the detections that count, highest score first."""
    order = np.argsort(-scores, kind="stable")
    by_label = order[np.argsort(labels[order], kind="stable")]
    starts = np.searchsorted(labels[by_label], labels[by_label], side="left")
    rank = np.zeros(len(scores), np.int64)
    rank[by_label] = np.arange(len(scores)) - starts
    kept: np.ndarray = order[rank[order] < _MOST_OF_A_CLASS]
    return kept


def match_objects(overlap: np.ndarray, iou: float) -> np.ndarray:
    """The object (M) matched to each detection (N), -1 for none; on ties the later one, as in COCO."""
    taken = np.full(len(overlap), -1, np.int64)
    free = overlap[:, ::-1].copy()
    last = overlap.shape[1] - 1
    for row in np.flatnonzero((overlap >= iou).any(axis=1)):
        column = free[row].argmax()
        if free[row, column] >= iou:
            taken[row] = last - column
            free[:, column] = -1
    return taken


def _kinds(overlap: np.ndarray, same: np.ndarray, iou: float, background_iou: float) -> np.ndarray:
    """The type of error of each detection, if it is one."""
    of_its_class = np.where(same, overlap, 0).max(axis=1, initial=0)
    of_another = np.where(same, 0, overlap).max(axis=1, initial=0)
    conditions = [
        (of_its_class >= background_iou) & (of_its_class < iou),
        of_another >= iou,
        of_its_class >= iou,
        np.maximum(of_its_class, of_another) < background_iou,
    ]
    kinds: np.ndarray = np.select(
        conditions, [_LOCALISATION, _CLASSIFICATION, _DUPLICATE, _BACKGROUND], default=_BOTH
    )
    return kinds


def _targets(overlap: np.ndarray, same: np.ndarray, kinds: np.ndarray) -> np.ndarray:
    """The target of each classification or localisation error; -1 for other detections."""
    target = np.full(len(kinds), -1, np.int64)
    for kind, candidates in ((_LOCALISATION, same), (_CLASSIFICATION, ~same)):
        rows = kinds == kind
        if rows.any():
            target[rows] = np.where(candidates[rows], overlap[rows], -1.0).argmax(axis=1)
    return target


def _absorbed(boxes: np.ndarray, labels: np.ndarray, crowds: Instances, iou: float) -> np.ndarray:
    """Whether a crowd region of its class covers ``iou`` of a detection's own area."""
    covered = box_coverage(boxes, crowds.boxes)
    absorbed: np.ndarray = ((covered >= iou) & (labels[:, None] == crowds.labels[None, :])).any(axis=1)
    return absorbed


def _mean_ap(columns: _Columns, fix: int | None) -> float:
    """Mean AP of the classes that have objects, with one type of error fixed."""
    labels, right = columns.labels, columns.kinds == RIGHT
    kept, object_labels = np.ones(len(labels), bool), columns.object_labels
    if fix == _MISSED:
        object_labels = object_labels[~columns.missed]
    elif fix is not None:
        fixed = (columns.kinds == fix) & (columns.fixed >= 0)
        kept = (columns.kinds != fix) | fixed
        labels = np.where(fixed, columns.fixed, labels)
        right = right | fixed
    labels, right, scores = labels[kept], right[kept], columns.scores[kept]
    order = np.argsort(-scores, kind="stable")
    labels, right = labels[order], right[order]
    present, counts = np.unique(object_labels, return_counts=True)
    figures = [
        average_precision(right[labels == label], int(count))
        for label, count in zip(present, counts, strict=True)
    ]
    return float(np.mean(figures)) if figures else 0.0


def average_precision(right: np.ndarray, count: int) -> float:
    """COCO's average precision of one class at one IoU: the mean of precision at recalls 0, 0.01 ... 1.

    Args:
        right: (N,) bool, whether each detection is right, highest score first.
        count: number of objects, at least 1.
    """
    found = np.cumsum(right)
    precision = found / np.arange(1, len(found) + 1)
    envelope = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0)
    return float(envelope[np.searchsorted(found / count, _RECALLS, side="left")].mean())
