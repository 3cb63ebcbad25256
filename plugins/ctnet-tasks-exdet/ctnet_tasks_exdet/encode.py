"""From extreme points on the grid to targets."""

from __future__ import annotations

from typing import Literal

import numpy as np

from ctnet.plugin import CellTargets, Grid, Instances, Peaks, Target, box_centres, box_radius
from ctnet_tasks_exdet.edges import EDGES, box_of


def encode_edges(
    instances: Instances,
    grid: Grid,
    radius: Literal["official", "corrected"],
    agnostic: bool,
    ignore_crowds: bool,
) -> dict[str, Target]:
    """Targets of all heads for one image.

    As in the released code points beyond the grid are moved to its border, and every point's Gaussian is as
    wide as that of the object's centre.

    Args:
        instances: with ``extreme_points`` (N, 4, 2) on the grid.
        grid: the output grid.
        radius: formula of the Gaussian radius.
        agnostic: all classes share one heatmap for each edge.
        ignore_crowds: crowd regions only soften the penalty around their points.
    """
    last = np.array([grid.width - 1, grid.height - 1], np.float32)
    points = np.clip(instances.extreme_points, 0, last)
    boxes = box_of(points)
    # A box that lies outside the crop, or shows only as a line, has no area left: it is no object here.
    visible = (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
    points, boxes, instances = points[visible], boxes[visible], instances[visible]
    radii = box_radius(boxes[:, 2:] - boxes[:, :2], radius)
    labels = instances.labels
    positive = ~instances.crowd if ignore_crowds else np.ones(len(instances), bool)
    channel = np.zeros_like(labels) if agnostic else labels
    cells = points.astype(np.int64)
    centre = box_centres(boxes)
    targets: dict[str, Target] = {"centre": Peaks.of(centre, radii, labels, positive)}
    for edge, name in enumerate(EDGES):
        targets[name] = Peaks.of(points[:, edge], radii, channel, positive)
        cell = cells[positive, edge]
        targets[f"{name}_offset"] = CellTargets.of(cell, points[positive, edge] - cell)
    return targets
