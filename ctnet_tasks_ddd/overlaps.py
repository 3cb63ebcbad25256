"""Pairs of labels and results that overlap, over all frames at once.

In the camera's frame z points forward, x right and y down. A box's location is the centre of its bottom face,
so it spans y - height .. y. At rotation_y = 0 its length is along x, and it rotates from x towards -z. Metres
and radians; predicted sizes may be negative.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ctnet.plugin import box_intersections, ratio, rotated_intersections

METRICS = ("detection", "ground", "3d")
"""Overlap of image boxes, of rectangles seen from above, and of boxes in space."""

_PAIRS_AT_ONCE = 500_000


@dataclass(frozen=True)
class Shapes:
    """Boxes of objects.

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
    """Pairwise overlaps of objects, one array (N,) for each of ``METRICS``.

    Args:
        first, second: N objects each.
        of_second: divide the intersection by the area or volume of the second instead of the union.
    """
    area = rotated_intersections(_ground(first), _ground(second))
    common = (box_intersections(first.boxes, second.boxes), area, area * _common_height(first, second))
    found = []
    for part, own, other in zip(common, _contents(first), _contents(second), strict=True):
        found.append(ratio(part, other if of_second else own + other - part))
    return found


def _contents(shapes: Shapes) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Area in the image, area on the ground, volume; negative if a size is."""
    left, top, right, bottom = shapes.boxes.T
    height, width, length = shapes.boxes_3d[:, 3:6].T
    return (right - left) * (bottom - top), width * length, height * length * width


def _ground(shapes: Shapes) -> np.ndarray:
    """(N, 5) rotated boxes in the plane of x and z, where rotation_y rotates from x towards -z."""
    return shapes.boxes_3d[:, [0, 2, 5, 4, 6]] * [1, 1, 1, 1, -1]


def _common_height(first: Shapes, second: Shapes) -> np.ndarray:
    """Common extent in y, metres; 0 for boxes of negative height."""
    bottoms = first.boxes_3d[:, 1], second.boxes_3d[:, 1]
    tops = first.boxes_3d[:, 1] - first.boxes_3d[:, 3], second.boxes_3d[:, 1] - second.boxes_3d[:, 3]
    return np.asarray(np.maximum(np.minimum(*bottoms) - np.maximum(*tops), 0))
