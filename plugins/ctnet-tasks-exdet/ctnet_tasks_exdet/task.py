"""exdet: ExtremeNet. An object is its topmost, leftmost, bottommost and rightmost points around a centre."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from torch import Tensor

from ctnet.plugin import (
    BOX_METRICS,
    DEMO,
    SMALL,
    AnnotationWarning,
    Augmentation,
    CellTargets,
    Detections,
    Field,
    Grid,
    Heatmap,
    ImageInfo,
    Instances,
    Layout,
    Mask,
    Peaks,
    Points,
    Recipe,
    Regression,
    Scenes,
    Suppression,
    Target,
    Task,
    box_cells,
    box_centres,
    box_radius,
    box_sizes,
    cut_to_grid,
    outline_of,
)
from ctnet_tasks_exdet.collisions import make_ghosts, share_a_point
from ctnet_tasks_exdet.drawing import draw_octagons
from ctnet_tasks_exdet.edges import EDGES, MIRRORED, box_of, side_midpoints
from ctnet_tasks_exdet.ghosts import suppress_ghosts
from ctnet_tasks_exdet.grouping import group_points
from ctnet_tasks_exdet.masks import extreme_points, mask_fits, reach_of
from ctnet_tasks_exdet.options import Options
from ctnet_tasks_exdet.scenes import SHAPES, draw_shapes

_RELEASE = Recipe(epochs=140, batch_size=64, learning_rate=2.5e-4, milestones=(90, 120))
_HOURGLASS = replace(_RELEASE, batch_size=24)
_DEMO = replace(
    DEMO,
    epochs=8,
    batch_size=8,
    augmentation=Augmentation(scale=(0.9, 1.1), shift=0.05, colour=0.1, lighting=0),
)


class ExtremeDetection(Task):
    """Boxes from their extreme points, grouped by their centres (ExtremeNet).

    Heads: ``centre`` [C]; for each edge a heatmap ``top``, ``left``, ``bottom``, ``right`` [C, or 1 when
    agnostic] and the point's offset within its cell, ``top_offset``, ``left_offset``, ``bottom_offset``,
    ``right_offset`` [2].

    Instances and detections carry ``extreme_points`` (N, 4, 2): the top, left, bottom and right one. They are
    taken from the annotation (``extreme_points``, as written by the authors' tool), from its mask, or else
    are the midpoints of its box's sides. Instances also have the mask's ``outline``, where there is one.
    """

    name = "exdet"
    contract = 2
    Options = Options
    metrics = BOX_METRICS
    scenes = Scenes(SHAPES, draw_shapes, counts={"train": 400, "val": 60}, recipe=_DEMO)
    # As released: points that fit several objects form many groups, which suppression reduces.
    suppression = Suppression("soft", candidates=1000)
    layout = Layout(rotatable=False)  # rotating an object changes its extreme points
    fields: Mapping[str, Field] = {
        "extreme_points": Points(
            json="extreme_points",
            needed="never",
            measured=False,  # the box around them is
            n=4,
            swap=MIRRORED,
            names=EDGES,
        ),
        "outline": Mask(),
    }

    def __init__(self, categories: Any, **options: Any) -> None:
        super().__init__(categories, **options)
        chosen: Options = self.options
        classes = len(self.categories)
        agnostic = 1 if chosen.agnostic else classes
        twins = {edge: EDGES[other] for edge, other in zip(EDGES, MIRRORED, strict=True)}
        self.heads = {
            "centre": Heatmap(classes, released="hm_c"),
            **{edge: Heatmap(agnostic, twin=twins[edge], released=f"hm_{edge[0]}") for edge in EDGES},
            **{
                f"{edge}_offset": Regression(2, weight=chosen.offset_weight, released=f"reg_{edge[0]}")
                for edge in EDGES
            },
        }

    # --- from annotations to targets

    def complete(self, instances: Instances, image: Mapping[str, Any]) -> Instances:
        """Missing extreme points are taken from the mask, or are the midpoints of the box's sides."""
        points, middles = instances.extreme_points.copy(), side_midpoints(instances.boxes)
        for row in np.flatnonzero(np.isnan(points).any(axis=(1, 2))):
            outline, box = instances.outline[row], instances.boxes[row]
            fits = outline is not None and mask_fits(outline.polygons, box)
            points[row] = extreme_points(outline.polygons, box) if fits else middles[row]
        return instances.replace(extreme_points=points)

    def errors(self, annotation: Mapping[str, Any], image: Mapping[str, Any]) -> list[str]:
        """A warning about a mask that does not match its box: the midpoints of its sides are used instead."""
        if annotation.get("extreme_points") is not None or not annotation.get("segmentation"):
            return []
        outline = outline_of(annotation["segmentation"])
        if outline is None:
            return [
                AnnotationWarning(
                    "its mask is empty; its extreme points are the midpoints of its box's sides"
                )
            ]
        x, y, width, height = annotation["bbox"]
        if mask_fits(outline.polygons, np.array([x, y, x + width, y + height])):
            return []
        x1, y1, x2, y2 = reach_of(outline.polygons)
        return [
            AnnotationWarning(
                f"its mask reaches from ({x1:g}, {y1:g}) to ({x2:g}, {y2:g}), its box from ({x:g}, {y:g}) to "
                f"({x + width:g}, {y + height:g}); the middles of the box's sides are its extreme points"
            )
        ]

    def cells(self, instances: Instances, grid: Grid) -> np.ndarray:
        return box_cells(_within(instances, grid).boxes, grid.width, grid.height)

    def encode(self, instances: Instances, grid: Grid) -> dict[str, Target]:
        """As in the released code every point's Gaussian has the radius of that of the object's centre."""
        chosen: Options = self.options
        shown = cut_to_grid(_within(instances, grid), grid)
        radii = box_radius(box_sizes(shown.boxes), chosen.radius)
        positive = ~(shown.crowd & (chosen.crowd == "ignore"))
        channel = np.zeros_like(shown.labels) if chosen.agnostic else shown.labels
        centre = Peaks.of(box_centres(shown.boxes), radii, shown.labels, positive)
        targets: dict[str, Target] = {"centre": centre}
        for name, at in zip(EDGES, shown.extreme_points.swapaxes(0, 1), strict=True):
            targets[name] = Peaks.of(at, radii, channel, positive)
            cell = at[positive].astype(np.int64)
            targets[f"{name}_offset"] = CellTargets.of(cell, at[positive] - cell)
        return targets

    # --- from maps to results

    def decode(self, maps: Mapping[str, Tensor], k: int) -> Detections:
        found = group_points(maps, k, self.options)
        return suppress_ghosts(found) if self.options.ghosts == "suppress" else found

    def draw(self, image: np.ndarray, detections: Detections, info: ImageInfo | None = None) -> np.ndarray:
        return draw_octagons(image, detections, self.categories.names)

    # --- training and example data

    def recipes(self, backbone: str) -> Mapping[str, Recipe]:
        """``paper`` (the released scripts exdet_coco_hg and exdet_coco_dla) and ``small`` (ctnet's)."""
        paper = _HOURGLASS if backbone.startswith("hourglass") else _RELEASE
        return {"paper": paper, "small": SMALL}

    # --- limits of the round trip

    def collides(self, instances: Instances, grid: Grid) -> np.ndarray:
        """Objects that share the cell of their centre or of a point, or that form a group with others."""
        chosen: Options = self.options
        points = instances.extreme_points
        classes = np.zeros_like(instances.labels) if chosen.agnostic else instances.labels
        grouped = share_a_point(points) | make_ghosts(points, classes, chosen.middle == "cells")
        return np.asarray(super().collides(instances, grid) | grouped)


def _within(instances: Instances, grid: Grid) -> Instances:
    """Instances with points outside a grid moved to its border, as released; boxes follow."""
    points = np.clip(instances.extreme_points, 0, np.array([grid.width - 1, grid.height - 1], np.float32))
    return instances.replace(boxes=box_of(points), extreme_points=points)
