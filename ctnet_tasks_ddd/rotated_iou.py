"""Overlap of rotated rectangles and upright boxes in camera coordinates.

The camera looks along z, x points right, y down; metres and radians. A box stands on its bottom face, whose
centre is its location: it fills y - height .. y. At rotation_y = 0 its length lies along x, and it turns from
x towards -z. Sizes may be negative, as in results of a regression gone astray: a rectangle with both sides
negative is the same rectangle turned by half a turn, one with a single negative side covers nothing.
"""

from __future__ import annotations

import numpy as np


def intersection_area(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Area that two rotated rectangles share, pair by pair.

    The boundary of the first rectangle is walked in the frame of the second, where the latter is the range
    -a..a by -b..b. By Green's theorem the area is the sum over the four edges of the integral of
    ``clip(x, -a, a) dy`` over that part of the edge whose y lies in -b..b. Nothing in it jumps: boxes that
    coincide or touch need no special case.

    Args:
        first, second: (N, 5) float64: x, z, length, width, rotation_y.

    Returns:
        (N,) float64, square metres, exact to rounding.
    """
    x, y = _corners_seen_from(first, second)
    half_length, half_width = np.abs(second[:, 2]) / 2, np.abs(second[:, 3]) / 2
    across, up = np.roll(x, -1, axis=0) - x, np.roll(y, -1, axis=0) - y
    start, end = _inner_part(y, up, half_width)
    x_start, x_end = x + start * across, x + end * across
    rise = np.clip(np.roll(y, -1, axis=0), -half_width, half_width) - np.clip(y, -half_width, half_width)
    area = (rise * _mean_clipped(x_start, x_end, half_length)).sum(axis=0)
    limit = np.minimum(first[:, 2] * first[:, 3], second[:, 2] * second[:, 3])
    bounded: np.ndarray = np.clip(area, 0, np.maximum(limit, 0))
    return bounded


def bev_iou(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Intersection over union of rectangles seen from above, pair by pair; 0 where the union has no area.

    Args:
        first, second: (N, 5) float64: x, z, length, width, rotation_y.

    Returns:
        (N,) float64 in [0, 1].
    """
    shared = intersection_area(first, second)
    return share(shared, first[:, 2] * first[:, 3] + second[:, 2] * second[:, 3] - shared)


def iou_3d(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Intersection over union of upright boxes, pair by pair; 0 where the union has no volume.

    Args:
        first, second: (N, 7) float64: x, y, z, height, width, length, rotation_y, in the order of KITTI's
            files.

    Returns:
        (N,) float64 in [0, 1].
    """
    shared = intersection_area(ground(first), ground(second)) * common_height(first, second)
    return share(shared, first[:, 3:6].prod(axis=1) + second[:, 3:6].prod(axis=1) - shared)


def ground(boxes: np.ndarray) -> np.ndarray:
    """(N, 5) rectangles (x, z, length, width, rotation_y) under (N, 7) boxes."""
    return boxes[:, [0, 2, 5, 4, 6]]


def common_height(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Common extent in y of (N, 7) boxes, metres; 0 for boxes of negative height."""
    bottom = np.minimum(first[:, 1], second[:, 1])
    top = np.maximum(first[:, 1] - first[:, 3], second[:, 1] - second[:, 3])
    height: np.ndarray = np.maximum(bottom - top, 0)
    return height


def share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """``part / whole``; 0 where either is not positive."""
    found = (part > 0) & (whole > 0)
    result: np.ndarray = np.where(found, part / np.where(found, whole, 1), 0.0)
    return result


def _corners_seen_from(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Corners of the first rectangle along the length and width axes of the second, (4, N) each.

    They run counter-clockwise in these axes.
    """
    cos, sin = np.cos(second[:, 4]), np.sin(second[:, 4])
    right, forward = first[:, 0] - second[:, 0], first[:, 1] - second[:, 1]
    turn = first[:, 4] - second[:, 4]
    cos_turn, sin_turn = np.cos(turn), np.sin(turn)
    along = np.multiply.outer([0.5, -0.5, -0.5, 0.5], np.abs(first[:, 2]))
    beside = np.multiply.outer([0.5, 0.5, -0.5, -0.5], np.abs(first[:, 3]))
    x = right * cos - forward * sin + along * cos_turn + beside * sin_turn
    y = right * sin + forward * cos - along * sin_turn + beside * cos_turn
    return x, y


def _inner_part(start: np.ndarray, step: np.ndarray, limit: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where in [0, 1] the line ``start + t * step`` enters and leaves the range -limit..limit.

    A line that stays on one side of the range is left at its end or entered at its beginning.
    """
    with np.errstate(over="ignore"):
        divisor = np.where(step == 0, 1.0, step)
        low, high = (np.clip((bound - start) / divisor, 0, 1) for bound in (-limit, limit))
    return np.minimum(low, high), np.maximum(low, high)


def _mean_clipped(start: np.ndarray, end: np.ndarray, limit: np.ndarray) -> np.ndarray:
    """Mean of ``clip(x, -limit, limit)`` for x running evenly from start to end."""
    step = end - start
    enter, leave = _inner_part(start, step, limit)
    at_enter, at_leave = (np.clip(start + part * step, -limit, limit) for part in (enter, leave))
    outer = enter * np.clip(start, -limit, limit) + (1 - leave) * np.clip(end, -limit, limit)
    mean: np.ndarray = outer + (leave - enter) * (at_enter + at_leave) / 2
    return mean
