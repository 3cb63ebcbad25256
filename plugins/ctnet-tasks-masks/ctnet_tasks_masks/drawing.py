"""Masks drawn over the image, which shows through."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from ctnet.plugin import Colour, Detections, draw_detections, draw_rectangle, line_width
from ctnet_tasks_masks.overlapping import Region

#: How much of the image a mask hides.
_OPACITY = 0.45


def draw_masks(image: np.ndarray, detections: Detections, class_names: Sequence[str]) -> np.ndarray:
    """A copy of the image with tinted masks, their outlines and captions; the highest score is on top.

    Args:
        image: (H, W, 3) uint8, RGB.
        detections: objects of this image, in its pixels; those without a mask are shown as boxes.
        class_names: name of each label.

    Returns:
        A new (H, W, 3) uint8 image.
    """
    masks = detections.fields().get("mask", [None] * len(detections))

    def outline(canvas: np.ndarray, row: int, colour: Colour) -> None:
        if masks[row] is None:
            draw_rectangle(canvas, detections.boxes[row], colour)
        else:
            _draw_mask(canvas, masks[row], colour)

    return draw_detections(image, detections, class_names, outline)


def _draw_mask(canvas: np.ndarray, mask: Region, colour: Colour) -> None:
    """Tint the pixels of a mask, and draw the line around them."""
    height, width = canvas.shape[:2]
    covered = mask.runs(width, height)
    left, top, right, bottom = covered.box.astype(int).tolist()
    if right <= left or bottom <= top:
        return
    inside = covered.pixels[top:bottom, left:right].astype(np.uint8)
    part = canvas[top:bottom, left:right]
    tinted = np.round((1 - _OPACITY) * part + _OPACITY * np.array(colour))
    part[:] = np.where(inside[..., None] > 0, tinted, part).astype(np.uint8)
    contours, _ = cv2.findContours(inside, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    moved = [contour + np.array([left, top]) for contour in contours]
    cv2.polylines(canvas, moved, True, colour, line_width(canvas))
