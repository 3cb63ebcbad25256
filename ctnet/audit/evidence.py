"""What a detector sees of the annotations of images: its detections, and its heatmaps at every annotation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from ctnet.core.fields import found_columns, move_record
from ctnet.core.heads import Heatmap
from ctnet.core.records import Detections, Instances
from ctnet.core.targets import Grid, Peaks, Target
from ctnet.core.task import Task
from ctnet.data.dataset import Dataset
from ctnet.data.problems import Problem
from ctnet.evaluation.matching import is_ignored
from ctnet.inference.detector import Detector
from ctnet.inference.preprocessing import Prepared
from ctnet.measuring.reading import Settings
from ctnet.measuring.run import detect_all
from ctnet.ops.boxes import box_coverage

#: Detections with a lower score say nothing.
LOWEST_SCORE = 0.05
#: Half the side of the window around an annotation's cell, as a fraction of the object's side.
_WINDOW = 0.1
#: Fraction of a detection that a region covers which does not count, from which on it is part of that.
_COVERED = 0.5


@dataclass(frozen=True)
class Evidence:
    """The annotations of an image, and what a detector sees there.

    Attributes:
        index: the image, an index of the audited data set.
        source: which detector: the number of its fold.
        annotated: N annotated objects (no crowd regions) as detections of score 1, in image pixels.
        ids: (N,) int64, the annotations' ids.
        ignored: (N,) bool, objects that the annotations say do not count (``difficult``, ``ignore``).
        found: M detections in image pixels, highest score first.
        excused: (M,) bool, detections mostly inside a crowd region or an object that does not count.
        overlap: (M, N) in [0, 1], ``Task.overlap`` of detections and objects.
        together: (N, N), of the objects with each other.
        repeated: (M, M), of the detections with each other.
        seen: (N, C), the highest value of each class's heatmap around the object's cell; 0 where the task has
            no heatmap of classes.
    """

    index: int
    source: int
    annotated: Detections
    ids: np.ndarray
    ignored: np.ndarray
    found: Detections
    excused: np.ndarray
    overlap: np.ndarray
    together: np.ndarray
    repeated: np.ndarray
    seen: np.ndarray


def collect(
    detector: Detector,
    dataset: Dataset,
    rows: np.ndarray,
    settings: Settings,
    problems: list[Problem],
    source: int = 0,
) -> list[Evidence]:
    """Run a detector over images, and compare what it sees with their annotations.

    Args:
        detector: should not have learnt from these images.
        dataset: the audited data set, bound to the detector's task.
        rows: the images, indices of the data set.
        settings: test-time settings.
        problems: images that cannot be read are added.
        source: number of the detector.
    """
    part = dataset.subset(rows)
    watch = _Watch(part, detector.task, detector.description.stride)
    found = dict(detect_all(detector, part, settings, problems, keep_maps=watch))
    return [
        _evidence(detector.task, dataset, int(row), source, found[image_id], watch.seen[image_id])
        for row, image_id in zip(rows, part.image_ids.tolist(), strict=True)
        if image_id in found
    ]


def objects_of(task: Task, instances: Instances) -> Detections:
    """All instances, crowd regions included, as detections of score 1."""
    columns = found_columns(task.fields, instances.fields())
    return Detections(instances.boxes, np.ones(len(instances), np.float32), instances.labels, columns)


def _evidence(
    task: Task, dataset: Dataset, row: int, source: int, found: Detections, seen: np.ndarray
) -> Evidence:
    annotations, instances = dataset.annotations(row), dataset.instances(row)
    kept = ~instances.crowd
    aside = np.array([is_ignored(entry) for entry in annotations], bool).reshape(-1)
    found = found[np.asarray(found.scores) >= LOWEST_SCORE]
    boxes = np.asarray(found.boxes, np.float64).reshape(-1, 4)
    covered = box_coverage(boxes, instances.boxes[aside].astype(np.float64))
    annotated = objects_of(task, instances[kept])
    return Evidence(
        row,
        source,
        annotated,
        annotations.ids[kept],
        aside[kept],
        found,
        covered.max(axis=1, initial=0.0) >= _COVERED,
        _overlaps(task, found, annotated),
        _overlaps(task, annotated, annotated),
        _overlaps(task, found, found),
        seen[kept],
    )


def _overlaps(task: Task, one: Detections, other: Detections) -> np.ndarray:
    if not len(one) or not len(other):
        return np.zeros((len(one), len(other)))
    return np.asarray(task.overlap(one, other), np.float64)


class _Watch:
    """Reads the class heatmaps at the annotations of every image while a detector runs over them.

    Attributes:
        seen: image id -> (N, C), see ``Evidence.seen``; of all annotations, crowd regions included.
    """

    def __init__(self, dataset: Dataset, task: Task, stride: int) -> None:
        self._dataset, self._task, self._stride = dataset, task, stride
        self._rows = {image_id: row for row, image_id in enumerate(dataset.image_ids.tolist())}
        self.seen: dict[int, np.ndarray] = {}

    def __call__(self, maps: Mapping[str, Tensor], batch: Sequence[Prepared], scale: float) -> None:
        for number, prepared in enumerate(batch):
            image_id = prepared.info.image_id
            instances = self._dataset.instances(self._rows[image_id])
            to_grid = prepared.view(self._stride).affine.inverse()
            on_grid = move_record(instances, to_grid, self._task.fields)
            height, width = next(iter(maps.values())).shape[2:]
            self.seen[image_id] = self._around(maps, number, on_grid, Grid(height, width))

    def _around(self, maps: Mapping[str, Tensor], number: int, on_grid: Instances, grid: Grid) -> np.ndarray:
        classes = len(self._task.categories)
        seen = np.zeros((len(on_grid), classes), np.float32)
        name = _class_heatmap(self._task, on_grid, grid)
        if name is None:
            return seen
        values = maps[name][number].float().cpu().numpy()
        cells = self._task.cells(on_grid, grid)
        sides = on_grid.boxes[:, 2:] - on_grid.boxes[:, :2]
        reach = np.maximum(np.round(_WINDOW * sides), 1).astype(np.int64)
        for row in np.flatnonzero((cells >= 0).all(axis=1)):
            (x, y), (across, down) = cells[row], reach[row]
            window = values[:, max(y - down, 0) : y + down + 1, max(x - across, 0) : x + across + 1]
            seen[row] = window.max(axis=(1, 2))
        return seen


def _class_heatmap(task: Task, on_grid: Instances, grid: Grid) -> str | None:
    """The head whose heatmap has a channel per class, with its peaks at the objects' cells; None: none has.

    It is recognised by what the task encodes, not by a name: the objects of a task with several heatmaps
    (of joints, of extreme points) have their own cells only in one of them.
    """
    classes = len(task.categories)
    candidates = [
        name for name, head in task.heads.items() if isinstance(head, Heatmap) and head.channels == classes
    ]
    if not candidates or not len(on_grid):
        return None
    cells = task.cells(on_grid, grid)
    shown = (cells >= 0).all(axis=1)
    wanted = {
        (int(x), int(y), int(label))
        for (x, y), label in zip(cells[shown], on_grid.labels[shown], strict=True)
    }
    targets = task.encode(on_grid, grid)
    return max(candidates, key=lambda name: len(wanted & _peaks(targets[name])), default=None)


def _peaks(target: Target) -> set[tuple[int, int, int]]:
    if not isinstance(target, Peaks):
        return set()
    columns = (target.x.floor().long(), target.y.floor().long(), target.channel)
    return set(zip(*(column.tolist() for column in columns), strict=True))
