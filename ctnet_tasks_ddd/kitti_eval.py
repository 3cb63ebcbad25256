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

_POINTS = 41  # of a curve
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
        recall += 1 / (_POINTS - 1)
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
        boxes, location = self.results.boxes[mine], self.results.location[mine]
        # How the C++ program decides whether results have 3D boxes etc.: see the result format.
        signs = (boxes[:, 0] >= 0, location[:, 0] != NO_LOCATION, location[:, 1] != NO_LOCATION)
        found: dict[str, dict[str, Figure]] = {}
        for metric, sign in zip(METRICS, signs, strict=True):
            if sign.any():
                both = {kind: self._figure(number, metric, level) for level, kind in enumerate(DIFFICULTIES)}
                found[metric] = {kind: precision for kind, (precision, _) in both.items()}
                if metric == "detection" and not (self.results.alpha == NO_ALPHA).any():
                    found["orientation"] = {kind: orientation for kind, (_, orientation) in both.items()}
        return found

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
        # A detection that is too small is ignored whatever its class: it may still be matched to a label.
        ignored = self.result_height < _MIN_HEIGHT[level]
        valid = (self.result_class == number) & ~ignored
        pairs = self.pairs[metric]
        pairs = pairs.at((self.label_class[pairs.label] == number) & (valid | ignored)[pairs.result])
        scores = self.results.scores

        # First every label is matched to the highest score: this determines the score thresholds.
        first = pairs.by_preference(scores[pairs.result])
        taken = self._serve(first, scores[first.result][:, None] > _LOWEST_SCORE)[:, 0]
        right = first.at(taken & counts[first.label] & valid[first.result])
        thresholds = recall_thresholds(scores[right.result], objects)

        # Then, at each of them, to the largest overlap; to an ignored detection only if there is no valid
        # one.
        second = pairs.by_preference(np.where(valid[pairs.result], pairs.overlap, -1))
        taken = self._serve(second, scores[second.result][:, None] >= thresholds)
        right_rows = counts[second.label] & valid[second.result]
        tp = taken[right_rows].sum(axis=0)
        missed = objects - taken[counts[second.label]].sum(axis=0)
        may_be_wrong = valid & ~self.forgiven[metric]
        ordered = np.sort(scores[may_be_wrong])
        seen = len(ordered) - np.searchsorted(ordered, thresholds)
        fp = seen - taken[may_be_wrong[second.result]].sum(axis=0)
        turn = self.labels.alpha[second.label] - self.results.alpha[second.result]
        similarity = ((1 + np.cos(turn[right_rows])) / 2) @ taken[right_rows]
        found = np.maximum(tp + fp, 1)
        tallies = (objects, thresholds, tp, fp, missed)
        return _figure_of(tp / found, *tallies), _figure_of(similarity / found, *tallies)

    def _serve(self, pairs: _Pairs, present: np.ndarray) -> np.ndarray:
        return match_in_order(self.labels.frame[pairs.label], pairs.label, pairs.result, present)


def _figure_of(
    values: np.ndarray,
    objects: int,
    thresholds: np.ndarray,
    right: np.ndarray,
    wrong: np.ndarray,
    missed: np.ndarray,
) -> Figure:
    curve = np.zeros(_POINTS)
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
