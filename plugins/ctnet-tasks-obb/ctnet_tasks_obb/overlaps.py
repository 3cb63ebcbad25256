"""Intersection over union of rotated boxes."""

from __future__ import annotations

import numpy as np

from ctnet_tasks_obb.boxes import upright


def rotated_iou(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """IoU (N, M) of convex quadrilaterals (N, 4, 2) and (M, 4, 2); 0 where one has no area.

    Pairs whose upright boxes overlap are cut into each other, all in one sweep. (OpenCV's
    ``intersectConvexConvex`` gives 0 for quadrilaterals that are equal but for rounding.)

    Args:
        first, second: corners (x, y), in turn around each, in one frame.
    """
    first, second = (np.asarray(corners, np.float64).reshape(-1, 4, 2) for corners in (first, second))
    areas = polygon_area(first)[:, None], polygon_area(second)[None]
    boxes = upright(first)[:, None], upright(second)[None]
    low, high = np.maximum(boxes[0], boxes[1])[..., :2], np.minimum(boxes[0], boxes[1])[..., 2:]
    rows, columns = np.nonzero((high > low).all(axis=2) & (areas[0] > 0) & (areas[1] > 0))
    common = np.zeros((len(first), len(second)))
    common[rows, columns] = common_area(first[rows], second[columns])
    iou: np.ndarray = common / np.maximum(areas[0] + areas[1] - common, np.finfo(float).tiny)
    return iou


def common_area(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(N,): area that convex quadrilaterals (N, 4, 2) share, row by row.

    The first is cut along the four sides of the second. A corner that lies outside is not taken out but moved
    onto the side's line: the detour along the line and back encloses nothing, and no branch is needed.
    """
    origin = second[:, :1]  # near it, numbers are small and differences exact
    points, second = first - origin, second - origin
    sense = np.sign(_signed_area(second))[:, None]
    for side in range(4):
        start = second[:, side, None]
        along = second[:, (side + 1) % 4, None] - start
        length = np.maximum(np.linalg.norm(along, axis=2, keepdims=True), np.finfo(float).tiny)
        inward = np.stack([-along[..., 1], along[..., 0]], axis=2) / length * sense[..., None]
        depth = ((points - start) * inward).sum(axis=2)  # below 0: outside
        points = _cut(points, depth, inward)
    area: np.ndarray = np.abs(_signed_area(points))
    return area


def _cut(points: np.ndarray, depth: np.ndarray, inward: np.ndarray) -> np.ndarray:
    """Polygons (N, V, 2) -> (N, 2 V, 2): what is outside moved onto the line, with the crossing points."""
    following, depth_following = np.roll(points, -1, axis=1), np.roll(depth, -1, axis=1)
    moved = points - np.minimum(depth, 0)[..., None] * inward
    crosses = (depth < 0) != (depth_following < 0)
    share = np.where(crosses, depth / np.where(crosses, depth - depth_following, 1), 0)[..., None]
    between = np.where(crosses[..., None], points + share * (following - points), moved)
    return np.stack([moved, between], axis=2).reshape(len(points), 2 * points.shape[1], 2)


def polygon_area(corners: np.ndarray) -> np.ndarray:
    """(N,): area of polygons (N, V, 2)."""
    area: np.ndarray = np.abs(_signed_area(corners))
    return area


def _signed_area(corners: np.ndarray) -> np.ndarray:
    following = np.roll(corners, -1, axis=1)
    area: np.ndarray = (corners[..., 0] * following[..., 1] - corners[..., 1] * following[..., 0]).sum(
        axis=1
    ) / 2
    return area
