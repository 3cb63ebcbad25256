"""obb: a rotated box is its centre; its size along its own axes and its angle are read off there."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from ctnet.plugin import (
    DEMO,
    SMALL,
    Annotations,
    CellTargets,
    CtnetError,
    Detections,
    Evaluator,
    Grid,
    GroundTruth,
    Heatmap,
    ImageInfo,
    Instances,
    Peaks,
    Recipe,
    Regression,
    Sample,
    Target,
    Task,
    box_radius,
    find_peaks,
    gather,
    option,
    unknown_name,
)
from ctnet_tasks_obb.boxes import corners_of, misfit, rectangles, upright
from ctnet_tasks_obb.heads import Angle, angle_of, angle_values
from ctnet_tasks_obb.overlaps import polygon_area, rotated_iou
from ctnet_tasks_obb.scenes import KINDS, draw_harbour

#: From above there is no up: images are turned any way round.
_TURNED = replace(SMALL.augmentation, rotate=180.0)

#: Corners may lie so far beside a rectangle's: what rounding to whole pixels does, or a part of its length.
_MOST_MISFIT = 1.5
_MOST_MISFIT_SHARE = 0.02


@dataclass(frozen=True)
class Options:
    """Options of obb, set with -O NAME=VALUE."""

    size_weight: float = option(0.1, "weight of the size head")
    angle_weight: float = option(1.0, "weight of the angle head")


class Obb(Task):
    """Rotated boxes: heads ``heatmap`` [C], ``offset`` [2], ``size`` [2: length, breadth], ``angle`` [4].

    Instances and detections carry ``corners`` (N, 4, 2), in turn around each box; ``boxes`` are the upright
    boxes around them. A box has no front: it is the same after half a turn.
    """

    name = "obb"
    contract = 2
    point_fields = ("boxes", "corners")
    metrics = ("rotated", "rotated07")
    Options = Options
    example_categories = KINDS
    demo_recipe = replace(DEMO, epochs=6)
    demo_scenes: ClassVar[Mapping[str, int]] = {"train": 600, "val": 100}

    def __init__(self, categories: Any, **options: Any) -> None:
        super().__init__(categories, **options)
        self.heads = {
            "heatmap": Heatmap(len(self.categories)),
            "offset": Regression(2),
            "size": Regression(2, weight=self.options.size_weight, symmetric=True),
            "angle": Angle(4, weight=self.options.angle_weight),
        }

    # --- from annotations to targets

    def parse(self, annotations: Annotations, image: Mapping[str, Any]) -> Instances:
        rows = [annotation["corners"] for annotation in annotations]
        return super().parse(annotations, image).replace(corners=np.array(rows, np.float32).reshape(-1, 4, 2))

    def faults(self, annotation: Mapping[str, Any], image: Mapping[str, Any]) -> list[str]:
        values = annotation.get("corners")
        if not isinstance(values, Sequence) or len(values) != 8:
            return [f"corners are {values!r}, not eight numbers (x, y of four corners)"]
        if not all(isinstance(value, (int, float)) and math.isfinite(value) for value in values):
            return [f"corners are {list(values)}, not all finite numbers"]
        corners = np.array(values, np.float64).reshape(1, 4, 2)
        if polygon_area(corners)[0] <= 0:
            return [f"corners {list(values)} enclose no area"]
        off = float(misfit(corners)[0])
        if off > max(_MOST_MISFIT, _MOST_MISFIT_SHARE * float(rectangles(corners).size[0, 0])):
            return [f"corners {list(values)} are {off:.1f} px from being a rectangle's"]
        return []

    def annotate(self, instances: Instances) -> list[dict[str, Any]]:
        corners = instances.corners.astype(float)
        rows = zip(super().annotate(instances), corners, polygon_area(corners).tolist(), strict=True)
        return [
            {**entry, "area": round(area, 2), "corners": points.round(3).flatten().tolist()}
            for entry, points, area in rows
        ]

    def measures(self, instances: Instances) -> Mapping[str, np.ndarray]:
        boxes = rectangles(instances.corners)
        length, breadth = boxes.size.T
        return {
            "length (px)": length,
            "breadth (px)": breadth,
            "length / breadth": length / breadth,
            "angle (degrees)": np.degrees(boxes.angle),
        }

    def encode(self, instances: Instances, grid: Grid) -> dict[str, Target]:
        centre = rectangles(instances.corners).centre.astype(np.float32)
        # An object whose centre a crop cuts off has no cell; of all others the whole is learnt.
        inside = ((centre >= 0) & (centre < [grid.width, grid.height])).all(axis=1)
        centre, instances = centre[inside], instances[inside]
        cell = np.floor(centre).astype(np.int64)
        boxes = rectangles(instances.corners)
        angle, counts = angle_values(boxes)
        objects = ~instances.crowd
        radius = box_radius(boxes.size, "official")
        return {
            "heatmap": Peaks.of(centre, radius, instances.labels, objects),
            "offset": CellTargets.of(cell[objects], (centre - cell)[objects]),
            "size": CellTargets.of(cell[objects], boxes.size[objects]),
            "angle": CellTargets.of(cell[objects], angle[objects], counts[objects]),
        }

    # --- from maps to results

    def decode(self, maps: Mapping[str, Tensor], k: int) -> Detections:
        peaks = find_peaks(maps["heatmap"], k)
        cell = torch.stack([peaks.x, peaks.y], dim=2)
        # A head may be missing where its part in the result is studied.
        centre = cell + (gather(maps["offset"], peaks) if "offset" in maps else 0.5)
        size = gather(maps["size"], peaks).clamp(min=0)
        corners = corners_of(centre, size, angle_of(gather(maps["angle"], peaks)))
        boxes = torch.cat([corners.amin(dim=2), corners.amax(dim=2)], dim=2)
        return Detections(boxes, peaks.score, peaks.channel, {"corners": corners})

    def overlap(self, a: Detections, b: Detections) -> np.ndarray:
        """IoU of the rotated boxes."""
        return rotated_iou(a.corners, b.corners)

    def results(self, image_id: int, detections: Detections) -> list[dict[str, Any]]:
        rows = np.asarray(detections.extra.get("corners", ()), np.float64).reshape(len(detections), 8)
        entries = super().results(image_id, detections)
        return [{**entry, "corners": row} for entry, row in zip(entries, rows.tolist(), strict=True)]

    def read_results(self, entries: Sequence[Mapping[str, Any]]) -> Detections:
        corners = np.array([entry["corners"] for entry in entries], np.float64).reshape(len(entries), 4, 2)
        return super().read_results(entries).replace(corners=corners)

    def differences(self, truth: Detections, found: Detections) -> Mapping[str, np.ndarray]:
        """As ``Task.differences``, whichever corner is the first: how far from each the nearest one is."""
        gaps = np.linalg.norm(truth.corners[:, :, None] - found.corners[:, None], axis=3)
        return {**super().differences(truth, found), "corners": gaps.min(axis=2).max(axis=1, initial=0)}

    def evaluator(
        self,
        truth: GroundTruth,
        metric: str | None = None,
        engine: str | None = None,
    ) -> Evaluator:
        from ctnet_tasks_obb.evaluation import RotatedEvaluator

        metric = metric or self.metrics[0]
        if metric not in self.metrics:
            raise unknown_name(f"metric of task {self.name}", metric, self.metrics)
        if engine is not None:
            raise CtnetError(f"--engine is for the metric coco; {metric} has one implementation")
        return RotatedEvaluator(truth.as_coco(full=True), self.category_ids, self.class_names, metric=metric)

    def draw(self, image: np.ndarray, detections: Detections, info: ImageInfo | None = None) -> np.ndarray:
        from ctnet_tasks_obb.drawing import draw_rotated

        return draw_rotated(image, detections, self.class_names)

    # --- training and example data

    def recipes(self, backbone: str) -> Mapping[str, Recipe]:
        """``small`` (ours): as ctnet's, with images turned any way round."""
        return {"small": replace(SMALL, augmentation=_TURNED)}

    def example(self, rng: np.random.Generator, size: tuple[int, int]) -> Sample:
        if self.class_names != tuple(kind["name"] for kind in KINDS):
            raise CtnetError(
                f"task obb draws {', '.join(kind['name'] for kind in KINDS)}, not "
                f"{', '.join(self.class_names)}; give a data set with --data DIR"
            )
        image, corners, labels = draw_harbour(rng, size)
        instances = Instances.of(upright(corners), labels, corners=corners)
        return Sample(image, instances, ImageInfo(0, "harbour", *size))
