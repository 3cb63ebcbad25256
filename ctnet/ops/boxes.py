"""Axis-aligned boxes as arrays: centres, sizes, areas and pairwise overlaps.

Boxes are xyxy in the last dimension: x1, y1, x2, y2. An inverted side (x2 < x1 or y2 < y1) has length 0.
"""

from __future__ import annotations

import numpy as np


def box_centres(boxes: np.ndarray) -> np.ndarray:
    """Centres (..., 2) of boxes (..., 4), in the boxes' dtype."""
    centres: np.ndarray = (boxes[..., :2] + boxes[..., 2:]) / 2
    return centres


def box_sizes(boxes: np.ndarray) -> np.ndarray:
    """Widths and heights (..., 2) of boxes (..., 4), in the boxes' dtype; negative for inverted sides."""
    sizes: np.ndarray = boxes[..., 2:] - boxes[..., :2]
    return sizes


def box_areas(boxes: np.ndarray, inclusive: bool = False) -> np.ndarray:
    """Areas (...) of boxes (..., 4), in the boxes' dtype; 0 where a side is inverted.

    Args:
        boxes: (..., 4) xyxy.
        inclusive: the last pixel belongs to the box, so a side is x2 - x1 + 1 long; False: corners are
            points.
    """
    return _area(boxes[..., 0], boxes[..., 1], boxes[..., 2], boxes[..., 3], inclusive)


def boxes_around(points: np.ndarray) -> np.ndarray:
    """Bounding boxes (..., 4) of points (..., P, 2), in the points' dtype."""
    return np.concatenate([points.min(axis=-2), points.max(axis=-2)], axis=-1)


def box_iou(one: np.ndarray, other: np.ndarray, inclusive: bool = False) -> np.ndarray:
    """Intersection over union of every box with every other; 0 where neither has an area.

    Args:
        one, other: (N, 4) and (M, 4) xyxy, of one floating type.
        inclusive: see ``box_areas``; used by the released code's suppression.

    Returns:
        (N, M), of the boxes' type.
    """
    common = box_intersections(one[:, None], other[None], inclusive)
    union = box_areas(one, inclusive)[:, None] + box_areas(other, inclusive)[None, :] - common
    return ratio(common, union)


def box_coverage(boxes: np.ndarray, regions: np.ndarray) -> np.ndarray:
    """Fraction of every box that each region covers: intersection over the box's own area; 0 without an area.

    Args:
        boxes, regions: (N, 4) and (M, 4) xyxy, of one floating type.

    Returns:
        (N, M), of the boxes' type.
    """
    return ratio(box_intersections(boxes[:, None], regions[None]), box_areas(boxes)[:, None])


def box_intersections(one: np.ndarray, other: np.ndarray, inclusive: bool = False) -> np.ndarray:
    """Intersection areas (...) of boxes (..., 4), in the boxes' dtype; their shapes broadcast.

    Args:
        one, other: (..., 4) xyxy, of one floating type.
        inclusive: see ``box_areas``.
    """
    # Coordinate by coordinate: faster than over a last dimension of two.
    x1, y1 = (np.maximum(one[..., side], other[..., side]) for side in (0, 1))
    x2, y2 = (np.minimum(one[..., side], other[..., side]) for side in (2, 3))
    return _area(x1, y1, x2, y2, inclusive)


def ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """``part / whole``, in the dtype of ``part``; 0 where the whole is not positive."""
    quotient: np.ndarray = np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)
    return quotient


def _area(x1: np.ndarray, y1: np.ndarray, x2: np.ndarray, y2: np.ndarray, inclusive: bool) -> np.ndarray:
    width, height = x2 - x1, y2 - y1
    if inclusive:
        width, height = width + 1, height + 1
    area: np.ndarray = np.maximum(width, 0) * np.maximum(height, 0)
    return area
