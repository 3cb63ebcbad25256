"""Drawing who is who in a video: a number on every object that is followed, and the way that it came."""

from __future__ import annotations

from collections import deque

import numpy as np

from ctnet.core.records import Detections
from ctnet.ops.boxes import box_centres
from ctnet.report.draw import class_colour, draw_caption, draw_dot, draw_lines, free_place, line_width

#: Frames that a trail reaches back.
LENGTH = 25


class Trails:
    """The ways of the objects of one video, drawn frame by frame."""

    def __init__(self) -> None:
        self._ways: dict[int, deque[np.ndarray]] = {}
        self._seen: dict[int, int] = {}
        self._frame = 0

    def draw(self, picture: np.ndarray, detections: Detections) -> np.ndarray:
        """A copy of a frame's picture with the trails, and the number of each object that has one.

        Args:
            picture: (H, W, 3) uint8, RGB; the frame, with whatever is drawn beside it to the right.
            detections: those of the frame, in its pixels, with ``track_id`` (N,) int64.
        """
        self._frame += 1
        canvas = np.array(picture, order="C")
        identities = np.asarray(detections.track_id).tolist()
        for identity, centre in zip(identities, box_centres(np.asarray(detections.boxes)), strict=True):
            if identity >= 0:
                self._ways.setdefault(identity, deque(maxlen=LENGTH)).append(centre)
                self._seen[identity] = self._frame
        for identity in [one for one, frame in self._seen.items() if self._frame - frame > LENGTH]:
            del self._ways[identity], self._seen[identity]
        for identity, way in self._ways.items():
            if len(way) > 1 and identity in identities:
                draw_lines(canvas, [np.stack(way)], class_colour(identity))
        taken: list[tuple[int, int, int, int]] = []
        for row, identity in enumerate(identities):
            if identity >= 0:
                box = np.asarray(detections.boxes[row])
                draw_dot(canvas, box_centres(box), line_width(canvas), class_colour(identity))
                middle = np.concatenate([box_centres(box), box_centres(box)])
                place = free_place(canvas, f"{identity}", middle, taken)
                draw_caption(canvas, f"{identity}", place, class_colour(identity))
                taken.append(place)
        return canvas
