"""ctdet: 2D boxes. An object is its box's centre; size and sub-cell offset are predicted there."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from ctnet.plugin import (
    BOX_METRICS,
    SHAPES,
    SMALL,
    VOC_METRICS,
    BoxDistances,
    CellTargets,
    Detections,
    Grid,
    Head,
    Heatmap,
    ImageInfo,
    Instances,
    MetricFactory,
    Peaks,
    Recipe,
    Regression,
    Scenes,
    Target,
    Task,
    box_centres,
    box_coverage,
    box_radius,
    box_sizes,
    cut_to_grid,
    draw_detections,
    draw_scene,
    find_peaks,
    gather,
    locate,
    option,
)

_PAPER = Recipe(epochs=140, batch_size=128, learning_rate=5e-4, milestones=(90, 120))
_HOURGLASS = Recipe(epochs=50, batch_size=29, learning_rate=2.5e-4, milestones=(40,))
_PASCAL_VOC = Recipe(epochs=70, batch_size=32, learning_rate=1.25e-4, milestones=(45, 60), size=(384, 384))
#: Objects cut by a crop look like objects cut by the image's border, which annotators probably mark less
#: often.
_SMALL = dataclasses.replace(SMALL, options={"min_visible": 0.75})

#: The GIoU loss has no gradient for a box without area, so sizes then start at this many cells.
_GIOU_START = 8.0


@dataclass(frozen=True)
class Options:
    """Options of ctdet."""

    size_loss: Literal["l1", "smooth_l1", "normalized_l1", "giou"] = option("l1", "loss of the size head")
    size_weight: float = option(0.1, "weight of the size head (lambda_size)")
    box: Literal["size", "giou", "ciou"] = option(
        "size", "how boxes are learnt: a size and an offset, or four distances with a GIoU or CIoU loss"
    )
    box_weight: float = option(2.0, "weight of the distances, for box=giou|ciou")
    offset_weight: float = option(1.0, "weight of the offset head (lambda_off)")
    class_specific_size: bool = option(False, "one pair of size channels per class")
    dense_size: bool = option(False, "learn sizes on all cells of the Gaussians, not only at the centres")
    dense_offset: bool = option(False, "also learn the offset to the centre on those cells")
    radius: Literal["official", "corrected"] = option("official", "formula of the Gaussian radius")
    crowd: Literal["positive", "ignore"] = option(
        "positive", "crowd regions are objects, or only reduce the penalty around them"
    )
    min_visible: float = option(
        0.0,
        "objects with a smaller visible fraction of their box in a crop only reduce the penalty around them",
        limits=(0, 1),
    )


class CenterDetection(Task):
    """2D boxes (section 4): heads ``heatmap`` [C], ``size`` [2 or 2C], ``offset`` [2].

    With ``box=giou`` or ``ciou``, ``box`` [4] replaces the last two: the distances from the middle of a cell
    to the four sides (Tian et al. 2019, FCOS), read at the peak, taught on the cells of the Gaussian (Liu
    et al. 2020, TTFNet).
    """

    name = "ctdet"
    contract = 2
    Options = Options
    metrics: ClassVar[Mapping[str, MetricFactory]] = {**BOX_METRICS, **VOC_METRICS}
    scenes = Scenes(SHAPES, draw_scene)
    peaks = "heatmap"

    def __init__(self, categories: Any, **options: Any) -> None:
        super().__init__(categories, **options)
        classes = len(self.categories)
        chosen: Options = self.options
        heatmap = {"heatmap": Heatmap(classes, released="hm")}
        self.heads = {**heatmap, **self._box_heads(chosen, classes)}

    @staticmethod
    def _box_heads(chosen: Any, classes: int) -> dict[str, Head]:
        """The heads that a box is read from."""
        if chosen.box != "size":
            start = _GIOU_START / 2 / BoxDistances.unit
            return {"box": BoxDistances(kind=chosen.box, weight=chosen.box_weight, bias=start)}
        return {
            "size": Regression(
                2 * classes if chosen.class_specific_size else 2,
                weight=chosen.size_weight,
                bias=_GIOU_START if chosen.size_loss == "giou" else 0.0,
                kind=chosen.size_loss,
                symmetric=True,
                released="wh",
            ),
            "offset": Regression(2, weight=chosen.offset_weight, released="reg"),
        }

    def encode(self, instances: Instances, grid: Grid) -> dict[str, Target]:
        frame = np.array([[0, 0, grid.width, grid.height]], np.float32)
        share = box_coverage(instances.boxes, frame)[:, 0]
        shown = cut_to_grid(instances.replace(share=share), grid)
        size, centre = box_sizes(shown.boxes), box_centres(shown.boxes)
        radius = box_radius(size, self.options.radius)
        ignored = shown.crowd & (self.options.crowd == "ignore")
        is_object = (shown.share >= self.options.min_visible) & ~ignored
        heatmap = Peaks.of(centre, radius, shown.labels, is_object)
        taught = shown[is_object].replace(centre=centre[is_object], radius=radius[is_object])
        boxes = self._size_targets if self.options.box == "size" else self._distance_targets
        return {"heatmap": heatmap, **boxes(taught, grid)}

    def _distance_targets(self, taught: Instances, grid: Grid) -> dict[str, Target]:
        """Distances at all cells of each object's Gaussian, every object with the same weight in all."""
        value = BoxDistances.of(taught.boxes, taught.centre.astype(np.int64))
        dense = (taught.centre, taught.radius, value, np.ones_like(value), grid)
        return {"box": CellTargets.dense(*dense, BoxDistances.STEPS, equally=True)}

    def _size_targets(self, taught: Instances, grid: Grid) -> dict[str, Target]:
        """Sizes and offsets, at each object's cell or at all cells of its Gaussian."""
        pixel = taught.centre.astype(np.int64)
        places = (taught.centre, taught.radius)
        entries = self._size_entries(box_sizes(taught.boxes), taught.labels)
        offset = taught.centre - pixel
        ones, steps = np.ones_like(offset), [[-1, 0], [0, -1]]
        return {
            "size": CellTargets.dense(*places, *entries, grid)
            if self.options.dense_size
            else CellTargets.of(pixel, *entries),
            "offset": CellTargets.dense(*places, offset, ones, grid, steps)
            if self.options.dense_offset
            else CellTargets.of(pixel, offset),
        }

    def _size_entries(self, size: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Values and weights (N, D) of the size head: each object in its class's pair of channels."""
        if not self.options.class_specific_size:
            return size, np.ones_like(size)
        value = np.zeros((len(size), len(self.categories), 2), np.float32)
        weight = np.zeros_like(value)
        rows = np.arange(len(size))
        value[rows, labels], weight[rows, labels] = size, 1
        flat = (len(size), 2 * len(self.categories))
        return value.reshape(flat), weight.reshape(flat)

    def decode(self, maps: Mapping[str, Tensor], k: int) -> Detections:
        peaks = find_peaks(maps["heatmap"], k)
        if "box" in maps:
            distances, middle = gather(maps["box"], peaks), locate(peaks, None)
            boxes = torch.cat([middle - distances[..., :2], middle + distances[..., 2:]], dim=2)
            return Detections(boxes, peaks.score, peaks.channel, {"cells": peaks.cells})
        size = gather(maps["size"], peaks)
        if self.options.class_specific_size:
            pair = peaks.channel[..., None, None].expand(-1, -1, 1, 2)
            size = size.reshape(*size.shape[:2], -1, 2).gather(2, pair).squeeze(2)
        # Without an offset head (the ablation of section 5.1) the middle of the cell is used.
        centre = locate(peaks, maps.get("offset"))
        boxes = torch.cat([centre - size / 2, centre + size / 2], dim=2)
        return Detections(boxes, peaks.score, peaks.channel, {"cells": peaks.cells})

    def draw(self, image: np.ndarray, detections: Detections, info: ImageInfo | None = None) -> np.ndarray:
        return draw_detections(image, detections, self.categories.names)

    def recipes(self, backbone: str) -> Mapping[str, Recipe]:
        """``paper`` and ``paper-2x`` (appendix), ``voc`` (section 5.1's Pascal runs), ``small`` (ours)."""
        paper = _HOURGLASS if backbone.startswith("hourglass") else _PAPER
        twice = dataclasses.replace(_PAPER, epochs=230, milestones=(180, 210))
        # A task that extends this one may replace the options.
        small = _SMALL if isinstance(self.options, Options) else SMALL
        return {"paper": paper, "paper-2x": twice, "voc": _PASCAL_VOC, "small": small}
