from __future__ import annotations

import numpy as np
import pytest

from ctnet_tasks_pose.figures import FIGURES, draw_figures

NAMES = FIGURES[0]["keypoints"]
SCENES = [draw_figures(np.random.default_rng(seed), (160, 128)) for seed in range(30)]


def test_scenes_show_hidden_seen_and_unlabelled_joints_of_one_or_several_figures():
    assert {len(scene.instances) for scene in SCENES} == {1, 2, 3}
    assert {value for scene in SCENES for value in np.unique(scene.instances.visibility)} == {0, 1, 2}


@pytest.mark.parametrize("size", [(32, 32), (64, 200), (200, 64)])
def test_any_size_can_be_drawn(size):
    scene = draw_figures(np.random.default_rng(0), size)
    assert scene.image.shape == (size[1], size[0], 3)
    assert scene.image.std() > 5


def test_labelled_joints_lie_in_the_image_and_in_their_figures_box():
    for scene in SCENES:
        height, width = scene.image.shape[:2]
        instances = scene.instances
        for box, points, visibility in zip(
            instances.boxes, instances.keypoints, instances.visibility, strict=True
        ):
            labelled = points[visibility > 0]
            assert (labelled >= 0).all()
            assert (labelled <= [width - 1, height - 1]).all()
            assert (labelled >= box[:2] - 1).all()
            assert (labelled <= box[2:] + 1).all()


def test_a_face_tells_left_from_right():
    """If the nose is labelled, it faces us and its left is on our right; turned away, neither holds."""
    for scene in SCENES:
        for points, visibility in zip(scene.instances.keypoints, scene.instances.visibility, strict=True):
            at = dict(zip(NAMES, points, strict=True))
            seen = dict(zip(NAMES, visibility, strict=True))
            across = at["left_shoulder"][0] - at["right_shoulder"][0]
            if seen["nose"]:
                assert across > 0
            if across < 0:
                assert not any(seen[name] for name in ("nose", "left_eye", "right_eye"))


def test_a_scene_depends_on_its_generator_alone():
    again = draw_figures(np.random.default_rng(3), (160, 128))
    np.testing.assert_array_equal(again.image, SCENES[3].image)
    np.testing.assert_array_equal(again.instances.keypoints, SCENES[3].instances.keypoints)
