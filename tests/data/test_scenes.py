from __future__ import annotations

import numpy as np
import pytest

from ctnet.core.records import Instances
from ctnet.data.scenes import blend, contrasting, coverage, fine_points, scene_of


def test_coverage_is_the_area() -> None:
    angles = np.arange(72) * np.pi / 36
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    cover = coverage([20 * circle + 23.8, 20 * 0.55 * circle + 23.8], (48, 48)) / 255
    assert cover.sum() == pytest.approx(np.pi * 20**2 * (1 - 0.55**2), rel=0.04)
    assert cover[24, 24] == 0
    assert 0 < (cover[:, 4] > 0).sum() < 20
    assert np.unique(cover).size > 5  # edges are soft


def test_pixel_centres_are_whole() -> None:
    square = np.array([[1.5, 0.5], [3.5, 0.5], [3.5, 1.5], [1.5, 1.5]])
    cover = coverage([square], (6, 4))
    assert (cover[1, 2:4] == 255).all()
    assert (cover[:, 5] == 0).all()
    np.testing.assert_array_equal(fine_points(np.array([[0.0, 2.0]]), 2), [[8, 72]])


def test_a_colour_is_put_over_what_is_covered() -> None:
    canvas = np.full((1, 3, 3), 100.0)
    blend(canvas, np.array([[0, 255, 51]], np.uint8), np.array([200.0, 100, 0]))
    np.testing.assert_allclose(canvas[0], [[100, 100, 100], [200, 100, 0], [120, 100, 80]])


def test_colours_contrast() -> None:
    for seed in range(20):
        below = np.random.default_rng(seed + 100).uniform(0, 255, 3)
        assert np.abs(contrasting(np.random.default_rng(seed), below) - below).sum() > 100


def test_a_scene_has_noise_and_stays_in_range() -> None:
    canvas = np.concatenate([np.full((8, 20, 3), 300.0), np.full((8, 20, 3), 90.0)])
    instances = Instances.of([[1, 2, 3, 4]], [0])
    sample = scene_of(np.random.default_rng(0), canvas, 4.0, instances, {"calib": [1]})
    assert sample.image.dtype == np.uint8
    assert (sample.image[:8] == 255).all()
    assert sample.image[8:].std() == pytest.approx(4, abs=0.4)
    assert (sample.info.width, sample.info.height, sample.info.record) == (20, 16, {"calib": [1]})
    assert sample.instances is instances
