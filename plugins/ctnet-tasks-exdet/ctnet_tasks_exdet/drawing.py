"""Objects drawn as octagons through their extreme points."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from ctnet.plugin import Detections, Place, caption, class_colour, draw_caption, free_place, line_width
from ctnet_tasks_exdet.edges import BOTTOM, LEFT, RIGHT, TOP, side_middles

#: How much of the image shows through an octagon.
_CLEAR = 0.75
_RIM = (20, 20, 20)


def octagons(boxes: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Octagons that touch each side of a box in a segment around its extreme point.

    A segment is a quarter as long as its side, and ends where the side ends.

    Args:
        boxes: (N, 4) xyxy.
        points: (N, 4, 2), top, left, bottom, right.

    Returns:
        (N, 8, 2), anticlockwise from the right end of the top segment.

    Source: ExtremeNet, section 4.5.
    """
    low, high = boxes[:, :2], boxes[:, 2:]
    reach = (high - low) / 8
    corners = []
    # Anticlockwise as seen: along the top to the left, then down, to the right, and up.
    for edge, axis, sign in ((TOP, 0, 1), (LEFT, 1, -1), (BOTTOM, 0, -1), (RIGHT, 1, 1)):
        for end in (sign, -sign):
            corner = points[:, edge].copy()
            moved = corner[:, axis] + end * reach[:, axis]
            corner[:, axis] = np.clip(moved, low[:, axis], np.maximum(low, high)[:, axis])
            corners.append(corner)
    return np.stack(corners, axis=1) if corners else np.zeros((0, 8, 2), boxes.dtype)


def draw_octagons(image: np.ndarray, detections: Detections, class_names: Sequence[str]) -> np.ndarray:
    """A copy of the image with tinted octagons, extreme points and captions; the best score ends on top.

    Args:
        image: (H, W, 3) uint8, RGB.
        detections: of this image, in its pixels, with ``extreme_points``, NaN where not known.
        class_names: name of each label.

    Returns:
        A new (H, W, 3) uint8 image.
    """
    canvas = np.array(image, order="C")
    if not len(detections):
        return canvas
    scores, labels = detections.scores, detections.labels
    # Annotations drawn like detections all have score 1, which tells nothing.
    of_truth = bool((scores == 1).all())
    limit = 4 * max(image.shape)  # a wild regression must not overflow OpenCV's integers
    boxes = np.clip(detections.boxes, -limit, limit)
    points = np.clip(detections.extreme_points, -limit, limit)
    points = np.where(np.isnan(points), side_middles(boxes), points)  # results of anybody have none
    shapes = octagons(boxes, points)
    best_first = np.argsort(-scores, kind="stable")
    places: dict[int, Place] = {}
    texts = {}
    for row in best_first.tolist():
        texts[row] = caption(int(labels[row]), class_names, None if of_truth else float(scores[row]))
        places[row] = free_place(canvas, texts[row], boxes[row], list(places.values()))
    for row in best_first[::-1].tolist():
        _draw_octagon(canvas, shapes[row], points[row], class_colour(int(labels[row])))
    for row in best_first[::-1].tolist():  # after all octagons, so that no line crosses a name
        draw_caption(canvas, texts[row], places[row], class_colour(int(labels[row])))
    return canvas


def _draw_octagon(
    canvas: np.ndarray, octagon: np.ndarray, points: np.ndarray, colour: tuple[int, int, int]
) -> None:
    line = line_width(canvas)
    outline = np.round(octagon).astype(np.int32)
    tinted = cv2.fillPoly(canvas.copy(), [outline], colour)
    cv2.addWeighted(canvas, _CLEAR, tinted, 1 - _CLEAR, 0, dst=canvas)
    cv2.polylines(canvas, [outline], True, colour, line, cv2.LINE_AA)
    for x, y in np.round(points).astype(int).tolist():
        cv2.circle(canvas, (x, y), 2 * line + 1, _RIM, cv2.FILLED, cv2.LINE_AA)
        cv2.circle(canvas, (x, y), 2 * line, colour, cv2.FILLED, cv2.LINE_AA)
