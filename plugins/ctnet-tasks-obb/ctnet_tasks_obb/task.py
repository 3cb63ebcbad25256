"""obb: a rotated box is its centre; its size along its own axes and its angle are predicted there."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from ctnet.plugin import (
    DEMO,
    SMALL,
    Angle,
    CellTargets,
    Detections,
    Field,
    Grid,
    Heatmap,
    ImageInfo,
    Instances,
    Length,
    MetricFactory,
    Peaks,
    Points,
    Recipe,
    Regression,
    Scenes,
    Target,
    Task,
    box_radius,
    find_peaks,
    gather,
    locate,
    metric,
    option,
    polygon_areas,
)
from ctnet_tasks_obb.boxes import corners_iou, corners_of, misfit, rectangles
from ctnet_tasks_obb.drawing import draw_rotated
from ctnet_tasks_obb.evaluation import RotatedEvaluator
from ctnet_tasks_obb.heads import AngleValues, angle_of, angle_values
from ctnet_tasks_obb.scenes import KINDS, draw_harbour

#: Aerial images have no upright orientation, so they are rotated by any angle.
_TURNED = replace(SMALL.augmentation, rotate=180.0)

#: Tolerance of corners from those of a rectangle: rounding to whole pixels, or a fraction of its length.
_MOST_MISFIT = 1.5
_MOST_MISFIT_SHARE = 0.02


@dataclass(frozen=True)
class Options:
    """Options of obb, set with -O NAME=VALUE."""

    size_weight: float = option(0.1, "weight of the size head")
    angle_weight: float = option(1.0, "weight of the angle head")


class Obb(Task):
    """Rotated boxes: heads ``heatmap`` [C], ``offset`` [2], ``size`` [2: length, width], ``angle`` [4].

    Instances and detections carry ``corners`` (N, 4, 2), in order around each box; ``boxes`` are the
    axis-aligned boxes around them. A box has no front: rotated by 180 degrees it is the same. Instances also
    have columns derived from the corners: ``sides`` (N, 2), length and width, and the ``angle`` of the long
    side.
    """

    name = "obb"
    contract = 2
    Options = Options
    metrics: ClassVar[Mapping[str, MetricFactory]] = {
        "rotated": metric(RotatedEvaluator),
        "rotated07": metric(RotatedEvaluator, metric="voc07"),
    }
    scenes = Scenes(KINDS, draw_harbour, recipe=replace(DEMO, epochs=6))
    peaks = "heatmap"
    fields: Mapping[str, Field] = {
        "corners": Points(json="corners", n=4, cyclic=True, digits=3),
        "sides": Length(json="", width=2, parts=("length", "breadth")),
        "angle": Angle(json="", period=math.pi, rotates=True),
    }

    def __init__(self, categories: Any, **options: Any) -> None:
        super().__init__(categories, **options)
        self.heads = {
            "heatmap": Heatmap(len(self.categories)),
            "offset": Regression(2),
            "size": Regression(2, weight=self.options.size_weight, symmetric=True),
            "angle": AngleValues(4, weight=self.options.angle_weight),
        }

    # --- from annotations to targets

    def complete(self, instances: Instances, image: Mapping[str, Any]) -> Instances:
        boxes = rectangles(instances.corners)
        return instances.replace(sides=boxes.size, angle=boxes.angle)

    def errors(self, annotation: Mapping[str, Any], image: Mapping[str, Any]) -> list[str]:
        """Corners without area, or not those of a rectangle."""
        values = annotation["corners"]
        corners = np.array(values, np.float64).reshape(1, 4, 2)
        if polygon_areas(corners)[0] <= 0:
            return [f"corners {list(values)} have no area"]
        off = float(misfit(corners)[0])
        if off > max(_MOST_MISFIT, _MOST_MISFIT_SHARE * float(rectangles(corners).size[0, 0])):
            return [f"corners {list(values)} are {off:.1f} px from being a rectangle's"]
        return []

    def cells(self, instances: Instances, grid: Grid) -> np.ndarray:
        """An object with its centre outside the crop has no cell; all others are learnt as a whole."""
        centre = rectangles(instances.corners).centre.astype(np.float32)
        inside = ((centre >= 0) & (centre < [grid.width, grid.height])).all(axis=1, keepdims=True)
        return np.where(inside, np.floor(centre), -1).astype(np.int64)

    def encode(self, instances: Instances, grid: Grid) -> dict[str, Target]:
        cell = self.cells(instances, grid)
        shown = (cell >= 0).all(axis=1)
        cell, instances = cell[shown], instances[shown]
        boxes = rectangles(instances.corners)
        centre = boxes.centre.astype(np.float32)
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
        centre = locate(peaks, maps.get("offset"))  # a head may be missing in ablations
        size = gather(maps["size"], peaks).clamp(min=0)
        corners = corners_of(centre, size, angle_of(gather(maps["angle"], peaks)))
        boxes = torch.cat([corners.amin(dim=2), corners.amax(dim=2)], dim=2)
        return Detections(boxes, peaks.score, peaks.channel, {"corners": corners, "cells": peaks.cells})

    def overlap(self, a: Detections, b: Detections) -> np.ndarray:
        """IoU of the rotated boxes."""
        return corners_iou(a.corners, b.corners)

    def draw(self, image: np.ndarray, detections: Detections, info: ImageInfo | None = None) -> np.ndarray:
        return draw_rotated(image, detections, self.categories.names)

    # --- training

    def recipes(self, backbone: str) -> Mapping[str, Recipe]:
        """``small`` (ours): as ctnet's, with rotation by any angle."""
        return {"small": replace(SMALL, augmentation=_TURNED)}
