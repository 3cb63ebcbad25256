from __future__ import annotations

import numpy as np
import pytest

from ctnet.core.records import Detections
from ctnet_tasks_pose.drawing import draw_poses, limb_side
from ctnet_tasks_pose.skeleton import Skeleton

JOINTS = ["top", "left_hand", "right_hand", "left_foot", "right_foot"]
SKELETON = Skeleton.of_category(
    {"id": 1, "name": "p", "keypoints": JOINTS, "skeleton": [[1, 2], [1, 3], [2, 3], [2, 4], [3, 5]]}
)


def one(points, scores, score=0.9) -> Detections:
    extra = {"keypoints": np.array([points], np.float32), "keypoint_scores": np.array([scores], np.float32)}
    return Detections(np.array([[5, 5, 150, 110]], np.float32), np.array([score]), np.array([0]), extra)


POINTS = [[80, 15], [120, 40], [40, 40], [120, 100], [40, 100]]


def test_limbs_take_the_side_of_their_ends():
    assert [limb_side(SKELETON, edge) for edge in SKELETON.edges] == [
        "left",
        "right",
        "middle",
        "left",
        "right",
    ]


def test_a_left_limb_and_a_right_limb_have_different_colours():
    drawn = draw_poses(np.zeros((120, 160, 3), np.uint8), one(POINTS, [1] * 5), SKELETON, ("p",))
    left, right = drawn[70, 120].astype(int), drawn[70, 40].astype(int)
    assert left[0] > left[2]  # orange
    assert right[2] > right[0]  # blue


def test_surer_joints_have_larger_dots_and_doubtful_ones_none():
    image = np.zeros((120, 160, 3), np.uint8)

    def area(score: float) -> int:
        scores = [0, 0, 0, 0, score]
        with_dot = draw_poses(image, one(POINTS, scores), SKELETON, ("p",))
        without = draw_poses(image, one(POINTS, [0] * 5), SKELETON, ("p",))
        return int((with_dot != without).any(2).sum())

    assert area(0.05) == 0
    assert 0 < area(0.2) <= area(0.6) < area(1.0)


@pytest.mark.parametrize("far", [1e9, -1e9])
def test_wild_points_and_no_detection_at_all(far):
    image = np.random.default_rng(0).integers(0, 255, (120, 160, 3), np.uint8)
    before = image.copy()
    draw_poses(image, one([[far, far]] * 5, [1] * 5), SKELETON, ("p",))
    nothing = one(POINTS, [1] * 5)[:0]
    np.testing.assert_array_equal(draw_poses(image, nothing, SKELETON, ("p",)), image)
    np.testing.assert_array_equal(draw_poses(image, Detections.empty(), SKELETON, ("p",)), image)
    np.testing.assert_array_equal(image, before)
