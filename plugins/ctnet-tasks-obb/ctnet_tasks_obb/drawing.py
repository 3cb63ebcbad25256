"""Rotated boxes drawn on images."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from ctnet.plugin import Detections, Place, caption, class_colour, draw_caption, free_place, line_width
from ctnet_tasks_obb.boxes import rectangles, upright

#: OpenCV's points in sixteenths of a pixel.
_SHIFT = 4


def draw_rotated(image: np.ndarray, detections: Detections, class_names: Sequence[str]) -> np.ndarray:
    """Draw rotated boxes with the names of their classes; the best score ends on top.

    A tick on the middle of one short side shows the direction that the angle is of. Boxes have no front: of
    the two short sides it is the one to the right (of an upright box, the lower one).

    Args:
        image: (H, W, 3) uint8, RGB.
        detections: of this image, in its pixels; those that all have score 1 (annotations) show no score.
        class_names: name of each label.

    Returns:
        A new (H, W, 3) uint8 image.
    """
    canvas = np.array(image, order="C")
    boxes = upright(detections.corners)
    scores = None if (detections.scores == 1).all() else detections.scores
    order = np.argsort(-detections.scores, kind="stable").tolist()
    texts = {
        row: caption(int(detections.labels[row]), class_names, None if scores is None else float(scores[row]))
        for row in order
    }
    places: dict[int, Place] = {}
    for row in order:
        places[row] = free_place(canvas, texts[row], boxes[row], list(places.values()))
    for row in reversed(order):
        _draw_outline(canvas, detections.corners[row], class_colour(int(detections.labels[row])))
    for row in reversed(order):  # after all boxes, so that no line crosses a name
        draw_caption(canvas, texts[row], places[row], class_colour(int(detections.labels[row])))
    return canvas


def _draw_outline(canvas: np.ndarray, corners: np.ndarray, colour: tuple[int, int, int]) -> None:
    """Draw one rectangle and its tick, with a dark rim so that it shows on any background."""
    box = rectangles(corners[None].astype(np.float64))
    along = np.array([box.axis[0].real, box.axis[0].imag]) * box.size[0, 0] / 2
    tick = box.centre[0] + np.outer([0.7, 1.0], along)
    lines = [_sixteenths(corners), _sixteenths(tick)]
    thickness = line_width(canvas)
    dark = tuple(channel // 4 for channel in colour)
    for ink, width in ((dark, thickness + 2), (colour, thickness)):
        if width == thickness or min(canvas.shape[:2]) >= 200:
            cv2.polylines(canvas, lines[:1], True, ink, width, cv2.LINE_AA, _SHIFT)
            cv2.polylines(canvas, lines[1:], False, ink, width, cv2.LINE_AA, _SHIFT)


def _sixteenths(points: np.ndarray) -> np.ndarray:
    return np.asarray(np.round(np.clip(points, -1e4, 1e5) * 2**_SHIFT), np.int32)
