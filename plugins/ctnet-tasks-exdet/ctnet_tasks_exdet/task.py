"""exdet: ExtremeNet. An object is its topmost, leftmost, bottommost and rightmost points around a centre."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np
from torch import Tensor

from ctnet.plugin import (
    DEMO,
    SMALL,
    Affine,
    Annotations,
    Augmentation,
    CocoBoxEvaluator,
    CtnetError,
    Detections,
    Evaluator,
    Grid,
    GroundTruth,
    Heatmap,
    ImageInfo,
    Instances,
    Recipe,
    Regression,
    Sample,
    Target,
    Task,
    option,
    unknown_name,
)
from ctnet_tasks_exdet.collisions import make_ghosts, share_a_point
from ctnet_tasks_exdet.edges import EDGES, MIRRORED, side_middles
from ctnet_tasks_exdet.encode import encode_edges
from ctnet_tasks_exdet.ghosts import suppress_ghosts
from ctnet_tasks_exdet.grouping import Grouping, group_points
from ctnet_tasks_exdet.masks import extreme_points, mask_fits, outlines, segmentation_faults
from ctnet_tasks_exdet.scenes import SHAPES, draw_shapes

_RELEASE = Recipe(epochs=140, batch_size=64, learning_rate=2.5e-4, drops=(90, 120))
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
    the middles of its box's sides.
    """

    name = "exdet"
    contract = 2
    point_fields = ("boxes", "extreme_points")
    release_names: ClassVar[Mapping[str, str]] = {
        "centre": "hm_c",
        **{edge: f"hm_{edge[0]}" for edge in EDGES},
        **{f"{edge}_offset": f"reg_{edge[0]}" for edge in EDGES},
    }
    # As in the release: points that fit several objects make many groups, of which suppression leaves some.
    nms = "soft"
    candidates = 1000
    Options = Options
    example_categories = SHAPES
    demo_recipe = _DEMO
    demo_scenes: ClassVar[Mapping[str, int]] = {"train": 400, "val": 60}

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
        self.heads = {
            "centre": Heatmap(classes),
            **{edge: Heatmap(1 if chosen.agnostic else classes) for edge in EDGES},
            **{f"{edge}_offset": Regression(2, weight=chosen.offset_weight) for edge in EDGES},
        }

    # --- from annotations to targets

    def parse(self, annotations: Annotations, image: Mapping[str, Any]) -> Instances:
        instances = super().parse(annotations, image)
        points = side_middles(instances.boxes)
        for row, (annotation, box) in enumerate(zip(annotations, annotations.boxes, strict=True)):
            if annotation.get("extreme_points") is not None:
                points[row] = np.reshape(annotation["extreme_points"], (4, 2))
            elif (contours := outlines(annotation.get("segmentation"))) and mask_fits(contours, box):
                points[row] = extreme_points(contours, box)
        return instances.replace(extreme_points=points)

    def faults(self, annotation: Mapping[str, Any], image: Mapping[str, Any]) -> list[str]:
        """Extreme points or masks of a wrong form."""
        points = annotation.get("extreme_points")
        if points is not None:
            return (
                [] if _are_points(points) else [f"extreme_points are {points!r}, not x and y of four points"]
            )
        return segmentation_faults(annotation.get("segmentation"), image["width"], image["height"])

    def remarks(self, annotation: Mapping[str, Any], image: Mapping[str, Any]) -> list[str]:
        """A mask that is not that of its box: the middles of the box's sides are taken instead."""
        if annotation.get("extreme_points") is not None or not annotation.get("segmentation"):
            return []
        contours = outlines(annotation["segmentation"])
        if not contours:
            return ["its mask is empty; the middles of its box's sides are its extreme points"]
        x, y, width, height = annotation["bbox"]
        if mask_fits(contours, np.array([x, y, x + width, y + height])):
            return []
        joined = np.concatenate(contours)
        (x1, y1), (x2, y2) = joined.min(axis=0), joined.max(axis=0)
        return [
            f"its mask reaches from ({x1:g}, {y1:g}) to ({x2:g}, {y2:g}), its box from ({x:g}, {y:g}) to "
            f"({x + width:g}, {y + height:g}); the middles of the box's sides are its extreme points"
        ]

    def annotate(self, instances: Instances) -> list[dict[str, Any]]:
        rows = instances.extreme_points.astype(float).round(2).tolist()
        return [
            {**entry, "extreme_points": points}
            for entry, points in zip(super().annotate(instances), rows, strict=True)
        ]

    def swap_sides(self, instances: Instances) -> Instances:
        return instances.replace(extreme_points=instances.extreme_points[:, MIRRORED])

    def mirror_maps(self, maps: Mapping[str, Tensor]) -> dict[str, Tensor | None]:
        """Left and right points change places; offsets are not averaged."""
        mirrored = super().mirror_maps(maps)
        swapped = {edge: mirrored[EDGES[other]] for edge, other in zip(EDGES, MIRRORED, strict=True)}
        return {**mirrored, **swapped}

    def reframe_instances(self, instances: Instances, change: Affine) -> Instances:
        if len(instances) and abs(change.matrix[0, 1]) > 1e-6:
            raise CtnetError(
                "task exdet cannot learn from turned images, since a turned object has its extreme points "
                "elsewhere; leave --rotate out"
            )
        return instances

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

    def results(self, image_id: int, detections: Detections) -> list[dict[str, Any]]:
        rows = detections.extreme_points.tolist()
        return [
            {**entry, "extreme_points": points}
            for entry, points in zip(super().results(image_id, detections), rows, strict=True)
        ]

    def read_results(self, entries: Sequence[Mapping[str, Any]]) -> Detections:
        """As ``Task.read_results``; a box without extreme points, anybody's, has the middles of its sides."""
        found = super().read_results(entries)
        points = side_middles(found.boxes)
        for row, entry in enumerate(entries):
            if "extreme_points" in entry:
                points[row] = np.reshape(np.asarray(entry["extreme_points"], np.float64), (4, 2))
        return found.replace(extreme_points=points)

    def evaluator(
        self, truth: GroundTruth, metric: str | None = None, engine: str | None = None
    ) -> Evaluator:

        if metric not in (None, *self.metrics):
            raise unknown_name(f"metric of task {self.name}", str(metric), self.metrics)
        engine = engine or "faster-coco-eval"
        return CocoBoxEvaluator(truth.as_coco(), self.category_ids, self.class_names, engine)

    def draw(self, image: np.ndarray, detections: Detections, info: ImageInfo | None = None) -> np.ndarray:
        from ctnet_tasks_exdet.drawing import draw_octagons

        return draw_octagons(image, detections, self.class_names)

    # --- training and example data

    def recipes(self, backbone: str) -> Mapping[str, Recipe]:
        """``paper`` (the release's scripts exdet_coco_hg and exdet_coco_dla) and ``small`` (ctnet's)."""
        paper = _HOURGLASS if backbone.startswith("hourglass") else _RELEASE
        return {"paper": paper, "small": SMALL}

    def example(self, rng: np.random.Generator, size: tuple[int, int]) -> Sample:
        return draw_shapes(rng, size)

    # --- what the law leaves open

    def collides(self, instances: Instances, grid: Grid) -> np.ndarray:
        """Objects that share the cell of their centre or of a point, or that make a group with others."""
        chosen: Options = self.options
        points = instances.extreme_points
        classes = np.zeros_like(instances.labels) if chosen.agnostic else instances.labels
        grouped = share_a_point(points) | make_ghosts(points, classes, chosen.middle == "cells")
        collides: np.ndarray = super().collides(instances, grid) | grouped
        return collides


def _are_points(value: Any) -> bool:
    """Whether a value is x and y of four points, nested or in a row."""
    try:
        table = np.asarray(value, np.float64)
    except (TypeError, ValueError):
        return False
    return table.size == 8 and all(math.isfinite(number) for number in table.flat)
