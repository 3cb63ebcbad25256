"""What each frame contributed to the KITTI metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ctnet.plugin import Drawn, Matched, Matches, Tally
from ctnet_tasks_ddd.kitti_eval import CLASSES, DIFFICULTIES, IOU, POINTS, Steps, steps_of
from ctnet_tasks_ddd.objects import KittiObjects

_STEP = 1 / (POINTS - 1)


@dataclass(frozen=True)
class _Curves:
    """Curves of D draws, of one class, metric and difficulty.

    Attributes:
        objects: (D,) int64, labels that count.
        thresholds: (D,) int64, number of points of each curve.
        precision, similarity: (D, 41) float64, 0 beyond the points.
    """

    objects: np.ndarray
    thresholds: np.ndarray
    precision: np.ndarray
    similarity: np.ndarray


class KittiTally(Tally):
    """How the detections of each frame are matched, as the score threshold falls.

    The benchmark samples a curve at scores that depend on all frames, and matches again at each. Frames are
    independent, so the matches of a frame only change at scores of its own detections: those changes are
    what a frame contributes.
    """

    def __init__(
        self,
        labels: KittiObjects,
        results: KittiObjects,
        iou: str,
        class_names: Mapping[str, str],
        image_ids: Sequence[int],
        objects: Mapping[str, np.ndarray],
        metrics: Mapping[str, str],
    ) -> None:
        """Match at every threshold.

        Args:
            labels, results: of the frames, in the order of ``image_ids``.
            iou: see ``kitti_eval.IOU``.
            class_names: name of each class of the data set by its name in lower case.
            image_ids, objects: see ``Tally``.
            metrics: prefix of a metric's name -> metric in ``kitti_eval``.
        """
        count = len(labels.frame_names)
        super().__init__(image_ids, objects, np.bincount(results.frame, minlength=count))
        self._names, self._metrics, self._iou = class_names, metrics, iou
        self._steps = steps_of(labels, results, iou)
        self.rows = max([self.rows, *(len(steps.image) for steps in self._steps.curves.values())])

    def matches(self) -> Matches:
        """Image boxes of moderate objects, at the benchmark's overlaps; no other classes than its own."""
        level, matched, overlaps = DIFFICULTIES.index("moderate"), {}, []
        for key, name in self._names.items():
            if key not in CLASSES:
                none = np.zeros(0, np.int64)
                matched[name] = Matched.of(none, none, none, none, np.zeros(len(self.image_ids)))
                continue
            number = CLASSES.index(key)
            overlaps.append(f"{IOU[self._iou][0][number]:g} {name}")
            matched[name] = _matched(self._steps.curves[number, "detection", level], len(self.image_ids))
        return Matches(f"image boxes of moderate objects, IoU {', '.join(overlaps)}", matched)

    def metrics(self, weights: np.ndarray) -> Drawn:
        count = len(weights)
        drawn: Drawn = {}
        summary: Drawn = {}
        of_class: Drawn = {}
        for prefix, metric in self._metrics.items():
            reached = []
            for key, name in self._names.items():
                if key not in CLASSES:
                    continue
                present = self._steps.present(CLASSES.index(key), metric, weights)
                for level, difficulty in enumerate(DIFFICULTIES):
                    curves = self._curves(CLASSES.index(key), metric, level, weights)
                    values = curves.similarity if metric == "orientation" else curves.precision
                    defined = present & (curves.objects > 0)
                    start = f"{prefix}/{name}/{difficulty}"
                    drawn[f"{start}/R11"] = np.where(defined, values[:, ::4].mean(axis=1), np.nan)
                    drawn[f"{start}/R40"] = np.where(defined, values[:, 1:].mean(axis=1), np.nan)
                    if difficulty == "moderate":
                        average = np.where(present, _averages(curves, values), 0.0)
                        of_class[f"{prefix}/{name}"] = np.where(curves.objects > 0, average, np.nan)
                        reached.append(of_class[f"{prefix}/{name}"])
            summary[prefix] = _mean(reached, count)
        empty = sum(weights @ each for each in self.objects.values()) == 0
        everything = {"AP": _mean(list(summary.values()), count), **summary, **of_class, **drawn}
        return {name: np.where(empty, np.nan, values) for name, values in everything.items()}

    def _curves(self, number: int, metric: str, level: int, weights: np.ndarray) -> _Curves:
        steps = self._steps.curves[number, "detection" if metric == "orientation" else metric, level]
        objects = np.take(weights, steps.objects, axis=1).sum(axis=1)
        sums = np.cumsum(np.take(weights, steps.right_image, axis=1), axis=1)
        rows, used = _thresholds(sums, objects)
        if not len(steps.right_image):
            blank = np.zeros((len(weights), POINTS))
            return _Curves(objects, np.zeros(len(weights), np.int64), blank, blank)
        # The number of changes at scores of the threshold and above.
        at = steps.until[np.minimum(rows, len(steps.until) - 1)]
        by_image = np.take(weights, steps.image, axis=1)
        right, wrong, similarity = (
            np.take_along_axis(_cumulative(by_image * change), at, axis=1)
            for change in (steps.right, steps.wrong, steps.similarity)
        )
        found = np.maximum(right + wrong, 1)
        return _Curves(
            objects, used.sum(axis=1), *(_descending(v / found, used) for v in (right, similarity))
        )


def _matched(steps: Steps, images: int) -> Matched:
    """The changes of a frame at one score as one: what is right is counted as wrong first, and taken back."""
    key = np.stack([-steps.score, steps.image], axis=1)
    distinct, number = np.unique(key, axis=0, return_inverse=True)
    sums = [
        np.bincount(number.reshape(-1), change, minlength=len(distinct))
        for change in (steps.right, steps.wrong)
    ]
    objects = np.bincount(steps.objects, minlength=images)
    return Matched.of(distinct[:, 1], -distinct[:, 0], np.rint(sums[0]), np.rint(sums[1]), objects)


def _mean(columns: Sequence[np.ndarray], draws: int) -> np.ndarray:
    """(D,) the mean of what is not NaN; 0 where everything is."""
    if not columns:
        return np.zeros(draws)
    table = np.stack(columns)
    known = ~np.isnan(table)
    return np.asarray(np.where(known, table, 0).sum(axis=0) / np.maximum(known.sum(axis=0), 1))


def _cumulative(values: np.ndarray) -> np.ndarray:
    """(D, E) -> (D, E + 1): sums of the first 0, 1 ... E."""
    return np.concatenate([np.zeros((len(values), 1), values.dtype), np.cumsum(values, axis=1)], axis=1)


def _descending(values: np.ndarray, used: np.ndarray) -> np.ndarray:
    """The best value at a point or beyond, of the points that are used."""
    return np.maximum.accumulate(np.where(used, values, 0)[:, ::-1], axis=1)[:, ::-1]


def _thresholds(sums: np.ndarray, objects: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """``recall_thresholds`` for draws.

    Args:
        sums: (D, R) int, for each right detection, best first, how often it and better ones were drawn.
        objects: (D,) int.

    Returns:
        (D, 41) the row of each threshold, and whether there is one.
    """
    draws = len(sums)
    length = sums[:, -1] if sums.shape[1] else np.zeros(draws, np.int64)
    of = np.maximum(objects, 1)
    chosen = np.zeros((draws, POINTS), np.int64)
    used = np.zeros((draws, POINTS), bool)
    recall, start = 0.0, np.zeros(draws, np.int64)
    for point in range(POINTS):
        used[:, point] = start < length
        guess = np.maximum(np.ceil(recall * of - 1.5).astype(np.int64) - 1, 0)
        for _ in range(2):  # the formula may be one too low where the halves of a step are equal
            nearer_right = (guess + 2) / of - recall < recall - (guess + 1) / of
            guess = guess + nearer_right
        chosen[:, point] = np.minimum(np.maximum(guess, start), np.maximum(length - 1, 0))
        start = chosen[:, point] + 1
        recall += _STEP
    rows = np.stack(
        [np.searchsorted(one, each, side="right") for one, each in zip(sums, chosen, strict=True)]
    )
    return rows, used


def _averages(curves: _Curves, values: np.ndarray) -> np.ndarray:
    """(D,) see ``evaluation.average``: points of a curve are a step of recall apart, or an object."""
    point = np.arange(POINTS)
    recall = np.maximum(point * 1.0 / (POINTS - 1), (point + 1) / np.maximum(curves.objects, 1)[:, None])
    recall = np.where(point < curves.thresholds[:, None], recall, np.inf)
    wanted = np.arange(1, POINTS) / (POINTS - 1) - 1e-9
    place = (recall[:, :, None] < wanted).sum(axis=1)
    padded = np.concatenate([values, np.zeros((len(values), 1))], axis=1)
    return np.asarray(np.take_along_axis(padded, place, axis=1).mean(axis=1))
