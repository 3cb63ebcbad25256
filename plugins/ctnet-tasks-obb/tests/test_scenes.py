"""Harbours: what their annotations say is what they show."""

from __future__ import annotations

import numpy as np
from ctnet_tasks_obb.boxes import corners_iou, rectangles
from ctnet_tasks_obb.scenes import KINDS, draw_harbour


def harbour(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Image, corners and labels."""
    scene = draw_harbour(np.random.default_rng(seed), (128, 96))
    return scene.image, scene.instances.corners, scene.instances.labels


SCENES = [harbour(seed) for seed in range(60)]


def test_objects_lie_inside_in_every_direction_and_of_every_kind() -> None:
    for image, corners, labels in SCENES:
        assert image.shape == (96, 128, 3)
        assert len(corners) == len(labels)
        assert ((corners > 0) & (corners < [127, 95])).all()
    boxes = rectangles(np.concatenate([corners for _, corners, _ in SCENES]))
    labels = np.concatenate([labels for _, _, labels in SCENES])
    assert set(labels.tolist()) == set(range(len(KINDS)))
    assert np.histogram(np.degrees(boxes.angle), 6, (-90, 90))[0].min() > 5
    ratio = boxes.size[:, 0] / boxes.size[:, 1]
    assert ratio[labels == 0].min() > 2.5
    assert ratio[labels == 2].max() < 1.2


def test_there_are_objects_that_hide_parts_of_others_but_never_most() -> None:
    overlaps = [corners_iou(corners, corners)[np.triu_indices(len(corners), 1)] for _, corners, _ in SCENES]
    joined = np.concatenate(overlaps)
    assert (joined > 0.02).sum() > 5
    assert joined.max() < 0.6


def test_the_image_shows_the_object_where_its_box_is() -> None:
    """A lone object differs from the water around it: its middle from a ring just outside the box."""
    seen = 0
    for image, corners, labels in SCENES:
        if len(labels) != 1:
            continue
        seen += 1
        box = rectangles(corners)
        x, y = box.centre[0].round().astype(int)
        middle = image[y - 2 : y + 3, x - 2 : x + 3].mean(axis=(0, 1))
        beside = box._replace(size=box.size * 1.3).corners[0].round().astype(int).clip(0, [127, 95])
        water = np.mean([image[py, px] for px, py in beside], axis=0)
        assert np.abs(middle - water).max() > 15
    assert seen > 1
