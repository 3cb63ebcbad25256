"""Objects drawn as boxes in space, and seen from above."""

from __future__ import annotations

import cv2
import numpy as np

from ctnet.plugin import Colour, Detections, class_colour, draw_detections, font_scale, line_width
from ctnet_tasks_ddd.camera import box_corners, heading

#: Pairs of corners that an edge joins, see ``camera.box_corners``.
_EDGES = tuple(
    (first + 4 * level, (first + 1) % 4 + 4 * level) for level in (0, 1) for first in range(4)
) + tuple((corner, corner + 4) for corner in range(4))
_FRONT = (0, 1, 5, 4)

_GROUND, _LINES, _INK = (28, 30, 34), (70, 74, 80), (175, 180, 186)
_NEAREST_RANGE = 20.0  # m: what the view from above shows at least
_STEPS = (5, 10, 20, 50, 100, 200, 500)


def draw_objects(image: np.ndarray, detections: Detections, class_names: tuple[str, ...]) -> np.ndarray:
    """The image with boxes in space, their fronts crossed, and beside it the same seen from above.

    Detections without a place in space are drawn as boxes in the image, and nothing beside it.

    Args:
        image: (H, W, 3) uint8, RGB.
        detections: of this image, lifted, in its pixels.
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


def draw_wireframe(canvas: np.ndarray, corners: np.ndarray, colour: tuple[int, int, int]) -> None:
    """Draw a box's edges and a cross on its front.

    Args:
        canvas: (H, W, 3) uint8; changed.
        corners: (8, 2), image pixels.
        colour: RGB.
    """
    limit = 8 * max(canvas.shape)  # a wild regression must not overflow OpenCV's integers
    at = np.clip(np.nan_to_num(corners), -limit, limit).round().astype(int).tolist()
    line = line_width(canvas)
    crossed = ((_FRONT[0], _FRONT[2]), (_FRONT[1], _FRONT[3]))
    for width, shade in ((line + 2, tuple(channel // 4 for channel in colour)), (line, colour)):
        if width > line and min(canvas.shape[:2]) < 200:
            continue  # a rim would fill small pictures
        for first, second in _EDGES:
            cv2.line(canvas, at[first], at[second], shade, width, cv2.LINE_AA)
    for first, second in crossed:
        cv2.line(canvas, at[first], at[second], colour, 1, cv2.LINE_AA)


def from_above(detections: Detections, height: int) -> np.ndarray:
    """A square map of the ground before the camera, which stands at the middle of its lower edge.

    Args:
        detections: with ``location``, ``dimensions`` and ``rotation_y``.
        height: of the picture, pixels.

    Returns:
        (height, height, 3) uint8, RGB.
    """
    panel = np.full((height, height, 3), _GROUND, np.uint8)
    reach = _reach(detections)
    scale = height * 0.95 / reach

    def at(points: np.ndarray) -> np.ndarray:
        x, z = points[..., 0], points[..., 2]
        return np.stack([height / 2 + x * scale, height - 1 - z * scale], axis=-1)

    _draw_ranges(panel, reach, scale)
    body = tuple(
        np.nan_to_num(np.asarray(detections.fields()[name], np.float64))
        for name in ("dimensions", "location", "rotation_y")
    )
    floors, ahead = at(box_corners(*body)[:, :4]), at(heading(*body))
    limit = 8 * height
    line = line_width(panel)
    for row in np.argsort(detections.scores, kind="stable"):
        colour = class_colour(int(detections.labels[row]))
        outline = np.clip(floors[row], -limit, limit).round().astype(np.int32)
        nose = np.clip(ahead[row], -limit, limit).round().astype(int).tolist()
        cv2.polylines(panel, [outline], True, colour, line, cv2.LINE_AA)
        cv2.line(panel, nose[0], nose[1], colour, line, cv2.LINE_AA)
    return panel


def _reach(detections: Detections) -> float:
    """How far the view from above shows, m: a round number beyond most objects."""
    if not len(detections):
        return _NEAREST_RANGE
    far = float(np.quantile(np.nan_to_num(detections.location[:, 2]), 0.95)) + 5
    return float(np.clip(np.ceil(far / 10) * 10, _NEAREST_RANGE, 100))


def _draw_ranges(panel: np.ndarray, reach: float, scale: float) -> None:
    """Circles of equal distance with their metres."""
    height = panel.shape[0]
    step = next((s for s in _STEPS if reach / s <= 5), _STEPS[-1])
    size = font_scale(panel) * 0.9
    for distance in range(step, int(reach) + 1, step):
        radius = round(distance * scale)
        cv2.circle(panel, (height // 2, height - 1), radius, _LINES, 1, cv2.LINE_AA)
        place = (height // 2 + 2, max(height - 1 - radius - 2, 10))
        cv2.putText(panel, f"{distance} m", place, cv2.FONT_HERSHEY_SIMPLEX, size, _INK, 1, cv2.LINE_AA)
