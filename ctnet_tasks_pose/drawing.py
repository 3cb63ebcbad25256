"""Drawing poses: limbs coloured by side, joints sized by score."""

from __future__ import annotations

import cv2
import numpy as np

from ctnet.plugin import Colour, Detections, as_pixels, draw_detections, draw_dot, line_width
from ctnet_tasks_pose.skeleton import Side, Skeleton

_COLOURS: dict[Side, Colour] = {
    "left": (255, 140, 0),
    "right": (30, 160, 255),
    "middle": (120, 220, 60),
}
#: Joints below this score, and limbs that end in one, are not drawn.
_LEAST_SCORE = 0.1


def draw_poses(
    image: np.ndarray, detections: Detections, skeleton: Skeleton, class_names: tuple[str, ...]
) -> np.ndarray:
    """A copy of the image with boxes, limbs and joints; orange is a person's left, blue its right.

    Args:
        image: (H, W, 3) uint8, RGB.
        detections: the detections of this image, in its pixels; a joint's dot grows with its score, and one
            below 0.1 is not drawn.
        skeleton: limbs and sides.
        class_names: name of each label.

    Returns:
        A new (H, W, 3) uint8 image.
    """
    canvas = draw_detections(image, detections, class_names)
    for person in np.argsort(detections.scores, kind="stable"):
        _draw_pose(canvas, detections.keypoints[person], detections.keypoint_scores[person], skeleton)
    return canvas


def limb_side(skeleton: Skeleton, edge: tuple[int, int]) -> Side:
    """The side of a limb: that of its ends, "middle" for one between both sides (such as the shoulders)."""
    ends = {skeleton.sides[joint] for joint in edge} - {"middle"}
    return ends.pop() if len(ends) == 1 else "middle"


def _draw_pose(canvas: np.ndarray, points: np.ndarray, scores: np.ndarray, skeleton: Skeleton) -> None:
    line = line_width(canvas)
    at = as_pixels(points, canvas).tolist()
    drawn = scores >= _LEAST_SCORE
    for edge in skeleton.edges:
        if drawn[list(edge)].all():
            colour = _COLOURS[limb_side(skeleton, edge)]
            cv2.line(canvas, at[edge[0]], at[edge[1]], colour, line, cv2.LINE_AA)
    for joint in np.flatnonzero(drawn):
        radius = max(1, round(line * (0.6 + 1.2 * float(scores[joint]))))
        draw_dot(canvas, points[joint], radius, _COLOURS[skeleton.sides[joint]])
