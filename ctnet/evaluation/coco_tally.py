"""What each image contributed to the COCO metrics."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ctnet.core.tally import Drawn, Matched, Matches, Tally
from ctnet.evaluation.queues import match_in_order
from ctnet.evaluation.ranking import Ranking

#: The values that each metric is the mean of, from precision and recall, see ``CocoEvaluator.figures``.
FiguresOf = Callable[[np.ndarray, np.ndarray], Mapping[str, np.ndarray]]


@dataclass(frozen=True)
class _Objects:
    """The annotated objects, by class and image as ``_Found``."""

    image: np.ndarray
    label: np.ndarray
    area: np.ndarray
    crowd: np.ndarray
    ignored: np.ndarray


@dataclass(frozen=True)
class _Found:
    """The detections that count, sorted by class, then image, best score first.

    Attributes:
        image: (N,) int64, index of the image.
        label: (N,) int64, column of the class in the curves.
        score, area: (N,) float64; areas in square pixels.
        rank: (N,) int64, from 0, among those of their class and image.
    """

    image: np.ndarray
    label: np.ndarray
    score: np.ndarray
    area: np.ndarray
    rank: np.ndarray


@dataclass(frozen=True)
class _Pairs:
    """Detections and objects of one class and image that overlap by the lowest threshold or more."""

    found: np.ndarray
    object: np.ndarray
    overlap: np.ndarray


@dataclass(frozen=True)
class _Curve:
    """A class and a range of areas: its detections, and the image of each of its objects."""

    label: int
    size: int
    ranking: Ranking
    objects: np.ndarray


class CocoTally(Tally):
    """Matches of the COCO evaluation, for every class, range of areas and threshold."""

    def __init__(
        self,
        evaluation: Any,
        annotations: Sequence[Mapping[str, Any]],
        results: Sequence[Mapping[str, Any]],
        figures: FiguresOf,
        names: Mapping[str, int],
    ) -> None:
        """Match as the evaluation does.

        Args:
            evaluation: see ``coco_evaluation``; it has computed the overlaps.
            annotations, results: as it was given them; ordered by image.
            figures: the values that each metric is the mean of. They get curves whose recalls are averaged
                already, of the last limit of detections alone, and with an axis of draws at the end.
            names: column of each class in the curves, by name.
        """
        parameters = evaluation.params
        images = np.unique(np.asarray(parameters.imgIds, np.int64))
        labels = {int(category): column for column, category in enumerate(parameters.catIds)}
        truth = _objects_of(annotations, images, labels, keypoints=parameters.iouType == "keypoints")
        found = _found_of(results, images, labels, parameters.maxDets[-1])
        pairs = _pairs_of(evaluation, truth, found, images)
        self._figures, self._limits = figures, list(parameters.maxDets)
        self._shape = (len(parameters.iouThrs), len(labels), len(parameters.areaRng))
        thresholds = np.asarray(parameters.iouThrs)
        objects = {
            name: np.bincount(truth.image[(truth.label == column) & ~truth.ignored], minlength=len(images))
            for name, column in names.items()
        }
        self._curves = []
        for size, limits in enumerate(parameters.areaRng):
            outcome = _outcome_of(truth, found, pairs, limits, thresholds)
            self._curves += _curves_of(truth, found, outcome, size)
            if size == 0:  # objects of all sizes
                kind = "OKS" if parameters.iouType == "keypoints" else "IoU"
                matched = _matched_of(found, outcome, objects, names)
                self._matches = Matches(f"{kind} {thresholds[0]:g}", matched)
        places = np.searchsorted(images, [int(entry["image_id"]) for entry in results])
        super().__init__(images.tolist(), objects, np.bincount(places, minlength=len(images)))
        self.rows = max([self.rows, *(len(curve.ranking) for curve in self._curves)])

    def matches(self) -> Matches:
        return self._matches

    def metrics(self, weights: np.ndarray) -> Drawn:
        thresholds, classes, sizes = self._shape
        limits, draws = len(self._limits), len(weights)
        precision = np.full((thresholds, 1, classes, sizes, limits, draws), -1.0)
        recall = np.full((thresholds, classes, sizes, limits, draws), -1.0)
        for curve in self._curves:
            objects = np.take(weights, curve.objects, axis=1).sum(axis=1)
            averages = curve.ranking.averages(weights, objects, "coco", self._limits)
            precision[:, 0, curve.label, curve.size, -1] = np.nan_to_num(averages.precision, nan=-1)
            recall[:, curve.label, curve.size] = np.nan_to_num(averages.recall, nan=-1)
        return {name: _mean(values) for name, values in self._figures(precision, recall).items()}


def _mean(values: np.ndarray) -> np.ndarray:
    """Mean over all axes but the last of what is defined (not -1); NaN where nothing is."""
    flat = values.reshape(-1, values.shape[-1])
    defined = flat > -1
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(defined, flat, 0).sum(axis=0) / defined.sum(axis=0))


def _objects_of(
    annotations: Sequence[Mapping[str, Any]], images: np.ndarray, labels: Mapping[int, int], keypoints: bool
) -> _Objects:
    entries = annotations
    crowd = np.array([bool(entry["iscrowd"]) for entry in entries], bool)
    blank = np.array([keypoints and entry.get("num_keypoints", 0) == 0 for entry in entries], bool)
    image = np.searchsorted(images, [int(entry["image_id"]) for entry in entries])
    label = np.array([labels[int(entry["category_id"])] for entry in entries], np.int64)
    area = np.array([entry["area"] for entry in entries], np.float64)
    order = np.lexsort((image, label))
    return _Objects(*(column[order] for column in (image, label, area, crowd, crowd | blank)))


def _found_of(
    results: Sequence[Mapping[str, Any]], images: np.ndarray, labels: Mapping[int, int], limit: int
) -> _Found:
    image = np.searchsorted(images, np.array([int(entry["image_id"]) for entry in results], np.int64))
    label = np.array([labels[int(entry["category_id"])] for entry in results], np.int64)
    score = np.array([entry["score"] for entry in results], np.float64)
    area = np.array([entry["area"] for entry in results], np.float64)  # as the evaluation has filled it in
    order = np.lexsort((-score, image, label))
    key = label[order] * len(images) + image[order]
    rank = np.arange(len(order)) - np.searchsorted(key, key)
    order = order[rank < limit]
    return _Found(image[order], label[order], score[order], area[order], rank[rank < limit])


def _pairs_of(evaluation: Any, truth: _Objects, found: _Found, images: np.ndarray) -> _Pairs:
    """The overlaps that the engine computed."""
    count, lowest = len(images), min(*evaluation.params.iouThrs, 1 - 1e-10)
    categories = [int(category) for category in evaluation.params.catIds]
    of_found, of_truth = found.label * count + found.image, truth.label * count + truth.image
    rows, columns, overlaps = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)], [np.zeros(0)]
    for key in np.intersect1d(of_found, of_truth).tolist():
        label, image = divmod(key, count)
        table = np.asarray(evaluation.ious[int(images[image]), categories[label]], np.float64)
        row, column = np.nonzero(table >= lowest)
        rows.append(row + np.searchsorted(of_found, key))
        columns.append(column + np.searchsorted(of_truth, key))
        overlaps.append(table[row, column])
    return _Pairs(np.concatenate(rows), np.concatenate(columns), np.concatenate(overlaps))


@dataclass(frozen=True)
class _Outcome:
    """The matching for one range of areas.

    Attributes:
        ignored: (M,) bool, the objects that do not count.
        right, counts: (N, T) bool, which detections are right, and which count at all.
    """

    ignored: np.ndarray
    right: np.ndarray
    counts: np.ndarray


def _outcome_of(
    truth: _Objects, found: _Found, pairs: _Pairs, limits: Sequence[float], thresholds: np.ndarray
) -> _Outcome:
    """Match all classes, for objects of a size, in square pixels."""
    ignored = truth.ignored | (truth.area < limits[0]) | (truth.area > limits[1])
    outside = (found.area < limits[0]) | (found.area > limits[1])
    # The best score chooses first: an object that counts, of these the one overlapped most, then the last.
    order = np.lexsort((-pairs.object, -pairs.overlap, ignored[pairs.object], pairs.found))
    row, column, overlap = pairs.found[order], pairs.object[order], pairs.overlap[order]
    # Crowd regions can be chosen again and again.
    single = np.where(truth.crowd[column], len(truth.image) + np.arange(len(column)), column)
    present = overlap[:, None] >= np.minimum(thresholds, 1 - 1e-10)
    frame = found.label[row] * (found.image.max(initial=0) + 1) + found.image[row]
    taken = match_in_order(frame, row, single, present)
    right, matched = (np.zeros((len(found.score), len(thresholds)), bool) for _ in range(2))
    pair, threshold = np.nonzero(taken)
    matched[row[pair], threshold] = True
    hit = ~ignored[column[pair]]
    right[row[pair][hit], threshold[hit]] = True
    return _Outcome(ignored, right, right | ~(matched | outside[:, None]))


def _curves_of(truth: _Objects, found: _Found, outcome: _Outcome, size: int) -> list[_Curve]:
    """The curves of all classes that have objects of a size."""
    curves = []
    for label in np.unique(truth.label[~outcome.ignored]).tolist():
        mine = _rows_of(found, label)
        ranking = Ranking(
            found.image[mine],
            found.score[mine],
            outcome.right[mine].T,
            outcome.counts[mine].T,
            found.rank[mine],
        )
        curves.append(_Curve(label, size, ranking, truth.image[(truth.label == label) & ~outcome.ignored]))
    return curves


def _matched_of(
    found: _Found, outcome: _Outcome, objects: Mapping[str, np.ndarray], names: Mapping[str, int]
) -> dict[str, Matched]:
    """The detections of every class at the first threshold."""
    matched = {}
    for name, label in names.items():
        mine = _rows_of(found, label)
        right = outcome.right[mine, 0]
        wrong = outcome.counts[mine, 0] & ~right
        matched[name] = Matched.of(found.image[mine], found.score[mine], right, wrong, objects[name])
    return matched


def _rows_of(found: _Found, label: int) -> slice:
    """The detections of a class."""
    start, end = np.searchsorted(found.label, [label, label + 1]).tolist()
    return slice(start, end)
