"""exdet: ExtremeNet. An object is its topmost, leftmost, bottommost and rightmost points around a centre."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from torch import Tensor

from ctnet.plugin import (
    BOX_METRICS,
    DEMO,
    SMALL,
    AnnotationWarning,
    Augmentation,
    CtnetError,
    Detections,
    Field,
    Grid,
    Heatmap,
    ImageInfo,
    Instances,
    Layout,
    Mask,
    Points,
    Recipe,
    Regression,
    Scenes,
    Suppression,
    Target,
    Task,
    box_cells,
    option,
    outline_of,
)
from ctnet_tasks_exdet.collisions import make_ghosts, share_a_point
from ctnet_tasks_exdet.drawing import draw_octagons
from ctnet_tasks_exdet.edges import EDGES, MIRRORED, box_of, side_middles
from ctnet_tasks_exdet.encode import encode_edges
from ctnet_tasks_exdet.ghosts import suppress_ghosts
from ctnet_tasks_exdet.grouping import Grouping, group_points
from ctnet_tasks_exdet.masks import extreme_points, mask_fits
from ctnet_tasks_exdet.scenes import SHAPES, draw_shapes

_RELEASE = Recipe(epochs=140, batch_size=64, learning_rate=2.5e-4, milestones=(90, 120))
_HOURGLASS = replace(_RELEASE, batch_size=24)
_DEMO = replace(
    DEMO,
    epochs=8,
    batch_size=8,
    augmentation=Augmentation(scale=(0.9, 1.1), shift=0.05, colour=0.1, lighting=0),
)

#: k points of each edge make k^4 groups: more than these no machine goes through for every image.
_MOST_POINTS = 100


@dataclass(frozen=True)
class Options:
    """Options of exdet."""

    agnostic: bool = option(False, "one heatmap per edge for all classes; the centre has the class")
    points: int = option(40, "peaks of each edge that are grouped, 1 to 100; k make k^4 groups")
    point_threshold: float = option(0.1, "least value of an extreme point's peak")
    centre_threshold: float = option(0.1, "least value of the centre heatmap between the points")
    middle: Literal["points", "cells"] = option(
        "points", "look for the centre between the points, or (the release) between their cells"
    )
    aggregation: float = option(0.0, "weight of edge aggregation; ExtremeNet's is 0.1, the release's 0")
    ghosts: Literal["keep", "suppress"] = option(
        "keep", "halve the score of boxes around boxes with three times their score"
    )
    offset_weight: float = option(1.0, "weight of each offset head")
    radius: Literal["official", "corrected"] = option("official", "formula of the Gaussian radius")
    crowd: Literal["positive", "ignore"] = option(
        "positive", "crowd regions are objects, or only soften the penalty around them"
    )


class ExtremeDetection(Task):
    """Boxes from their extreme points, grouped by their centres (ExtremeNet).

    Heads: ``centre`` [C]; for each edge a heatmap ``top``, ``left``, ``bottom``, ``right`` [C, or 1 when
    agnostic] and where in its cell the point lies, ``top_offset``, ``left_offset``, ``bottom_offset``,
    ``right_offset`` [2].

    Instances and detections carry ``extreme_points`` (N, 4, 2): the top, left, bottom and right one. They are
    those of the annotation (``extreme_points``, as the authors' tool writes them), or of its mask, or else
    the middles of its box's sides. Instances also carry the mask's ``outline``, where there is one.
    """

    name = "exdet"
    contract = 2
    Options = Options
    metrics = BOX_METRICS
    scenes = Scenes(SHAPES, draw_shapes, counts={"train": 400, "val": 60}, recipe=_DEMO)
    # As in the release: points that fit several objects make many groups, of which suppression leaves some.
    suppression = Suppression("soft", candidates=1000)
    layout = Layout(turns=False)  # a turned object has its extreme points elsewhere
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
        if not 1 <= chosen.points <= _MOST_POINTS:
            raise CtnetError(
                f"option points of task exdet is {chosen.points}; it must be 1 to {_MOST_POINTS}"
            )
        if chosen.aggregation < 0:
            raise CtnetError(
                f"option aggregation of task exdet is {chosen.aggregation}; it must be 0 or more"
            )
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
        """Extreme points that are not stated are those of the mask, or the middles of the box's sides."""
        points, middles = instances.extreme_points.copy(), side_middles(instances.boxes)
        for row in np.flatnonzero(np.isnan(points).any(axis=(1, 2))):
            outline, box = instances.outline[row], instances.boxes[row]
            fits = outline is not None and mask_fits(outline.polygons, box)
            points[row] = extreme_points(outline.polygons, box) if fits else middles[row]
        return instances.replace(extreme_points=points)

    def errors(self, annotation: Mapping[str, Any], image: Mapping[str, Any]) -> list[str]:
        """A warning of a mask that is not that of its box: the middles of its sides are taken instead."""
        if annotation.get("extreme_points") is not None or not annotation.get("segmentation"):
            return []
        outline = outline_of(annotation["segmentation"])
        if outline is None:
            return [
                AnnotationWarning("its mask is empty; the middles of its box's sides are its extreme points")
            ]
        x, y, width, height = annotation["bbox"]
        if mask_fits(outline.polygons, np.array([x, y, x + width, y + height])):
            return []
        joined = np.concatenate(outline.polygons)
        (x1, y1), (x2, y2) = joined.min(axis=0), joined.max(axis=0)
        return [
            AnnotationWarning(
                f"its mask reaches from ({x1:g}, {y1:g}) to ({x2:g}, {y2:g}), its box from ({x:g}, {y:g}) to "
                f"({x + width:g}, {y + height:g}); the middles of the box's sides are its extreme points"
            )
        ]

    def cells(self, instances: Instances, grid: Grid) -> np.ndarray:
        last = np.array([grid.width - 1, grid.height - 1], np.float32)
        return box_cells(box_of(np.clip(instances.extreme_points, 0, last)), grid.width, grid.height)

    def encode(self, instances: Instances, grid: Grid) -> dict[str, Target]:
        chosen: Options = self.options
        return encode_edges(instances, grid, chosen.radius, chosen.agnostic, chosen.crowd == "ignore")

    # --- from maps to results

    def decode(self, maps: Mapping[str, Tensor], k: int) -> Detections:
        chosen: Options = self.options
        how = Grouping(
            points=chosen.points,
            point_threshold=chosen.point_threshold,
            centre_threshold=chosen.centre_threshold,
            agnostic=chosen.agnostic,
            between_cells=chosen.middle == "cells",
            aggregation=chosen.aggregation,
        )
        found = group_points(maps, k, how)
        return suppress_ghosts(found) if chosen.ghosts == "suppress" else found

    def draw(self, image: np.ndarray, detections: Detections, info: ImageInfo | None = None) -> np.ndarray:
        return draw_octagons(image, detections, self.categories.names)

    # --- training and example data

    def recipes(self, backbone: str) -> Mapping[str, Recipe]:
        """``paper`` (the release's scripts exdet_coco_hg and exdet_coco_dla) and ``small`` (ctnet's)."""
        paper = _HOURGLASS if backbone.startswith("hourglass") else _RELEASE
        return {"paper": paper, "small": SMALL}

    # --- what the law leaves open

    def collides(self, instances: Instances, grid: Grid) -> np.ndarray:
        """Objects that share the cell of their centre or of a point, or that make a group with others."""
        chosen: Options = self.options
        points = instances.extreme_points
        classes = np.zeros_like(instances.labels) if chosen.agnostic else instances.labels
        grouped = share_a_point(points) | make_ghosts(points, classes, chosen.middle == "cells")
        collides: np.ndarray = super().collides(instances, grid) | grouped
        return collides
