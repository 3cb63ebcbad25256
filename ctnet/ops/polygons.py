"""Areas of polygons, and overlaps of rotated boxes.

A rotated box is five numbers in the last dimension: x and y of its centre, its length along its own axis, its
width across it, and the angle of that axis, radians from the x axis towards the y axis. Predicted sizes may
be negative: a box with both sides negative is the same box rotated by 180 degrees, one with a single negative
side has no area.
"""

from __future__ import annotations

import numpy as np

from ctnet.ops.boxes import ratio


def polygon_areas(corners: np.ndarray) -> np.ndarray:
    """Areas (...) of polygons (..., V, 2) with corners in order, in either direction."""
    x, y = corners[..., 0], corners[..., 1]
    twice = (x * np.roll(y, -1, axis=-1) - y * np.roll(x, -1, axis=-1)).sum(axis=-1)
    areas: np.ndarray = np.abs(twice) / 2
    return areas


def rotated_iou(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Intersection over union of rotated boxes; 0 where the union has no area.

    Args:
        one, other: (..., 5) float, rotated boxes in one frame; their shapes broadcast.

    Returns:
        (...) float64 in [0, 1].
    """
    common = rotated_intersections(one, other)
    return ratio(common, one[..., 2] * one[..., 3] + other[..., 2] * other[..., 3] - common)


def rotated_intersections(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Intersection areas of rotated boxes, computed only where their circumscribed circles meet.

    Args:
        one, other: (..., 5) float, rotated boxes in one frame; their shapes broadcast.

    Returns:
        (...) float64, in the boxes' unit squared, exact to rounding.
    """
    one, other = np.broadcast_arrays(np.asarray(one, np.float64), np.asarray(other, np.float64))
    reach = (np.hypot(one[..., 2], one[..., 3]) + np.hypot(other[..., 2], other[..., 3])) / 2
    near = np.hypot(one[..., 0] - other[..., 0], one[..., 1] - other[..., 1]) < reach
    area = np.zeros(near.shape)
    area[near] = _common_area(one[near], other[near])
    return area


def _common_area(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(N,): intersection areas of boxes (N, 5), row by row.

    The boundary of the first is traversed in the frame of the second, where the second is -a..a by -b..b. By
    Green's theorem the area is the sum over the four edges of the integral of ``clip(x, -a, a) dy`` over the
    part of the edge with y in -b..b. It is continuous, so boxes that coincide or touch need no special case.
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


def _corners_seen_from(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates of the first box's corners along the length and width axes of the second, (4, N) each.

    They are ordered from the first of these axes towards the second.
    """
    cos, sin = np.cos(second[:, 4]), np.sin(second[:, 4])
    right, down = first[:, 0] - second[:, 0], first[:, 1] - second[:, 1]
    turn = first[:, 4] - second[:, 4]
    cos_turn, sin_turn = np.cos(turn), np.sin(turn)
    along = np.multiply.outer([0.5, -0.5, -0.5, 0.5], np.abs(first[:, 2]))
    beside = np.multiply.outer([0.5, 0.5, -0.5, -0.5], np.abs(first[:, 3]))
    x = right * cos + down * sin + along * cos_turn - beside * sin_turn
    y = down * cos - right * sin + along * sin_turn + beside * cos_turn
    return x, y


def _inner_part(start: np.ndarray, step: np.ndarray, limit: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where in [0, 1] the line ``start + t * step`` enters and leaves the range -limit..limit.

    For a line that stays on one side of the range both are its end or its start.
    """
    with np.errstate(over="ignore"):
        divisor = np.where(step == 0, 1.0, step)
        low, high = (np.clip((bound - start) / divisor, 0, 1) for bound in (-limit, limit))
    return np.minimum(low, high), np.maximum(low, high)


def _mean_clipped(start: np.ndarray, end: np.ndarray, limit: np.ndarray) -> np.ndarray:
    """Mean of ``clip(x, -limit, limit)`` for x uniform from start to end."""
    step = end - start
    enter, leave = _inner_part(start, step, limit)
    at_enter, at_leave = (np.clip(start + part * step, -limit, limit) for part in (enter, leave))
    outer = enter * np.clip(start, -limit, limit) + (1 - leave) * np.clip(end, -limit, limit)
    mean: np.ndarray = outer + (leave - enter) * (at_enter + at_leave) / 2
    return mean
