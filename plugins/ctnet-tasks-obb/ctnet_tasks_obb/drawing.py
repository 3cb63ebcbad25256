"""Rotated boxes drawn on images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ctnet.plugin import Colour, Detections, draw_detections, draw_lines
from ctnet_tasks_obb.boxes import rectangles


def draw_rotated(image: np.ndarray, detections: Detections, class_names: Sequence[str]) -> np.ndarray:
    """Draw rotated boxes with the names of their classes; the best score ends on top.

    A tick at the middle of one short side shows the direction of the angle. Boxes have no front, so it is the
    right one of the two short sides (for an upright box, the lower one).

    Args:
        image: (H, W, 3) uint8, RGB.
        detections: the detections of this image, in its pixels; those that all have score 1 (annotations)
            show no score.
        class_names: name of each label.

    Returns:
        A new (H, W, 3) uint8 image.
    """

    def outline(canvas: np.ndarray, row: int, colour: Colour) -> None:
        box = rectangles(detections.corners[row, None].astype(np.float64))
        along = np.array([box.axis[0].real, box.axis[0].imag]) * box.size[0, 0] / 2
        tick = box.centre[0] + np.outer([0.7, 1.0], along)
        draw_lines(canvas, [detections.corners[row, [0, 1, 2, 3, 0]], tick], colour)

    return draw_detections(image, detections, class_names, outline)
