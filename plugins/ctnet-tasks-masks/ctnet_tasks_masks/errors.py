"""What is wrong with a mask that can be read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np

from ctnet.plugin import AnnotationWarning, RunLength

#: Tolerance between a mask and its box: a fraction of the box's side, or pixels.
_SLACK, _SLACK_PIXELS = 0.05, 2.0
#: Area below which a mask is none, square pixels.
_LEAST_AREA = 1e-3


def mask_errors(annotation: Mapping[str, Any], image: Mapping[str, Any]) -> list[str]:
    """Errors and warnings of an annotation with a readable segmentation, or without one.

    Args:
        annotation: as in the COCO file, with a usable box.
        image: the image's entry of the COCO file.
    """
    segmentation = annotation.get("segmentation")
    if not segmentation:
        return [AnnotationWarning("it has no mask (segmentation): only its box is learnt")]
    if isinstance(segmentation, Mapping):
        region = RunLength.of_coco(segmentation)
        if not region.area:
            return ["its mask is empty"]
        return _box_warnings(region.box, annotation)
    rings = [np.asarray(polygon, np.float64).reshape(-1, 2) for polygon in segmentation]
    # Of the hull: a polygon that crosses itself may have areas that cancel out.
    if all(cv2.contourArea(cv2.convexHull(ring.astype(np.float32))) < _LEAST_AREA for ring in rings):
        return [f"its mask has no area: {_points(rings)}"]
    points = np.concatenate(rings)
    low, high = points.min(axis=0), points.max(axis=0)
    size = np.array([image["width"], image["height"]], np.float64)
    if (high <= 0).any() or (low >= size).any():
        frame = f"{size[0]:g}x{size[1]:g}"
        return [f"its mask, from {_place(low)} to {_place(high)}, lies outside the image of {frame}"]
    warnings = [
        f"polygon {number} of its mask crosses itself; what lies inside an even number of times is left out"
        for number, ring in enumerate(rings, start=1)
        if _crosses(ring)
    ]
    box = np.concatenate([np.maximum(low, 0), np.minimum(high, size)])
    return [*map(AnnotationWarning, warnings), *_box_warnings(box, annotation)]


def _box_warnings(reach: np.ndarray, annotation: Mapping[str, Any]) -> list[str]:
    """A warning about a mask that reaches elsewhere than its box, which cuts it."""
    x, y, width, height = annotation["bbox"]
    slack = np.maximum(_SLACK * np.array([width, height] * 2), _SLACK_PIXELS)
    if (np.abs(reach - [x, y, x + width, y + height]) <= slack).all():
        return []
    text = (
        f"its mask reaches from {_place(reach[:2])} to {_place(reach[2:])}, its box from {_place((x, y))} to "
        f"{_place((x + width, y + height))}; the part outside the box is not learnt"
    )
    return [AnnotationWarning(text)]


def _crosses(ring: np.ndarray) -> bool:
    """Whether a polygon turns other than once around itself, as a figure of eight does.

    Points that are visited twice may join a hole to the outline, which is in order.
    """
    if len(np.unique(ring, axis=0)) < len(ring):
        return False
    steps = np.roll(ring, -1, axis=0) - ring
    heading = steps[:, 0] + 1j * steps[:, 1]
    turns = np.angle(np.roll(heading, -1) / heading)
    return abs(abs(float(turns.sum())) - 2 * np.pi) > 1


def _place(point: Sequence[float] | np.ndarray) -> str:
    return f"({point[0]:g}, {point[1]:g})"


def _points(rings: Sequence[np.ndarray]) -> str:
    ring = rings[0]
    return f"{len(ring)} points from {_place(ring[0])} to {_place(ring[-1])}"
