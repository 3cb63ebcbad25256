"""Pairs of labels and results that overlap, over all frames at once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ctnet_tasks_ddd.rotated_iou import common_height, ground, intersection_area, share

METRICS = ("detection", "ground", "3d")
"""Overlap of image boxes, of rectangles seen from above, and of boxes in space."""

_PAIRS_AT_ONCE = 500_000


@dataclass(frozen=True)
class Shapes:
    """Where objects are.

    Attributes:
        frame: (N,) int64, ascending.
        boxes: (N, 4) float64, xyxy, image pixels.
        boxes_3d: (N, 7) float64: x, y, z, height, width, length, rotation_y.
    """

    frame: np.ndarray
    boxes: np.ndarray
    boxes_3d: np.ndarray

    def __getitem__(self, rows: np.ndarray) -> Shapes:
        return Shapes(self.frame[rows], self.boxes[rows], self.boxes_3d[rows])


def frame_pairs(first: np.ndarray, second: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """All pairs of rows in the same frame, a bounded number at a time.

    Args:
        first, second: (N,), (M,) int64, ascending: the frame of each row.

    Yields:
        Rows of the first and of the second, sorted by the first, then by the second.
    """
    start = np.searchsorted(second, first, "left")
    count = np.searchsorted(second, first, "right") - start
    part = np.cumsum(count) // _PAIRS_AT_ONCE
    for rows in np.split(np.arange(len(first)), np.flatnonzero(np.diff(part)) + 1):
        counts = count[rows]
        within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        yield np.repeat(rows, counts), np.repeat(start[rows], counts) + within


def overlaps(first: Shapes, second: Shapes, of_second: bool = False) -> list[np.ndarray]:
    """How far objects overlap, pair by pair, one array (N,) for each of ``METRICS``.

    Args:
        first, second: N objects each.
        of_second: divide the intersection by the content of the second instead of the union.
    """
    area = _ground_intersection(first.boxes_3d, second.boxes_3d)
    shared = [
        _box_intersection(first.boxes, second.boxes),
        area,
        area * common_height(first.boxes_3d, second.boxes_3d),
    ]
    if of_second:
        return [share(part, own) for part, own in zip(shared, _contents(second), strict=True)]
    contents = zip(shared, _contents(first), _contents(second), strict=True)
    return [share(part, own + other - part) for part, own, other in contents]


def _contents(shapes: Shapes) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Area in the image, area on the ground, volume; negative where a size is."""
    left, top, right, bottom = shapes.boxes.T
    height, width, length = shapes.boxes_3d[:, 3:6].T
    return (right - left) * (bottom - top), width * length, height * length * width


def _box_intersection(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    sides = np.minimum(first[:, 2:], second[:, 2:]) - np.maximum(first[:, :2], second[:, :2])
    area: np.ndarray = np.where((sides > 0).all(axis=1), sides[:, 0] * sides[:, 1], 0)
    return area


def _ground_intersection(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Shared area seen from above; worked out only where the circles around the rectangles meet."""
    first, second = ground(first), ground(second)
    reach = (np.hypot(first[:, 2], first[:, 3]) + np.hypot(second[:, 2], second[:, 3])) / 2
    near = np.hypot(first[:, 0] - second[:, 0], first[:, 1] - second[:, 1]) < reach
    area = np.zeros(len(first))
    area[near] = intersection_area(first[near], second[near])
    return area
