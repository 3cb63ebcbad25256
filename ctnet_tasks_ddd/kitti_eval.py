"""The evaluation of the KITTI object benchmark: 2D AP, orientation (AOS), bird's-eye and 3D AP.

Results equal those of the benchmark's own C++ program. In its terms, *valid* objects count, *ignored* ones
count neither as right nor as wrong, all others are absent.

Source: Geiger, Lenz, Urtasun: Are we ready for autonomous driving? The KITTI vision benchmark suite, CVPR
2012, and the benchmark's development kit; 40 recall positions: Simonelli et al., Disentangling monocular 3D
object detection, ICCV 2019.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ctnet.plugin import CtnetError, match_in_order, track, unknown_name
from ctnet_tasks_ddd.frame_files import FrameFiles
from ctnet_tasks_ddd.objects import (
    LABEL_COLUMNS,
    NO_ALPHA,
    NO_LOCATION,
    RESULT_COLUMNS,
    KittiObjects,
    parse_lines,
)
from ctnet_tasks_ddd.overlaps import METRICS, Shapes, frame_pairs, overlaps

CLASSES = ("car", "pedestrian", "cyclist")
NEIGHBOURS = {"van": "car", "person_sitting": "pedestrian"}
"""Classes so similar to an evaluated one that its detections on them are neither right nor wrong."""

DIFFICULTIES = ("easy", "moderate", "hard")
_MIN_HEIGHT = (40, 25, 25)  # of the image box, pixels
_MAX_OCCLUSION = (0, 1, 2)
_MAX_TRUNCATION = (0.15, 0.30, 0.50)

IOU: Mapping[str, tuple[tuple[float, ...], ...]] = {
    "strict": ((0.7, 0.5, 0.5), (0.7, 0.5, 0.5), (0.7, 0.5, 0.5)),
    "shipped": ((0.7, 0.5, 0.5), (0.5, 0.25, 0.25), (0.5, 0.25, 0.25)),
    "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
}
"""Overlap that a match must exceed, per metric and class: "strict" is the benchmark's own,
"shipped" that of the evaluation program which CenterNet's authors released, "half" 0.5 throughout."""

LABEL_FOLDERS = ("training/label_2", "label_2")
RESULT_FOLDERS = ("data",)
"""Subfolders with the files, if they are not at the top of the given folder."""

POINTS = 41  # of a curve
_LOWEST_SCORE = -1e7  # the C++ program's "no detection": scores up to this are ignored


@dataclass(frozen=True)
class Figure:
    """One class, metric and difficulty.

    Attributes:
        R11: average precision over 11 recall positions, percent.
        R40: average precision over 40 recall positions, percent.
        curve: (41,) float64 in [0, 1], precision (or orientation similarity) at recalls 0, 1/40, ... 1 or
            higher.
        objects: number of labels that count.
        thresholds: (T,) float64, descending: the scores at which the curve was sampled, T at most 41.
        right, wrong, missed: (T,) int64, detections that match, detections that do not, and labels without
            detection, at each threshold.
    """

    R11: float
    R40: float
    curve: np.ndarray
    objects: int
    thresholds: np.ndarray
    right: np.ndarray
    wrong: np.ndarray
    missed: np.ndarray


@dataclass(frozen=True)
class KittiResult:
    """The result of an evaluation.

    Attributes:
        figures: class -> metric ("detection", "orientation", "ground", "3d") -> difficulty -> figure. Metrics
            that the results lack (no 3D boxes, no orientation, no such class) are left out.
        objects: class -> difficulty -> number of labels that count.
        frames: number of frames evaluated.
        iou: name of the thresholds.
    """

    figures: Mapping[str, Mapping[str, Mapping[str, Figure]]]
    objects: Mapping[str, Mapping[str, int]]
    frames: int
    iou: str

    def as_dict(self, curves: bool = False) -> dict[str, Any]:
        """Class -> metric -> difficulty -> {R11, R40} in percent; on request with ``curve``, 41 values in [0,
        1]."""
        return {
            name: {
                metric: {
                    difficulty: {"R11": figure.R11, "R40": figure.R40}
                    | ({"curve": figure.curve.tolist()} if curves else {})
                    for difficulty, figure in by_difficulty.items()
                }
                for metric, by_difficulty in metrics.items()
            }
            for name, metrics in self.figures.items()
        }


def evaluate(
    labels: str | Path, results: str | Path, frames: Sequence[str] | None = None, iou: str = "strict"
) -> KittiResult:
    """Evaluate files.

    Args:
        labels: folder or zip of label files ``NNNNNN.txt``.
        results: folder or zip of result files ``NNNNNN.txt``; a frame without detections has an empty file.
        frames: the frames to evaluate; a frame without a result file counts as one without detections. None:
            the frames with a result file, as in the benchmark's program.
        iou: the required overlaps, see ``IOU``.

    Raises:
        CtnetError: naming file and line, for an unreadable file, a line with the wrong number of columns, a
            value that is not a finite number, and a frame without labels.
    """
    _thresholds(iou)
    return evaluate_objects(*read_files(labels, results, frames), iou)


def read_files(
    labels: str | Path, results: str | Path, frames: Sequence[str] | None = None
) -> tuple[KittiObjects, KittiObjects]:
    """Read labels and results of the same frames: arguments and errors as ``evaluate``."""
    label_files = FrameFiles(labels, LABEL_FOLDERS)
    result_files = FrameFiles(results, RESULT_FOLDERS)
    frames = result_files.names if frames is None else tuple(frames)
    if len(set(frames)) < len(frames):
        raise CtnetError("the list of frames names one twice; it would count twice")
    for name in frames:
        if name not in label_files:
            raise CtnetError(
                f"frame {name} has no label file in {label_files.source}; give a list of frames (--frames)"
            )
    return (
        _read(label_files, frames, LABEL_COLUMNS, "reading labels"),
        _read(result_files, frames, RESULT_COLUMNS, "reading results"),
    )


def evaluate_objects(labels: KittiObjects, results: KittiObjects, iou: str = "strict") -> KittiResult:
    """Evaluate objects in memory: as ``evaluate``, on all frames.

    Args:
        labels: including ``DontCare`` and the classes that are not evaluated.
        results: the results of the same frames, with scores.
        iou: the required overlaps, see ``IOU``.
    """
    if labels.frame_names != results.frame_names:
        raise ValueError("labels and results must be of the same frames in the same order")
    scene = _Scene.of(labels, results, _thresholds(iou))
    figures = {name: scene.metrics(number) for number, name in enumerate(CLASSES)}
    objects = {
        name: {kind: int(scene.counts(number, level).sum()) for level, kind in enumerate(DIFFICULTIES)}
        for number, name in enumerate(CLASSES)
    }
    present = {name: metrics for name, metrics in figures.items() if metrics}
    return KittiResult(present, objects, len(labels.frame_names), iou)


def recall_thresholds(scores: np.ndarray, objects: int) -> np.ndarray:
    """The scores at which recall is nearest to 0, 1/40, 2/40 ...: at most 41, descending.

    Args:
        scores: the scores of the detections that match a label that counts, in any order.
        objects: number of labels that count.
    """
    scores = np.sort(scores)[::-1]
    left = np.arange(1, len(scores) + 1) / max(objects, 1)
    right = np.arange(2, len(scores) + 2) / max(objects, 1)
    chosen: list[int] = []
    recall, start = 0.0, 0
    while start < len(scores):
        nearer_right = right[start:] - recall < recall - left[start:]
        nearer_right[-1] = False
        chosen.append(start + int(nearer_right.argmin()))
        start = chosen[-1] + 1
        recall += 1 / (POINTS - 1)
    return scores[chosen]


def _thresholds(iou: str) -> tuple[tuple[float, ...], ...]:
    if iou not in IOU:
        raise unknown_name("set of IoU thresholds", iou, IOU)
    return IOU[iou]


def _read(files: FrameFiles, frames: Sequence[str], columns: int, description: str) -> KittiObjects:
    types, values = [], []
    for name in track(frames, description, unit="files"):
        # A frame without a file has no objects.
        text, where = (files.read(name), files.where(name)) if name in files else ("", "")
        names, numbers = parse_lines(text, columns, where)
        types.append(names)
        values.append(numbers)
    return KittiObjects.of_frames(frames, types, values)


class _Pairs(NamedTuple):
    """Labels and results that overlap by more than their threshold; sorted by label, then by result."""

    label: np.ndarray
    result: np.ndarray
    overlap: np.ndarray

    def at(self, rows: np.ndarray) -> _Pairs:
        """A selection, or another order."""
        return _Pairs(*(column[rows] for column in self))

    def by_preference(self, keys: np.ndarray) -> _Pairs:
        """Sorted by label, then by key, highest first, then by result."""
        return self.at(np.lexsort((self.result, -keys, self.label)))


@dataclass(frozen=True)
class Steps:
    """The changes of all frames' matches as the threshold falls, of one class, metric and difficulty.

    Attributes:
        image: (E,) int64, the frame of each change, those at the highest scores first.
        score: (E,) float64, descending, the score of each change.
        right, wrong, similarity: (E,) float64, what each adds to the detections that match, to those that do
            not, and to the sum of the similarities of orientations.
        right_image: (R,) int64, the frames of the detections whose scores set the thresholds, best first.
        until: (R,) int64, the number of changes at scores not below each of these.
        objects: (N,) int64, the frame of each label that counts.
    """

    image: np.ndarray
    score: np.ndarray
    right: np.ndarray
    wrong: np.ndarray
    similarity: np.ndarray
    right_image: np.ndarray
    until: np.ndarray
    objects: np.ndarray


@dataclass(frozen=True)
class AllSteps:
    """Of all classes, metrics and difficulties.

    Attributes:
        curves: by class, metric and difficulty.
        signs: (F,) int64 by class and metric, how many results of each frame have what is compared.
        blind: (F,) int64, how many have no orientation.
    """

    curves: Mapping[tuple[int, str, int], Steps]
    signs: Mapping[tuple[int, str], np.ndarray]
    blind: np.ndarray

    def present(self, number: int, metric: str, weights: np.ndarray) -> np.ndarray:
        """(D,) bool, whether each draw has results that a metric compares."""
        if metric == "orientation":
            return np.asarray(self.present(number, "detection", weights) & (weights @ self.blind == 0))
        return np.asarray(weights @ self.signs[number, metric] > 0)


@dataclass(frozen=True)
class _Scene:
    """Labels and results, and everything that does not depend on the difficulty."""

    labels: KittiObjects
    results: KittiObjects
    label_class: np.ndarray  # (N,) index into CLASSES, for a neighbour that of its class; -1 for all others
    neighbour: np.ndarray  # (N,) bool
    label_height: np.ndarray
    result_class: np.ndarray  # (M,) index into CLASSES; -1 for all others
    result_height: np.ndarray  # whole pixels
    pairs: Mapping[str, _Pairs]  # by metric
    forgiven: Mapping[str, np.ndarray]  # (M,) bool by metric: in a DontCare region

    @classmethod
    def of(cls, labels: KittiObjects, results: KittiObjects, iou: tuple[tuple[float, ...], ...]) -> _Scene:
        names = [name.lower() for name in labels.types]
        label_class = _class_numbers([NEIGHBOURS.get(name, name) for name in names])
        result_class = _class_numbers([name.lower() for name in results.types])
        result_height = np.trunc(np.abs(results.boxes[:, 1] - results.boxes[:, 3]))
        small = result_height < max(_MIN_HEIGHT)

        def class_of_label(label: np.ndarray, result: np.ndarray) -> np.ndarray:
            fits = small[result] | (result_class[result] == label_class[label])
            return np.where(fits, label_class[label], -1)

        shapes, found = (Shapes(side.frame, side.boxes, side.boxes_3d) for side in (labels, results))
        regions = shapes[np.array([name == "dontcare" for name in names], bool)]
        inside = _overlapping(regions, found, lambda _, result: result_class[result], iou, of_second=True)
        return cls(
            labels=labels,
            results=results,
            label_class=label_class,
            neighbour=np.array([name in NEIGHBOURS for name in names], bool),
            label_height=labels.boxes[:, 3] - labels.boxes[:, 1],
            result_class=result_class,
            result_height=result_height,
            pairs=_overlapping(shapes, found, class_of_label, iou),
            forgiven={
                metric: np.isin(np.arange(len(results)), each.result) for metric, each in inside.items()
            },
        )

    def metrics(self, number: int) -> dict[str, dict[str, Figure]]:
        """Metric -> difficulty -> figure of a class; with orientation, if the results have it."""
        mine = self.result_class == number
        found: dict[str, dict[str, Figure]] = {}
        for metric, sign in self.signs(mine).items():
            if sign.any():
                both = {kind: self._figure(number, metric, level) for level, kind in enumerate(DIFFICULTIES)}
                found[metric] = {kind: precision for kind, (precision, _) in both.items()}
                if metric == "detection" and not (self.results.alpha == NO_ALPHA).any():
                    found["orientation"] = {kind: orientation for kind, (_, orientation) in both.items()}
        return found

    def signs(self, mine: np.ndarray) -> dict[str, np.ndarray]:
        """Whether each of a class's results has what a metric compares.

        Args:
            mine: (M,) bool, the results of the class.
        """
        boxes, location = self.results.boxes[mine], self.results.location[mine]
        # How the C++ program decides whether results have 3D boxes etc.: see the result format.
        signs = (boxes[:, 0] >= 0, location[:, 0] != NO_LOCATION, location[:, 1] != NO_LOCATION)
        return dict(zip(METRICS, signs, strict=True))

    def counts(self, number: int, level: int) -> np.ndarray:
        """(N,) bool: the labels of a class that count at a difficulty."""
        return np.asarray(
            (self.label_class == number)
            & ~self.neighbour
            & (self.label_height >= _MIN_HEIGHT[level])
            & (self.labels.occlusion <= _MAX_OCCLUSION[level])
            & (self.labels.truncation <= _MAX_TRUNCATION[level])
        )

    def _figure(self, number: int, metric: str, level: int) -> tuple[Figure, Figure]:
        """Precision and orientation of one class and difficulty."""
        counts = self.counts(number, level)
        objects = int(counts.sum())
        valid, pairs = self._taking_part(number, metric, level)
        scores = self.results.scores
        thresholds = recall_thresholds(scores[self._right(pairs, counts, valid)], objects)

        # At each of them, a label is matched to the largest overlap, of an ignored detection only without a
        # valid one.
        second = pairs.by_preference(np.where(valid[pairs.result], pairs.overlap, -1))
        taken = self._serve(second, scores[second.result][:, None] >= thresholds)
        right_rows = counts[second.label] & valid[second.result]
        tp = taken[right_rows].sum(axis=0)
        missed = objects - taken[counts[second.label]].sum(axis=0)
        may_be_wrong = valid & ~self.forgiven[metric]
        ordered = np.sort(scores[may_be_wrong])
        seen = len(ordered) - np.searchsorted(ordered, thresholds)
        fp = seen - taken[may_be_wrong[second.result]].sum(axis=0)
        similarity = self._similarity(second)[right_rows] @ taken[right_rows]
        found = np.maximum(tp + fp, 1)
        tallies = (objects, thresholds, tp, fp, missed)
        return _figure_of(tp / found, *tallies), _figure_of(similarity / found, *tallies)

    def _taking_part(self, number: int, metric: str, level: int) -> tuple[np.ndarray, _Pairs]:
        """(M,) bool, the results that count for a class and difficulty, and the pairs that may be matched."""
        # A detection that is too small is ignored whatever its class: it may still be matched to a label.
        ignored = self.result_height < _MIN_HEIGHT[level]
        valid = (self.result_class == number) & ~ignored
        pairs = self.pairs[metric]
        mine = (self.label_class[pairs.label] == number) & (valid | ignored)[pairs.result]
        return valid, pairs.at(mine)

    def _right(self, pairs: _Pairs, counts: np.ndarray, valid: np.ndarray) -> np.ndarray:
        """The results that match when every label takes the highest score: these set the score thresholds."""
        scores = self.results.scores
        first = pairs.by_preference(scores[pairs.result])
        taken = self._serve(first, scores[first.result][:, None] > _LOWEST_SCORE)[:, 0]
        return first.at(taken & counts[first.label] & valid[first.result]).result

    def _similarity(self, pairs: _Pairs) -> np.ndarray:
        """(P,) in [0, 1], of the orientations."""
        turn = self.labels.alpha[pairs.label] - self.results.alpha[pairs.result]
        return np.asarray((1 + np.cos(turn)) / 2)

    def steps(self, number: int, metric: str, level: int) -> Steps:
        """How the matches of every frame change as the threshold falls, see ``Steps``."""
        counts = self.counts(number, level)
        valid, pairs = self._taking_part(number, metric, level)
        scores, frame = self.results.scores, self.results.frame
        right = self._right(pairs, counts, valid)
        right = right[np.lexsort((frame[right], -scores[right]))]
        second = pairs.by_preference(np.where(valid[pairs.result], pairs.overlap, -1))
        frames = self.labels.frame[second.label]
        levels, level_of = _levels(frames, scores[second.result])
        taken = self._serve(second, level_of[:, None] <= np.arange(levels.shape[1])).astype(np.int64)
        may_be_wrong = valid & ~self.forgiven[metric]
        hits = (taken.T * (counts[second.label] & valid[second.result])).T
        changes = [
            _changes(hits, frames, levels),
            _changes(-(taken.T * may_be_wrong[second.result]).T, frames, levels),
            _changes((hits.T * self._similarity(second)).T, frames, levels),
        ]
        rows, columns = np.nonzero(np.any(changes, axis=0))
        single = np.flatnonzero(may_be_wrong)
        none = np.zeros(len(single))
        score = np.concatenate([levels[rows, columns], scores[single]])
        order = np.argsort(-score, kind="stable")
        values = zip(changes, (none, none + 1, none), strict=True)
        sums = [np.concatenate([change[rows, columns], more])[order] for change, more in values]
        return Steps(
            image=np.concatenate([rows, frame[single]])[order],
            score=score[order],
            right=sums[0],
            wrong=sums[1],
            similarity=sums[2],
            right_image=frame[right],
            until=len(score) - np.searchsorted(np.sort(score), scores[right]),
            objects=self.labels.frame[counts],
        )

    def _serve(self, pairs: _Pairs, present: np.ndarray) -> np.ndarray:
        return match_in_order(self.labels.frame[pairs.label], pairs.label, pairs.result, present)


def steps_of(labels: KittiObjects, results: KittiObjects, iou: str) -> AllSteps:
    """The steps of all classes, metrics and difficulties: arguments as ``evaluate_objects``."""
    scene = _Scene.of(labels, results, _thresholds(iou))
    curves = {
        (number, metric, level): scene.steps(number, metric, level)
        for number in range(len(CLASSES))
        for metric in METRICS
        for level in range(len(DIFFICULTIES))
    }
    count = len(labels.frame_names)
    signs = {
        (number, metric): np.bincount(results.frame[mine][sign], minlength=count)
        for number in range(len(CLASSES))
        for mine in [scene.result_class == number]
        for metric, sign in scene.signs(mine).items()
    }
    blind = np.bincount(results.frame[results.alpha == NO_ALPHA], minlength=count)
    return AllSteps(curves, signs, blind)


def _levels(frames: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The distinct scores of each frame's pairs.

    Args:
        frames: (P,) int64, the frame of each pair.
        scores: (P,) float64.

    Returns:
        (F, L) float64, descending, -inf beyond those of a frame; (P,) the place of each pair's score there.
    """
    pairs = np.stack([frames, -scores], axis=1).reshape(-1, 2)
    distinct, number = np.unique(pairs, axis=0, return_inverse=True)
    frame = distinct[:, 0].astype(np.int64)
    place = np.arange(len(frame)) - np.searchsorted(frame, frame)
    levels = np.full((int(frame.max(initial=-1)) + 1, int(place.max(initial=0)) + 1), -np.inf)
    levels[frame, place] = -distinct[:, 1]
    return levels, place[number.reshape(-1)]


def _changes(values: np.ndarray, frames: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """(F, L): sums of (P, L) over the pairs of each frame, and how they change from level to level."""
    sums = np.zeros(levels.shape)
    np.add.at(sums, frames, values)
    return np.diff(sums, axis=1, prepend=0.0)


def _figure_of(
    values: np.ndarray,
    objects: int,
    thresholds: np.ndarray,
    right: np.ndarray,
    wrong: np.ndarray,
    missed: np.ndarray,
) -> Figure:
    curve = np.zeros(POINTS)
    curve[: len(values)] = np.maximum.accumulate(values[::-1])[::-1]
    r11, r40 = 100 * float(curve[::4].mean()), 100 * float(curve[1:].mean())
    return Figure(r11, r40, curve, objects, thresholds, right, wrong, missed)


def _class_numbers(names: Sequence[str]) -> np.ndarray:
    numbers = {name: number for number, name in enumerate(CLASSES)}
    return np.array([numbers.get(name, -1) for name in names], np.int64)


def _overlapping(
    first: Shapes,
    second: Shapes,
    class_of: Callable[[np.ndarray, np.ndarray], np.ndarray],
    iou: tuple[tuple[float, ...], ...],
    of_second: bool = False,
) -> dict[str, _Pairs]:
    """The pairs whose overlap exceeds the threshold, by metric.

    Args:
        first, second: labels and results.
        class_of: the class whose thresholds apply to pairs of rows; -1 for no pair.
        iou: IoU of each metric and class.
        of_second: see ``overlaps``.
    """
    none = _Pairs(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))
    found = {metric: [none] for metric in METRICS}
    for label, result in frame_pairs(first.frame, second.frame):
        kind = class_of(label, result)
        label, result, kind = (rows[kind >= 0] for rows in (label, result, kind))
        shares = overlaps(first[label], second[result], of_second)
        for metric, overlap, demanded in zip(METRICS, shares, iou, strict=True):
            pairs = _Pairs(label, result, overlap)
            found[metric].append(pairs.at(overlap > np.array(demanded)[kind]))
    return {metric: _Pairs(*map(np.concatenate, zip(*parts, strict=True))) for metric, parts in found.items()}
