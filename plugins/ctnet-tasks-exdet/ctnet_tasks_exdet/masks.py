"""Extreme points of COCO segmentations: polygons and run-length encoded masks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np

#: Points within this part of the mask's extent from its edge lie on the edge.
_EDGE = 0.02
#: By how much a mask may miss its box and still be its mask: a part of the box's side, or pixels.
_SLACK, _SLACK_PIXELS = 0.05, 2.0


def segmentation_faults(segmentation: Any, width: int, height: int) -> list[str]:
    """What is wrong with the form of a COCO segmentation; nothing with one that is missing or empty.

    Args:
        segmentation: polygons, or a run-length encoding.
        width, height: of the image, pixels.
    """
    if not segmentation:
        return []
    if isinstance(segmentation, Mapping):
        return _run_length_faults(segmentation, width, height)
    if not isinstance(segmentation, Sequence) or isinstance(segmentation, str):
        return [f"segmentation is {type(segmentation).__name__}, neither polygons nor a run-length encoding"]
    faults = []
    for number, polygon in enumerate(segmentation, start=1):
        if not isinstance(polygon, Sequence) or len(polygon) < 6 or len(polygon) % 2:
            count = f"{len(polygon)} numbers" if isinstance(polygon, Sequence) else repr(polygon)
            faults.append(f"polygon {number} is {count}, not x and y of three or more points")
        elif not all(isinstance(value, (int, float)) and math.isfinite(value) for value in polygon):
            faults.append(f"polygon {number} has values that are no finite numbers")
    return faults


def _run_length_faults(encoding: Mapping[str, Any], width: int, height: int) -> list[str]:
    size, counts = encoding.get("size"), encoding.get("counts")
    if size != [height, width]:
        return [f"run-length mask has the size {size}, its image [{height}, {width}] (height, width)"]
    if isinstance(counts, Sequence) and not isinstance(counts, str):
        whole = all(isinstance(count, int) and count >= 0 for count in counts)
        if not whole or sum(counts) != width * height:
            return [f"run-length mask has counts that do not add up to {width * height} pixels"]
    elif not isinstance(counts, str):
        return [f"run-length mask has counts of type {type(counts).__name__}"]
    try:
        _decode(encoding)
    except (ValueError, RuntimeError) as error:
        return [f"run-length mask cannot be decoded: {error}"]
    return []


def outlines(segmentation: Any) -> list[np.ndarray]:
    """The closed outlines (V, 2) of a sound segmentation, (x, y) in image pixels; none of an empty mask."""
    if not segmentation:
        return []
    if not isinstance(segmentation, Mapping):
        return [np.asarray(polygon, np.float64).reshape(-1, 2) for polygon in segmentation]
    mask = _decode(segmentation)
    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    # A mask's pixel covers a whole unit of COCO's coordinates: its middle is half a unit further.
    return [contour.reshape(-1, 2) + 0.5 for contour in contours]


def _decode(encoding: Mapping[str, Any]) -> np.ndarray:
    """(H, W) uint8."""
    from pycocotools import mask as coco_mask

    if not isinstance(encoding["counts"], str):
        encoding = coco_mask.frPyObjects(dict(encoding), *encoding["size"])
    return np.asarray(coco_mask.decode(encoding))


def mask_fits(contours: Sequence[np.ndarray], box: np.ndarray) -> bool:
    """Whether outlines reach as far as their box (4,) xyxy and no further, with some slack."""
    points = np.concatenate(contours)
    reach = np.concatenate([points.min(axis=0), points.max(axis=0)])
    sides = np.tile(box[2:] - box[:2], 2)
    fits: bool = bool((np.abs(reach - box) <= np.maximum(_SLACK * sides, _SLACK_PIXELS)).all())
    return fits


def extreme_points(contours: Sequence[np.ndarray], box: np.ndarray) -> np.ndarray:
    """Where an object touches the four sides of its box.

    On each side it is the middle of the stretch of outline that lies on the side, as far as it is connected.
    The outline says where along the side; across, the point lies on the box, which is what is measured.

    Args:
        contours: closed outlines (V, 2), at least one, that fit the box.
        box: (4,) xyxy.

    Returns:
        (4, 2) float32: top, left, bottom, right.

    Source: ExtremeNet (Zhou et al. 2019), section 5.1: the middle of an edge that is less steep than 3
    degrees; 2 percent of the extent is the release's measure of it.
    """
    points = np.concatenate(contours)
    tolerance = _EDGE * (points.max(axis=0) - points.min(axis=0))
    x1, y1, x2, y2 = box
    x = [_touching(contours, axis=1, sign=sign, tolerance=tolerance[1]) for sign in (1, -1)]
    y = [_touching(contours, axis=0, sign=sign, tolerance=tolerance[0]) for sign in (1, -1)]
    (top, bottom), (left, right) = np.clip(x, x1, x2), np.clip(y, y1, y2)
    return np.array([[top, y1], [x1, left], [bottom, y2], [x2, right]], np.float32)


def _touching(contours: Sequence[np.ndarray], axis: int, sign: int, tolerance: float) -> float:
    """The other coordinate of the middle of the stretch where sign * coordinate is smallest."""
    depth, contour = min(((sign * c[:, axis], c) for c in contours), key=lambda pair: float(pair[0].min()))
    first = int(depth.argmin())
    near = np.roll(depth - depth[first] <= tolerance, -first)  # the extreme vertex comes first
    along = np.roll(contour[:, 1 - axis], -first)
    ahead = len(near) if near.all() else int(near.argmin())
    behind = 0 if near.all() else int(near[::-1].argmin())
    stretch = np.concatenate([along[:ahead], along[len(along) - behind :]])
    return float(stretch.min() + stretch.max()) / 2
