"""Pictures: outlines where the boxes are, a tick at the end of the long axis."""

from __future__ import annotations

import numpy as np
import pytest
from ctnet_tasks_obb.boxes import Rectangles
from ctnet_tasks_obb.drawing import draw_rotated

from ctnet.core.records import Detections
from ctnet.ops.boxes import boxes_around
from ctnet.report.draw import class_colour

IMAGE = np.full((180, 240, 3), 128, np.uint8)


def one(degrees: float, score: float = 1.0) -> Detections:
    axis = np.exp(1j * np.radians([degrees]))
    corners = Rectangles(np.array([[120.0, 90.0]]), np.array([[100.0, 40.0]]), axis).corners.astype(
        np.float32
    )
    return Detections(boxes_around(corners), np.array([score]), np.array([0]), {"corners": corners})


@pytest.mark.parametrize("degrees", [0, 180, 30, -30])
def test_the_tick_is_on_the_right_and_the_middle_is_free(degrees: float) -> None:
    drawn = draw_rotated(IMAGE, one(degrees), ["ship"])
    colour = np.array(class_colour(0))
    ink = (np.abs(drawn.astype(int) - colour) < 40).all(axis=2)
    along = np.array([np.cos(np.radians(degrees)), np.sin(np.radians(degrees))])
    along *= np.sign(along[0])  # the end to the right

    def inked(share: float) -> bool:
        x, y = (np.array([120, 90]) + share * 50 * along).round().astype(int)
        return bool(ink[y - 1 : y + 2, x - 1 : x + 2].any())

    assert inked(0.85)
    assert inked(1.0)
    assert not inked(0.5)
    assert not inked(-0.85)
    assert inked(-1.0)  # the other short side


def test_what_is_drawn_on_stays_and_colours_follow_the_class() -> None:
    before = IMAGE.copy()
    detections = one(30, 0.7)
    first = draw_rotated(IMAGE, detections, ["ship", "raft"])
    second = draw_rotated(IMAGE, detections.replace(labels=np.array([1])), ["ship", "raft"])
    assert np.array_equal(IMAGE, before)
    assert not np.array_equal(first, second)
    assert np.array_equal(draw_rotated(IMAGE, detections[:0], ["ship"]), IMAGE)


def test_a_box_far_outside_harms_nothing() -> None:
    detections = one(30)
    far = detections.replace(corners=detections.corners * np.float32(1e9))
    assert draw_rotated(IMAGE, far, ["ship"]).shape == IMAGE.shape
