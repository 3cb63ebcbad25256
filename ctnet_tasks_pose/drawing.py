"""Poses drawn on an image: limbs coloured by side, joints as large as they are sure."""

from __future__ import annotations

import cv2
import numpy as np

from ctnet.plugin import Detections, draw_boxes, line_width
from ctnet_tasks_pose.skeleton import Side, Skeleton

_COLOURS: dict[Side, tuple[int, int, int]] = {
    "left": (255, 140, 0),
    "right": (30, 160, 255),
    "middle": (120, 220, 60),
}
#: Joints below this score, and limbs that end in one, are not drawn.
_LEAST_SCORE = 0.1
_RIM = (20, 20, 20)


def draw_poses(
    image: np.ndarray, detections: Detections, skeleton: Skeleton, class_names: tuple[str, ...]
) -> np.ndarray:
    """A copy of the image with boxes, limbs and joints; orange is a person's left, blue its right.

    Args:
        image: (H, W, 3) uint8, RGB.
        detections: of this image, in its pixels; a joint's dot grows with its score, and one below 0.1 is not
            drawn.
        skeleton: limbs and sides.
        class_names: name of each label.

    Returns:
        A new (H, W, 3) uint8 image.
    """
    # Annotations drawn like detections all have score 1, which tells nothing.
    scores = None if (detections.scores == 1).all() else detections.scores
    canvas = draw_boxes(image, detections.boxes, detections.labels, scores, class_names)
    if not len(detections):
        return canvas
    limit = 4 * max(image.shape)  # a wild regression must not overflow OpenCV's integers
    points = np.clip(detections.keypoints, -limit, limit)
    for person in np.argsort(detections.scores, kind="stable"):
        _draw_pose(canvas, points[person], detections.keypoint_scores[person], skeleton)
    return canvas


def limb_side(skeleton: Skeleton, edge: tuple[int, int]) -> Side:
    """The side of a limb: that of its ends, "middle" for one that crosses over (the shoulders, say)."""
    ends = {skeleton.sides[joint] for joint in edge} - {"middle"}
    return ends.pop() if len(ends) == 1 else "middle"


def _draw_pose(canvas: np.ndarray, points: np.ndarray, scores: np.ndarray, skeleton: Skeleton) -> None:
    line = line_width(canvas)
    at = np.round(points).astype(int).tolist()
    drawn = scores >= _LEAST_SCORE
    for edge in skeleton.edges:
        if drawn[list(edge)].all():
            colour = _COLOURS[limb_side(skeleton, edge)]
            cv2.line(canvas, at[edge[0]], at[edge[1]], colour, line, cv2.LINE_AA)
    for joint in np.flatnonzero(drawn):
        radius = max(1, round(line * (0.6 + 1.2 * float(scores[joint]))))
        cv2.circle(canvas, at[joint], radius + 1, _RIM, cv2.FILLED, cv2.LINE_AA)
        cv2.circle(canvas, at[joint], radius, _COLOURS[skeleton.sides[joint]], cv2.FILLED, cv2.LINE_AA)
