"""Augmentation moves joints with the image: each stays on its spot, whatever the crop."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from ctnet.core.recipe import Augmentation
from ctnet.core.records import Instances
from ctnet.core.task import create_task
from ctnet.data.augment import crop_instances, random_crop

BIRD = [
    {"id": 2, "name": "bird", "keypoints": ["beak", "left_wing", "right_wing", "left_foot", "right_foot"]}
]
POINTS = np.array([[60, 30], [90, 50], [30, 55], [80, 90], [45, 95]], np.float32)
COLOURS = np.array([[250, 0, 0], [0, 250, 0], [0, 0, 250], [250, 250, 0], [0, 250, 250]], np.uint8)


def spots() -> np.ndarray:
    """An image with a spot in a colour of its own at every joint."""
    image = np.full((120, 120, 3), 90, np.uint8)
    for (x, y), colour in zip(POINTS.astype(int).tolist(), COLOURS.tolist(), strict=True):
        cv2.circle(image, (x, y), 5, colour, cv2.FILLED)
    return image


@pytest.mark.parametrize("flip", [0.0, 1.0])
@pytest.mark.parametrize("seed", range(4))
def test_joints_lie_on_their_spots_and_a_mirrored_left_is_the_right_of_before(flip, seed):
    task = create_task("pose", BIRD)
    bird = Instances.of(
        [[20, 20, 100, 110]], [0], keypoints=POINTS[None], visibility=np.array([[2, 2, 1, 2, 2]])
    )
    augmentation = Augmentation(flip=flip, scale=(0.8, 1.2), shift=0.1, rotate=30, colour=0, lighting=0)
    crop = random_crop(np.random.default_rng(seed), (120, 120), (128, 128), augmentation)
    seen = crop.affine.warp(spots(), (128, 128))
    moved = crop_instances(bird, crop, task, 1)
    order = [0, 2, 1, 4, 3] if flip else [0, 1, 2, 3, 4]
    assert crop.mirrored == bool(flip)
    np.testing.assert_array_equal(moved.visibility, bird.visibility[:, order])
    for (x, y), colour in zip(np.round(moved.keypoints[0]).astype(int), COLOURS[order], strict=True):
        if 0 <= x < 128 and 0 <= y < 128:
            np.testing.assert_allclose(seen[y, x].astype(int), colour, atol=40)
