"""Objects drawn as 3D boxes, and seen from above."""

from __future__ import annotations

import cv2
import numpy as np

from ctnet.plugin import Colour, Detections, class_colour, draw_detections, draw_lines, font_scale
from ctnet_tasks_ddd.camera import box_corners, heading

#: Lines along a box's corners, see ``camera.box_corners``: bottom, top, vertical edges, and the cross on the
#: front.
_WIRES = ((0, 1, 2, 3, 0), (4, 5, 6, 7, 4), (0, 4), (1, 5), (2, 6), (3, 7), (0, 5), (1, 4))

_GROUND, _LINES, _INK = (28, 30, 34), (70, 74, 80), (175, 180, 186)
_NEAREST_RANGE = 20.0  # m: the smallest range of the view from above
_STEPS = (5, 10, 20, 50, 100, 200, 500)


def draw_objects(image: np.ndarray, detections: Detections, class_names: tuple[str, ...]) -> np.ndarray:
    """The image with 3D boxes, a cross on their fronts, and next to it the view from above.

    Detections without a 3D position are drawn as image boxes, without the view from above.

    Args:
        image: (H, W, 3) uint8, RGB.
        detections: the detections of this image, lifted, in its pixels.
        class_names: name of each label.

    Returns:
        A new (H, W, 3) uint8 image, wider with the view from above.
    """
    if "location" not in detections.fields():
        return draw_detections(image, detections, class_names)

    def outline(canvas: np.ndarray, row: int, colour: Colour) -> None:
        draw_wireframe(canvas, detections.corners[row], colour)

    nearest_first = np.argsort(detections.location[:, 2], kind="stable").tolist()
    canvas = draw_detections(image, detections, class_names, outline, nearest_first)
    return np.concatenate([canvas, from_above(detections, image.shape[0])], axis=1)


def draw_wireframe(canvas: np.ndarray, corners: np.ndarray, colour: Colour) -> None:
    """Draw a box's edges and a cross on its front.

    Args:
        canvas: (H, W, 3) uint8; changed.
        corners: (8, 2), image pixels.
        colour: RGB.
    """
    draw_lines(canvas, [corners[list(wire)] for wire in _WIRES], colour)


def from_above(detections: Detections, height: int) -> np.ndarray:
    """A square map of the ground in front of the camera, which is at the middle of the lower edge.

    Args:
        detections: with ``location``, ``dimensions`` and ``rotation_y``.
        height: the height of the map, pixels.

    Returns:
        (height, height, 3) uint8, RGB.
    """
    panel = np.full((height, height, 3), _GROUND, np.uint8)
    reach = _reach(detections)
    origin, scale = np.array([height / 2, height - 1]), height * 0.95 / reach
    _draw_ranges(panel, reach, scale)
    columns = (detections.dimensions, detections.location, detections.rotation_y)
    body = tuple(np.nan_to_num(np.asarray(column, np.float64)) for column in columns)
    floors, ahead = box_corners(*body)[:, [0, 1, 2, 3, 0]], heading(*body)
    for row in np.argsort(detections.scores, kind="stable"):
        lines = [origin + points[row][:, ::2] * [scale, -scale] for points in (floors, ahead)]
        draw_lines(panel, lines, class_colour(int(detections.labels[row])))
    return panel


def _reach(detections: Detections) -> float:
    """Range of the view from above, m: a round number beyond most objects."""
    if not len(detections):
        return _NEAREST_RANGE
    far = float(np.quantile(np.nan_to_num(detections.location[:, 2]), 0.95)) + 5
    return float(np.clip(np.ceil(far / 10) * 10, _NEAREST_RANGE, 100))


def _draw_ranges(panel: np.ndarray, reach: float, scale: float) -> None:
    """Circles of equal distance, labelled in metres."""
    height = panel.shape[0]
    step = next((s for s in _STEPS if reach / s <= 5), _STEPS[-1])
    size = font_scale(panel) * 0.9
    for distance in range(step, int(reach) + 1, step):
        radius = round(distance * scale)
        cv2.circle(panel, (height // 2, height - 1), radius, _LINES, 1, cv2.LINE_AA)
        place = (height // 2 + 2, max(height - 1 - radius - 2, 10))
        cv2.putText(panel, f"{distance} m", place, cv2.FONT_HERSHEY_SIMPLEX, size, _INK, 1, cv2.LINE_AA)
