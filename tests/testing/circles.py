"""circles: an object is the centre of a circle; the radius is read off there."""

from collections.abc import Mapping
from typing import Any, ClassVar

import cv2
import numpy as np
import torch

from ctnet import plugin as ct


def draw_cells(rng: np.random.Generator, size: tuple[int, int]) -> ct.Sample:
    """A scene of two to nine cells, red and white."""
    image = np.full((*size[::-1], 3), rng.uniform(190, 250, 3))
    radius = rng.uniform(0.06, 0.14, (rng.integers(2, 10), 1)) * min(size)
    centre = rng.uniform(radius, np.array(size) - 1 - radius)
    labels = rng.integers(0, 2, len(radius))
    for place, r, label in zip(centre.round().astype(int), radius[:, 0], labels, strict=True):
        cv2.circle(image, place.tolist(), round(r), ((190, 80, 120), (110, 60, 150))[label], cv2.FILLED)
    columns = {"centre": np.float32(centre), "radius": np.float32(radius[:, 0])}
    instances = ct.Instances.of(np.hstack([centre - radius, centre + radius]), labels, **columns)
    return ct.Sample(image.astype(np.uint8), instances, ct.ImageInfo(0, "cells", *size))


def circle_iou(centre: np.ndarray, radius: np.ndarray, others: np.ndarray, radii: np.ndarray) -> np.ndarray:
    """(N, M): the area that each of N circles shares with each of M others, over that of both."""
    d = np.linalg.norm(centre[:, None].astype(float) - others, axis=2)
    r, s = np.meshgrid(radius.astype(float), radii.astype(float), indexing="ij")
    first = np.arccos(np.clip((d**2 + r**2 - s**2) / np.maximum(2 * d * r, 1e-300), -1, 1))
    second = np.arccos(np.clip((d**2 + s**2 - r**2) / np.maximum(2 * d * s, 1e-300), -1, 1))
    shared = r**2 * (first - np.sin(2 * first) / 2) + s**2 * (second - np.sin(2 * second) / 2)
    return shared / np.maximum(np.pi * (r**2 + s**2) - shared, 1e-300)


class CircleEvaluator(ct.Evaluator):
    """Average precision of circles that overlap an object's by half or more: ``AP50``, ``AP50/<class>``."""

    main_metric, needs_all = "AP50", True

    def compute(self) -> dict[str, float]:
        objects = []
        for entry in self.annotations:
            x, y, width, height = entry["bbox"]
            centre = entry.get("center") or (x + width / 2, y + height / 2)
            radius = entry.get("radius") or (width + height) / 4
            label = self.category_ids.index(entry["category_id"])
            number = -1 if entry["iscrowd"] else entry["id"]
            objects.append((entry["image_id"], *centre, radius, label, number))
        truth, rows, figures = np.array(objects), [np.zeros((0, 3))], {}
        for image_id, found in sorted(self.state().items()):
            mine = truth[truth[:, 0] == image_id]
            overlap = circle_iou(found.centre, found.radius, mine[:, 1:3], mine[:, 3])
            overlap[found.labels[:, None] != mine[:, 4]] = 0
            # One more column stands for no object: it is the best where no overlap reaches one half.
            best = np.pad(overlap, ((0, 0), (0, 1)), constant_values=0.5).argmax(axis=1)
            rows.append(np.stack([found.scores, found.labels, np.append(mine[:, 5], 0)[best]], axis=1))
        table = np.concatenate(rows)
        table = table[np.argsort(-table[:, 0], kind="stable")]
        for label in np.unique(truth[truth[:, 5] > 0, 4]).astype(int):
            count = int(((truth[:, 4] == label) & (truth[:, 5] > 0)).sum())
            numbers = table[(table[:, 1] == label) & (table[:, 2] >= 0), 2]  # -1 is a crowd: no mistake
            right = np.isin(np.arange(len(numbers)), np.unique(numbers, return_index=True)[1]) & (numbers > 0)
            figures[f"AP50/{self.class_names[label]}"] = ct.average_precision(right, count, "voc10")
        return {"AP50": float(np.mean(list(figures.values()))), **figures}


class Circles(ct.Task):
    """Heads ``heatmap`` [C], ``offset`` [2], ``radius`` [1]; instances have a ``centre`` and a ``radius``."""

    name, contract = "circles", 2
    metrics: ClassVar[Mapping[str, ct.MetricFactory]] = {"circles": ct.metric(CircleEvaluator)}
    scenes = ct.Scenes([{"id": 1, "name": "red"}, {"id": 2, "name": "white"}], draw_cells)
    fields: ClassVar[Mapping[str, ct.Field]] = {
        "centre": ct.Points(json="center", needed="never"),
        "radius": ct.Length(json="radius", needed="never", limits=(0.5, np.inf)),
    }

    def __init__(self, categories: Any, **options: Any) -> None:
        super().__init__(categories, **options)
        heatmap, radius = ct.Heatmap(len(self.categories)), ct.Regression(1, weight=0.2, symmetric=True)
        self.heads = {"heatmap": heatmap, "offset": ct.Regression(2), "radius": radius}

    def complete(self, instances: ct.Instances, image: Mapping[str, Any]) -> ct.Instances:
        middle, half = ct.box_centres(instances.boxes), ct.box_sizes(instances.boxes).mean(axis=1) / 2
        centre = np.where(np.isnan(instances.centre), middle, instances.centre)
        radius = np.where(np.isnan(instances.radius), half, instances.radius)
        return instances.replace(centre=centre, radius=radius)

    def cells(self, instances: ct.Instances, grid: ct.Grid) -> np.ndarray:
        inside = (instances.centre >= 0) & (instances.centre < [grid.width, grid.height])
        return np.where(inside.all(axis=1, keepdims=True), np.floor(instances.centre), -1).astype(np.int64)

    def encode(self, instances: ct.Instances, grid: ct.Grid) -> dict[str, ct.Target]:
        instances = instances[self.cells(instances, grid)[:, 0] >= 0]
        cell, centre, radius = self.cells(instances, grid), instances.centre, instances.radius[:, None]
        objects, spread = ~instances.crowd, ct.box_radius(np.hstack([2 * radius, 2 * radius]), "official")
        return {
            "heatmap": ct.Peaks.of(centre, spread, instances.labels, objects),
            "offset": ct.CellTargets.of(cell[objects], (centre - cell)[objects]),
            "radius": ct.CellTargets.of(cell[objects], radius[objects]),
        }

    def decode(self, maps: Mapping[str, torch.Tensor], k: int) -> ct.Detections:
        peaks = ct.find_peaks(maps["heatmap"], k)
        cell = torch.stack([peaks.x, peaks.y], dim=2)
        centre = cell + (ct.gather(maps["offset"], peaks) if "offset" in maps else 0.5)
        radius = ct.gather(maps["radius"], peaks).clamp(min=0)
        boxes = torch.cat([centre - radius, centre + radius], dim=2)
        return ct.Detections(boxes, peaks.score, peaks.channel, {"centre": centre, "radius": radius[..., 0]})

    def overlap(self, a: ct.Detections, b: ct.Detections) -> np.ndarray:
        return circle_iou(a.centre, a.radius, b.centre, b.radius)

    def draw(self, image: np.ndarray, detections: ct.Detections, info: Any = None) -> np.ndarray:
        canvas = np.array(image, order="C")
        for (x, y), r, label in zip(detections.centre, detections.radius, detections.labels, strict=True):
            ink, line = ct.class_colour(int(label)), ct.line_width(image)
            cv2.circle(canvas, (round(float(x)), round(float(y))), round(float(r)), ink, line, cv2.LINE_AA)
        return canvas
