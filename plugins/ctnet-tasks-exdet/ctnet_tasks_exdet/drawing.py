"""Objects drawn as octagons through their extreme points."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from ctnet.plugin import Colour, Detections, as_pixels, draw_detections, draw_dot, line_width
from ctnet_tasks_exdet.edges import BOTTOM, LEFT, RIGHT, TOP, side_midpoints

#: Transparency of an octagon.
_CLEAR = 0.75

#: The corners of an octagon, anticlockwise in the image: along the top to the left, then down, to the right,
#: up. For each: its edge, the axis of its displacement from the extreme point, and the direction.
_AROUND = (
    *((TOP, 0, 1), (TOP, 0, -1)),
    *((LEFT, 1, -1), (LEFT, 1, 1)),
    *((BOTTOM, 0, -1), (BOTTOM, 0, 1)),
    *((RIGHT, 1, 1), (RIGHT, 1, -1)),
)


def octagons(boxes: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Octagons that touch each side of a box in a segment around the extreme point.

    A segment is a quarter of its side's length, clipped to the side.

    Args:
        boxes: (N, 4) xyxy.
        points: (N, 4, 2), top, left, bottom, right.

    Returns:
        (N, 8, 2), anticlockwise from the right end of the top segment.

    Source: ExtremeNet, section 4.5.
    """
    low, high = boxes[:, :2], boxes[:, 2:]
    reach = (high - low) / 8
    edge, axis, sign = np.array(_AROUND).T
    corners = points[:, edge]
    ends = corners[:, range(8), axis] + sign * reach[:, axis]
    corners[:, range(8), axis] = np.clip(ends, low[:, axis], np.maximum(low, high)[:, axis])
    return np.asarray(corners)


def draw_octagons(image: np.ndarray, detections: Detections, class_names: Sequence[str]) -> np.ndarray:
    """A copy of the image with tinted octagons, extreme points and captions; the best score ends on top.

    Args:
        image: (H, W, 3) uint8, RGB.
        detections: the detections of this image, in its pixels, with ``extreme_points``, NaN where unknown.
        class_names: name of each label.

    Returns:
        A new (H, W, 3) uint8 image.
    """

    def outline(canvas: np.ndarray, row: int, colour: Colour) -> None:
        box, points = detections.boxes[row], detections.extreme_points[row]
        points = np.where(
            np.isnan(points), side_midpoints(box[None])[0], points
        )  # other programs' results have none
        _draw_octagon(canvas, octagons(box[None], points[None])[0], points, colour)

    return draw_detections(image, detections, class_names, outline)


def _draw_octagon(canvas: np.ndarray, octagon: np.ndarray, points: np.ndarray, colour: Colour) -> None:
    line, corners = line_width(canvas), as_pixels(octagon, canvas)
    tinted = cv2.fillPoly(canvas.copy(), [corners], colour)
    cv2.addWeighted(canvas, _CLEAR, tinted, 1 - _CLEAR, 0, dst=canvas)
    cv2.polylines(canvas, [corners], True, colour, line, cv2.LINE_AA)
    for point in points:
        draw_dot(canvas, point, 2 * line, colour)
