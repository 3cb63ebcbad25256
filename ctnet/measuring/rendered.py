"""The round trip on real annotations: a task's targets are rendered and decoded."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ctnet.core.fields import move_record
from ctnet.core.geometry import View
from ctnet.core.records import Detections, Instances
from ctnet.core.targets import Grid, Target
from ctnet.core.task import Task
from ctnet.data.dataset import Dataset
from ctnet.inference.decoding import decode, merge
from ctnet.inference.preprocessing import Preprocessor
from ctnet.inference.settings import DetectionSettings
from ctnet.ops.boxes import box_centres, box_iou, box_sizes


@dataclass(frozen=True)
class Rendered:
    """One image's annotations after encoding, rendering and decoding.

    Attributes:
        instances: the annotated objects, in image pixels.
        on_grid: the same on the output grid.
        targets: their encoded targets.
        detections: decoded from the rendered maps, in image pixels, scores above zero.
    """

    instances: Instances
    on_grid: Instances
    targets: dict[str, Target]
    detections: Detections


def render(
    task: Task, dataset: Dataset, index: int, preprocess: Preprocessor, topk: int, stride: int = 4
) -> Rendered:
    """Encode, render and decode one image's annotations, as with a perfect network.

    Args:
        task: encodes, renders, decodes.
        dataset: the annotations; images are not read.
        index: the index of the image.
        preprocess: the geometry of a detector.
        topk: maximum number of detections.
        stride: input pixels per output cell.
    """
    info = dataset.info(index)
    affine, (width, height) = preprocess.geometry(info.width, info.height)
    view = View.through(info, affine, stride)
    instances = dataset.instances(index)
    on_grid = move_record(instances, view.affine.inverse(), task.fields)
    grid = Grid(height // stride, width // stride)
    targets = task.encode(on_grid, grid)
    maps = {name: head.render(targets[name], grid) for name, head in task.heads.items()}
    # With the default suppression of this task's detectors.
    settings = DetectionSettings(topk=topk)
    return Rendered(instances, on_grid, targets, merge(task, decode(task, maps, [view], settings), settings))


def explain_misses(rendered: Rendered, threshold: float) -> list[str]:
    """The cause of every object that is not recovered by a detection of its own with this IoU.

    Args:
        rendered: one image.
        threshold: the IoU required between an object and the detection matched to it.

    Returns:
        One cause per missed object (no crowd regions); "unexplained" would be a bug of the task.
    """
    return [cause for _, cause in missed_objects(rendered, threshold)]


def missed_objects(rendered: Rendered, threshold: float, topk: int | None = None) -> list[tuple[int, str]]:
    """The row of every object that is not recovered, and the cause: see ``explain_misses``.

    Args:
        rendered, threshold: see ``explain_misses``.
        topk: the maximum number of detections, which may be a cause as well.
    """
    instances, found, on_grid = rendered.instances, rendered.detections, rendered.on_grid
    overlap = box_iou(instances.boxes, found.boxes)
    overlap[instances.labels[:, None] != found.labels[None, :]] = 0
    best = _one_to_one(overlap)
    cells = np.floor(box_centres(on_grid.boxes)).astype(int)
    extents = box_sizes(on_grid.boxes)
    causes = []
    for i in np.flatnonzero((best < threshold) & ~instances.crowd).tolist():
        others = np.arange(len(instances)) != i
        same_class = others & (instances.labels == instances.labels[i])
        same_cell = others & (cells == cells[i]).all(axis=1)
        beside = same_class & (np.abs(cells - cells[i]).max(axis=1) <= 1)
        if (same_cell & same_class).any():
            cause = "collision: another object of its class has its centre in the same cell"
        elif same_cell.any():
            cause = "collision: the size is that of an object of another class in the same cell"
        elif beside.any():
            cause = "neighbouring peaks of one class"
        elif topk is not None and len(instances) > topk:
            cause = f"more objects in the image than the {topk} detections that are kept"
        elif best[i] >= 1 - 2 / max(extents[i].min(), 1e-6):
            cause = "cut at the last cell of the grid (less than one cell per side)"
        else:
            cause = "unexplained"
        causes.append((i, cause))
    return causes


def under_a_cell(rendered: Rendered) -> list[int]:
    """The rows of objects with a side shorter than a cell, without crowd regions."""
    small = (box_sizes(rendered.on_grid.boxes) < 1).any(axis=1) & ~rendered.instances.crowd
    return [int(row) for row in np.flatnonzero(small)]


def _one_to_one(overlap: np.ndarray) -> np.ndarray:
    """Each row's IoU in a greedy one-to-one matching, largest overlaps first."""
    best = np.zeros(len(overlap))
    remaining = overlap.copy()
    while remaining.size and remaining.max() > 0:
        row, column = np.unravel_index(remaining.argmax(), remaining.shape)
        best[row] = remaining[row, column]
        remaining[row], remaining[:, column] = 0, 0
    return best
