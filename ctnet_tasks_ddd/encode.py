"""From objects on the grid to targets."""

from __future__ import annotations

import numpy as np
import torch

from ctnet.plugin import (
    CellTargets,
    Grid,
    Instances,
    Peaks,
    Target,
    box_centres,
    box_sizes,
    cut_to_grid,
    gaussian_radius,
)
from ctnet_tasks_ddd.heads import rotation_values


def encode_objects(instances: Instances, grid: Grid, projected: bool, rectangles: bool) -> dict[str, Target]:
    """Targets of all heads of ddd for one image.

    Args:
        instances: with the columns of ``Boxes3d``, on the grid; crowd regions are ignore regions.
        grid: the output grid.
        projected: peaks are the projected 3D centres instead of the boxes' centres.
        rectangles: an ignore region reduces the penalty in all its cells instead of as a Gaussian.
    """
    instances = cut_to_grid(instances, grid)
    heatmap = _heatmap(instances, projected, rectangles)
    instances = instances[~instances.crowd]
    boxes = instances.boxes
    cell = np.floor(peaks_of(instances, projected)).astype(np.int64)
    centre = instances.centre if projected else box_centres(boxes)
    size = box_sizes(boxes)
    if projected:
        size = np.concatenate([centre - boxes[:, :2], boxes[:, 2:] - centre], axis=1)
    known = np.isfinite(instances.dimensions).all(axis=1, keepdims=True)
    angle_known = np.isfinite(instances.alpha)[:, None]
    rotation, counts = rotation_values(np.nan_to_num(instances.alpha))
    return {
        "heatmap": heatmap,
        "offset": CellTargets.of(cell, centre - cell),
        "size": CellTargets.of(cell, size),
        "depth": CellTargets.of(cell, np.nan_to_num(instances.depth_target)[:, None], known),
        "dimensions": CellTargets.of(cell, np.nan_to_num(instances.dimensions), known.repeat(3, axis=1)),
        "rotation": CellTargets.of(cell, rotation, counts * angle_known),
    }


def peaks_of(instances: Instances, projected: bool) -> np.ndarray:
    """(N, 2): the peaks of objects, on the grid.

    An object whose 3D centre is projected outside its box (at the image's border, for example) has its peak
    in the nearest cell of the box.

    Args:
        instances: on the grid, with boxes clipped to it.
        projected: see ``encode_objects``.
    """
    boxes = instances.boxes
    if not projected:
        return box_centres(boxes)
    return np.asarray(np.clip(instances.centre, boxes[:, :2], boxes[:, 2:]))


def _heatmap(instances: Instances, projected: bool, rectangles: bool) -> Peaks:
    points = peaks_of(instances, projected)
    size = torch.from_numpy(box_sizes(instances.boxes))
    # As released, sizes are not rounded up here, unlike those of ctdet.
    radius = gaussian_radius(size[:, 1], size[:, 0]).numpy().astype(np.int64).clip(min=0)
    labels, positive = instances.labels, ~instances.crowd
    if rectangles:
        regions = [_cells(box) for box in instances.boxes[~positive]]
        counts = [len(region) for region in regions]
        points = np.concatenate([points[positive], *regions])
        radius = np.concatenate([radius[positive], np.zeros(sum(counts), np.int64)])
        labels = np.concatenate([labels[positive], np.repeat(labels[~positive], counts)])
        positive = np.arange(len(points)) < positive.sum()
    return Peaks.of(points, radius, labels, positive)


def _cells(box: np.ndarray) -> np.ndarray:
    """(M, 2): all cells that a box touches."""
    left, top, right, bottom = np.floor(box).astype(int)
    x, y = np.meshgrid(np.arange(left, right + 1), np.arange(top, bottom + 1))
    return np.stack([x, y], axis=2).reshape(-1, 2)
