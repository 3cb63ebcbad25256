from __future__ import annotations

from typing import ClassVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctnet.core.fields import Points, Value
from ctnet.core.geometry import Affine
from ctnet.core.recipe import Augmentation
from ctnet.core.records import Instances
from ctnet.core.task import create_task
from ctnet.data.augment import (
    _EIGENVALUES,
    _EIGENVECTORS,
    crop_instances,
    jitter,
    letterbox,
    random_crop,
)
from ctnet.tasks.ctdet import CenterDetection

STILL = Augmentation(flip=0, scale=None, shift=0)
TASK = create_task("ctdet", [{"id": 1, "name": "a"}])


@given(st.integers(1, 900), st.integers(1, 900), st.sampled_from([(64, 64), (320, 96), (96, 320)]))
@settings(max_examples=80, deadline=None)
def test_letterbox_shows_the_whole_image_as_large_as_it_fits(width, height, size):
    low, high = letterbox((width, height), size).points(np.array([[0.0, 0], [width, height]]))
    assert (low >= -1e-9).all()
    assert (high <= np.array(size) + 1e-9).all()
    assert min(abs(low)) == pytest.approx(0, abs=1e-9)
    np.testing.assert_allclose(low + high, size)


@given(st.integers(0, 10_000), st.integers(30, 700), st.integers(30, 700))
@settings(max_examples=80, deadline=None)
def test_views_keep_the_crop_centre_inside_and_the_scale_in_range(seed, width, height):
    view = random_crop(np.random.default_rng(seed), (width, height), (128, 128), Augmentation())
    scale = abs(np.linalg.det(view.affine.matrix[:, :2])) ** 0.5
    assert 128 / (max(width, height) * 1.3) - 1e-9 <= scale <= 128 / (max(width, height) * 0.6) + 1e-9
    centre = view.affine.inverse().points(np.array([64.0, 64.0]))
    assert (centre >= 0).all()
    assert (centre <= [width, height]).all()
    assert (view.affine.matrix[0, 0] < 0) == view.mirrored


def test_without_augmentation_the_view_is_the_letterbox():
    view = random_crop(np.random.default_rng(0), (70, 50), (64, 64), STILL)
    np.testing.assert_allclose(view.affine.matrix, letterbox((70, 50), (64, 64)).matrix)
    assert not view.mirrored


@given(st.integers(0, 10_000), st.integers(30, 700), st.integers(30, 700))
@settings(max_examples=40, deadline=None)
def test_a_shift_moves_the_centre_by_that_part_at_most(seed, width, height):
    view = random_crop(
        np.random.default_rng(seed), (width, height), (128, 128), Augmentation(shift=0.1, flip=0)
    )
    moved = view.affine.inverse().points(np.array([64.0, 64.0])) - [width / 2, height / 2]
    assert (np.abs(moved) <= [0.1 * width + 1e-6, 0.1 * height + 1e-6]).all()


def test_fit_to_the_width_cuts_or_pads_top_and_bottom_alike():
    for image_size in ((1242, 375), (1242, 200)):
        corners = letterbox(image_size, (1280, 384), "width").points(np.array([[0.0, 0], image_size]))
        np.testing.assert_allclose(corners[:, 0], [0, 1280], atol=1e-9)
        np.testing.assert_allclose(corners[0, 1] + corners[1, 1], 384)
    view = random_crop(np.random.default_rng(0), (1242, 375), (1280, 384), STILL, "width")
    np.testing.assert_allclose(view.affine.matrix, letterbox((1242, 375), (1280, 384), "width").matrix)


def test_turns_stay_within_their_limit_and_keep_the_scale():
    angles = []
    for seed in range(60):
        augmentation = Augmentation(flip=0, scale=None, shift=0, rotate=20)
        matrix = random_crop(np.random.default_rng(seed), (90, 60), (64, 64), augmentation).affine.matrix
        angles.append(np.degrees(np.arctan2(matrix[0, 1], matrix[0, 0])))
        assert np.linalg.det(matrix[:, :2]) == pytest.approx((64 / 90) ** 2)
    assert min(angles) < -15
    assert max(angles) > 15
    assert np.abs(angles).max() <= 20


def test_a_share_of_the_images_shows_the_plain_view():
    augmentation = Augmentation(flip=0, scale=(0.7, 0.7), shift=0, geometric=0.5)
    views = [random_crop(np.random.default_rng(seed), (90, 60), (64, 64), augmentation) for seed in range(60)]
    assert 15 < sum(view.change is None for view in views) < 45


def test_a_view_that_is_not_the_plain_one_makes_unknown_what_a_zoom_makes_untrue():
    class Measured(CenterDetection):
        fields: ClassVar = {"depth": Value(json="", under_zoom="unknown"), "weight": Value(json="")}

    task = Measured([{"id": 1, "name": "a"}])
    columns = {"depth": np.array([7.0], np.float32), "weight": np.array([3.0], np.float32)}
    instances = Instances.of([[10, 20, 50, 40]], [0], **columns)
    for augmentation in (STILL, Augmentation(flip=1, scale=None, shift=0)):
        view = random_crop(np.random.default_rng(0), (90, 60), (64, 64), augmentation)
        seen = crop_instances(instances, view, task, 1)
        assert view.change is None  # a mirror image is as far away
        assert (seen.depth.tolist(), seen.weight.tolist()) == ([7], [3])
    view = random_crop(np.random.default_rng(0), (90, 60), (64, 64), Augmentation(flip=1, scale=(1.2, 1.2)))
    seen = crop_instances(instances, view, task, 1)
    assert np.isnan(seen.depth).all()
    assert seen.weight.tolist() == [3]
    mirrored = letterbox((90, 60), (64, 64)).boxes(Affine.mirror(90).boxes(instances.boxes))
    np.testing.assert_allclose(view.change.boxes(mirrored), seen.boxes, rtol=1e-5)


@pytest.mark.parametrize("flip", [0, 1])
def test_instances_are_moved_once_and_mirrored_after_that(flip, monkeypatch):
    class Sided(CenterDetection):
        fields: ClassVar = {"hands": Points(json="", n=2, swap=(1, 0))}

    moves = []
    points = Affine.points
    monkeypatch.setattr(Affine, "points", lambda self, p: moves.append(p.shape) or points(self, p))
    task = Sided([{"id": 1, "name": "a"}])
    hands = np.array([[[12, 30], [48, 30]]], np.float32)
    instances = Instances.of([[10, 20, 50, 40]], [0], hands=hands)
    crop = random_crop(np.random.default_rng(0), (90, 60), (64, 64), Augmentation(flip=flip, rotate=30))
    assert crop.mirrored == bool(flip)
    seen = crop_instances(instances, crop, task, 4)
    assert moves == [(1, 4, 2), (1, 2, 2)]  # corners of the box; hands
    whole = Affine.scaling(1 / 4).after(crop.affine)
    np.testing.assert_array_equal(seen.boxes, whole.boxes(instances.boxes))
    np.testing.assert_array_equal(seen.hands, points(whole, hands)[:, :: -1 if flip else 1])


def test_scales_are_the_released_steps():
    seen = set()
    for seed in range(200):
        view = random_crop(np.random.default_rng(seed), (100, 100), (100, 100), Augmentation(flip=0))
        seen.add(round(1 / view.affine.matrix[0, 0], 3))
    assert seen == {0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.3}


@pytest.mark.parametrize("seed", range(6))
def test_pixels_and_boxes_move_together(seed):
    """A bright rectangle in a dark image: its box, seen through the view, holds the bright pixels."""
    image = np.zeros((120, 160, 3), np.uint8)
    image[40:70, 50:90] = 255
    rng = np.random.default_rng(seed)
    view = random_crop(rng, (160, 120), (128, 128), Augmentation(scale=(0.8, 1.2)))
    seen = view.affine.warp(image, (128, 128))[:, :, 0] > 127
    instances = crop_instances(Instances.of([[49.5, 39.5, 89.5, 69.5]], [0]), view, TASK, 1)
    x1, y1, x2, y2 = instances.boxes[0]
    rows, columns = np.nonzero(seen)
    assert len(rows)
    frame = np.array([0, 0, 127, 127])
    found = np.array([columns.min() - 0.5, rows.min() - 0.5, columns.max() + 0.5, rows.max() + 0.5])
    np.testing.assert_allclose(found, np.clip([x1, y1, x2, y2], frame[:2].repeat(2) - 0.5, 127.5), atol=1.0)


def slow_jitter(rng, image, augmentation):
    """The same steps one after the other on floats, pixel by pixel where the released code goes so."""
    values = image.astype(np.float64)
    grey_of = np.array([0.299, 0.587, 0.114])
    mean = (values @ grey_of).mean()
    for kind in rng.permutation(3):
        factor = 1 + rng.uniform(-augmentation.colour, augmentation.colour)
        if kind == 0:
            values = values * factor
        elif kind == 1:
            values = values * factor + mean * (1 - factor)
        else:
            values = values * factor + (values @ grey_of)[..., None] * (1 - factor)
    noise = rng.normal(0, augmentation.lighting, 3) if augmentation.lighting else np.zeros(3)
    values = values + 255 * (_EIGENVECTORS @ (_EIGENVALUES * noise))
    return np.clip(values, 0, 255)


@pytest.mark.parametrize("seed", range(8))
def test_jitter_in_one_matrix_equals_step_by_step(seed):
    image = np.random.default_rng(seed).integers(0, 256, (12, 15, 3), np.uint8)
    ours = jitter(np.random.default_rng(seed), image, Augmentation())
    slow = slow_jitter(np.random.default_rng(seed), image, Augmentation())
    assert np.abs(ours - slow).max() <= 1.0
    assert ours.dtype == np.uint8


def test_no_jitter_leaves_the_image_alone():
    image = np.random.default_rng(0).integers(0, 256, (5, 5, 3), np.uint8)
    assert jitter(np.random.default_rng(0), image, Augmentation(colour=0, lighting=0)) is image
