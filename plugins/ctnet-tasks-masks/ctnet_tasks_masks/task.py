"""masks: an object is its box's centre; its mask is read from a map that all objects share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from ctnet.plugin import (
    BOX_METRICS,
    DEMO,
    SMALL,
    Augmentation,
    CellTargets,
    Detections,
    Field,
    Grid,
    Heatmap,
    ImageInfo,
    Instances,
    Loss,
    Mask,
    MetricFactory,
    Peaks,
    Recipe,
    Regression,
    Scenes,
    Target,
    Task,
    View,
    box_centres,
    box_radius,
    box_sizes,
    cut_to_grid,
    find_peaks,
    gather,
    locate,
    metric,
    option,
)
from ctnet_tasks_masks.drawing import draw_masks
from ctnet_tasks_masks.errors import mask_errors
from ctnet_tasks_masks.evaluation import CocoMaskEvaluator
from ctnet_tasks_masks.losses import mask_loss
from ctnet_tasks_masks.overlapping import mask_iou
from ctnet_tasks_masks.prototypes import coefficients, reading_one
from ctnet_tasks_masks.scenes import SHAPES, draw_shapes
from ctnet_tasks_masks.targets import MaskTargets, SharedMap, channels_of
from ctnet_tasks_masks.windows import in_image, sample

#: Many small steps and few evaluations: the demo has minutes.
_DEMO = replace(
    DEMO,
    epochs=9,
    batch_size=8,
    evaluate_every=3,
    augmentation=Augmentation(scale=(0.9, 1.1), shift=0.05, colour=0.1, lighting=0),
)

#: The two heads whose values mean something only together.
_TOGETHER = ("coefficients", "shared")


@dataclass(frozen=True)
class Options:
    """Options of masks, set with -O NAME=VALUE."""

    channels: int = option(32, "prototypes: channels of the map that all masks share", limits=(1, 256))
    size_weight: float = option(0.1, "weight of the size head")
    mask_weight: float = option(1.0, "weight of the masks")


class InstanceMasks(Task):
    """Masks: heads ``heatmap`` [C], ``offset`` [2], ``size`` [2], ``coefficients`` [D] and ``shared`` [P].

    Instances and detections carry ``mask``, a region of the image. The coefficients at an object's peak say
    how the shared map makes its mask; ``decode`` gives its samples over the object's box, ``windows``.
    """

    name = "masks"
    contract = 2
    Options = Options
    metrics: ClassVar[Mapping[str, MetricFactory]] = {
        "segm": metric(CocoMaskEvaluator),
        "segm-reference": metric(CocoMaskEvaluator, engine="pycocotools"),
        **BOX_METRICS,
    }
    scenes = Scenes(SHAPES, draw_shapes, (128, 128), {"train": 480, "val": 60}, _DEMO)
    peaks = "heatmap"
    oracles: Mapping[str, Sequence[str]] = {"mask": _TOGETHER, "box": ("offset", "size")}
    fields: Mapping[str, Field] = {"mask": Mask(tolerance=0.3)}

    def __init__(self, categories: Any, **options: Any) -> None:
        super().__init__(categories, **options)
        self.heads = {
            "heatmap": Heatmap(len(self.categories)),
            "offset": Regression(2),
            "size": Regression(2, weight=self.options.size_weight, symmetric=True),
            "coefficients": Regression(coefficients(self.options.channels)),
            "shared": SharedMap(self.options.channels),
        }

    # --- from annotations to targets

    def errors(self, annotation: Mapping[str, Any], image: Mapping[str, Any]) -> list[str]:
        return mask_errors(annotation, image)

    def encode(self, instances: Instances, grid: Grid) -> dict[str, Target]:
        shown = cut_to_grid(instances, grid)
        centre, size = box_centres(shown.boxes), box_sizes(shown.boxes)
        cell = centre.astype(np.int64)
        objects = ~shown.crowd
        channel = channels_of(shown.boxes[objects], grid, self.options.channels)
        masks = MaskTargets.of_masks(shown.mask[objects], shown.boxes[objects], channel, grid)
        # What makes the masks of ``SharedMap.render``; a network is free to find its own.
        code = reading_one(torch.from_numpy(channel), self.options.channels).numpy()
        known = np.repeat(masks.weight[:, None].numpy(), code.shape[1], axis=1)
        return {
            "heatmap": Peaks.of(centre, box_radius(size, "official"), shown.labels, objects),
            "offset": CellTargets.of(cell[objects], (centre - cell)[objects]),
            "size": CellTargets.of(cell[objects], size[objects]),
            "coefficients": CellTargets.of(cell[objects], code, known),
            "shared": masks,
        }

    def losses(self, predicted: Mapping[str, Tensor], targets: Mapping[str, Target]) -> dict[str, Loss]:
        """Coefficients and shared map have one loss, called ``mask``."""
        own = {
            name: head.loss(predicted[name], targets[name])
            for name, head in self.heads.items()
            if name not in _TOGETHER
        }
        objects, masks = (targets[name] for name in _TOGETHER)
        assert isinstance(objects, CellTargets)
        assert isinstance(masks, MaskTargets)
        code, shared = (predicted[name] for name in _TOGETHER)
        loss = mask_loss(shared, code, masks, objects)
        return {**own, "mask": Loss(self.options.mask_weight * loss.total, loss.count)}

    def collides(self, instances: Instances, grid: Grid) -> np.ndarray:
        """Objects that share a cell, and those for whose mask no channel is left among their neighbours."""
        shown = cut_to_grid(instances.replace(row=np.arange(len(instances))), grid)
        crowded = np.zeros(len(instances), bool)
        crowded[shown.row] = channels_of(shown.boxes, grid, self.options.channels) < 0
        return np.asarray(super().collides(instances, grid) | crowded)

    # --- from maps to results

    def decode(self, maps: Mapping[str, Tensor], k: int) -> Detections:
        peaks = find_peaks(maps["heatmap"], k)
        size = gather(maps["size"], peaks).clamp(min=0)
        centre = locate(peaks, maps.get("offset"))  # a head may be missing in ablations
        boxes = torch.cat([centre - size / 2, centre + size / 2], dim=2)
        code = gather(maps["coefficients"], peaks)
        windows = sample(maps["shared"], code, boxes)
        columns = {"windows": windows, "cells": peaks.cells}
        return Detections(boxes, peaks.score, peaks.channel, columns)

    def lift(self, detections: Detections, view: View) -> Detections:
        return in_image(detections, view.info)

    def overlap(self, a: Detections, b: Detections) -> np.ndarray:
        """IoU of the masks."""
        one, other = (each.fields().get("mask", [None] * len(each)) for each in (a, b))
        return mask_iou(one, other, (a.boxes, b.boxes))

    def draw(self, image: np.ndarray, detections: Detections, info: ImageInfo | None = None) -> np.ndarray:
        return draw_masks(image, detections, self.categories.names)

    # --- training

    def recipes(self, backbone: str) -> Mapping[str, Recipe]:
        """``small`` (ctnet's)."""
        return {"small": SMALL}
