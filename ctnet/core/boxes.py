"""Helpers of box tasks: the radius of a box's Gaussian, and boxes clipped to the grid."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch

from ctnet.core.records import Instances
from ctnet.core.targets import Grid
from ctnet.heatmap import gaussian_radius
from ctnet.ops.boxes import box_centres

#: Which formula gives a Gaussian's radius, see ``gaussian_radius``.
RadiusFormula = Literal["official", "corrected"]


def box_radius(size: np.ndarray, variant: RadiusFormula) -> np.ndarray:
    """Gaussian radius (N,) int64, cells, of boxes with ``size`` (N, 2) = (width, height) in cells."""
    whole = np.ceil(size)
    return (
        gaussian_radius(torch.from_numpy(whole[:, 1]), torch.from_numpy(whole[:, 0]), variant=variant)
        .numpy()
        .astype(np.int64)
        .clip(min=0)
    )


def clip_boxes(boxes: np.ndarray, width: float, height: float) -> np.ndarray:
    """Clip xyxy boxes to a frame whose last pixel is (width - 1, height - 1).

    Source: the released code encodes targets from boxes clipped this way.
    """
    limit = np.array([width - 1, height - 1, width - 1, height - 1], boxes.dtype)
    clipped: np.ndarray = np.clip(boxes, np.zeros_like(limit), limit)
    return clipped


def cut_to_grid(instances: Instances, grid: Grid) -> Instances:
    """The instances that are at least partly on a grid, with their boxes clipped to it.

    A box that lies outside, or degenerates to a line, has no area and is left out.
    """
    boxes = clip_boxes(instances.boxes, grid.width, grid.height)
    return instances.replace(boxes=boxes)[(boxes[:, 2:] > boxes[:, :2]).all(axis=1)]


def box_cells(boxes: np.ndarray, width: int, height: int) -> np.ndarray:
    """(N, 2) int64: cells (x, y) of the centres of xyxy boxes clipped to a grid; -1 where nothing is left."""
    shown = clip_boxes(boxes, width, height)
    visible: np.ndarray = np.all(shown[:, 2:] > shown[:, :2], axis=1, keepdims=True)
    cells: np.ndarray = np.where(visible, box_centres(shown), -1).astype(np.int64)
    return cells
