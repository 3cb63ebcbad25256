"""The four edges of a box and their extreme points, in the released order: top, left, bottom, right."""

from __future__ import annotations

import numpy as np

EDGES = ("top", "left", "bottom", "right")
TOP, LEFT, BOTTOM, RIGHT = range(4)
#: The mirror image of each edge.
MIRRORED = (TOP, RIGHT, BOTTOM, LEFT)
#: The axis of each edge's outward direction, and its sign.
OUTWARD = ((1, -1), (0, -1), (1, 1), (0, 1))


def side_midpoints(boxes: np.ndarray) -> np.ndarray:
    """The midpoints of boxes' sides, used where extreme points are not known.

    Args:
        boxes: (N, 4) xyxy.

    Returns:
        (N, 4, 2) of the boxes' type, (x, y) by edge.
    """
    x1, y1, x2, y2 = boxes.T
    x, y = (x1 + x2) / 2, (y1 + y2) / 2
    return np.stack([x, y1, x1, y, x, y2, x2, y], axis=1).reshape(-1, 4, 2)


def box_of(points: np.ndarray) -> np.ndarray:
    """The boxes (..., 4) xyxy that extreme points (..., 4, 2) span."""
    sides = [points[..., LEFT, 0], points[..., TOP, 1], points[..., RIGHT, 0], points[..., BOTTOM, 1]]
    return np.stack(sides, axis=-1)
