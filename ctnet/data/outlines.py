"""The bounding box of an annotation that has an outline (``segmentation``) but no ``bbox``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

NO_BOX: tuple[object, ...] = (None, [])
"""Values of ``bbox`` that mean "no box": some tools write an empty list."""


def outlined(annotation: Mapping[str, Any]) -> bool:
    """Whether an annotation has an outline instead of a box."""
    return annotation.get("bbox") in NO_BOX and bool(annotation.get("segmentation"))


def box_around(segmentation: object) -> tuple[float, float, float, float] | None:
    """The bounding box of polygons.

    Args:
        segmentation: as in a COCO file: a list of polygons, each x1, y1, x2, y2, ... in image pixels.

    Returns:
        xywh, image pixels; None for anything else (run lengths, fewer than three points, not finite).
    """
    if not isinstance(segmentation, list) or not segmentation:
        return None
    points = []
    for polygon in segmentation:
        if not isinstance(polygon, list) or len(polygon) < 6 or len(polygon) % 2:
            return None
        if not all(type(value) in (int, float) and abs(value) < 1e9 for value in polygon):
            return None
        points.append(np.array(polygon, np.float64).reshape(-1, 2))
    corners = np.concatenate(points)
    left, top = corners.min(axis=0).tolist()
    right, bottom = corners.max(axis=0).tolist()
    return left, top, right - left, bottom - top


def read_boxes(path: Path, ranges: Sequence[tuple[int, int]]) -> list[tuple[float, ...]]:
    """The bounding boxes of annotations' outlines, parsed from the file.

    Args:
        path: the COCO JSON file.
        ranges: byte range (first, last plus one) of each annotation.

    Returns:
        xywh of each; four NaN where there is none.
    """
    boxes: list[tuple[float, ...]] = []
    with open(path, "rb") as stream:
        for start, end in ranges:
            stream.seek(start)
            annotation = json.loads(stream.read(end - start))
            boxes.append(box_around(annotation.get("segmentation")) or (np.nan,) * 4)
    return boxes
