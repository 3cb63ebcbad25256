from __future__ import annotations

import numpy as np
import pytest

from ctnet.core.records import Instances
from ctnet.data.scenes import blend, contrasting, coverage, fine_points, scene_of, visible_objects


def row_of(*pixels: int) -> np.ndarray:
    mask = np.zeros((1, 10), bool)
    mask[0, list(pixels)] = True
    return mask


def test_what_is_hidden_too_much_is_left_out_and_then_hides_nothing() -> None:
    below, half_hidden, above = row_of(0, 1, 2, 3), row_of(2, 3, 4, 5), row_of(4, 5, 6)
    seen = visible_objects([below, half_hidden, above], 0.6)
    assert list(seen) == [0, 2]
    np.testing.assert_array_equal(seen[0], above)
    assert not seen[2].any()
    assert list(visible_objects([below, half_hidden, above], 0.5)) == [0, 1, 2]
    assert list(visible_objects([below, row_of()], 0.5)) == [0]  # none of it is visible


def test_something_else_than_pixels_may_decide_what_is_seen() -> None:
    asked = []

    def enough(number: int, cover: np.ndarray) -> bool:
        asked.append((number, int(cover.sum())))
        return number != 1

    assert list(visible_objects([row_of(0), row_of(1), row_of(2)], enough, row_of(8, 9))) == [0, 2]
    assert asked == [(2, 2), (1, 3), (0, 3)]


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
