from __future__ import annotations

import numpy as np
import pytest

from ctnet.data import shape_scenes
from ctnet.data.shape_scenes import SHAPES, draw_scene


def test_the_same_seed_draws_the_same_scene() -> None:
    first, again, other = (draw_scene(np.random.default_rng(seed), (96, 64)) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first.image, again.image)
    np.testing.assert_array_equal(first.instances.boxes, again.instances.boxes)
    assert (first.image != other.image).mean() > 0.5


@pytest.mark.parametrize("size", [(32, 32), (128, 96), (97, 210)])
def test_scenes_are_well_formed(size: tuple[int, int]) -> None:
    labels, counts = set(), set()
    for seed in range(40):
        sample = draw_scene(np.random.default_rng(seed), size)
        boxes = sample.instances.boxes
        assert sample.image.shape == (size[1], size[0], 3)
        assert sample.image.dtype == np.uint8
        assert (sample.info.width, sample.info.height) == size
        assert (boxes >= 0).all()
        assert (boxes[:, 2:] <= size).all()
        assert (boxes[:, 2:] - boxes[:, :2]).min() > 2
        labels |= set(sample.instances.labels.tolist())
        counts.add(len(boxes))
    assert labels == set(range(len(SHAPES)))
    assert {1, 2} <= counts <= set(range(1, 9))


def test_fewer_classes_use_the_first_shapes() -> None:
    labels = {
        label
        for seed in range(30)
        for label in draw_scene(np.random.default_rng(seed), (64, 64), classes=2).instances.labels
    }
    assert labels == {0, 1}


def test_a_tiny_scene_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 32 pixels"):
        draw_scene(np.random.default_rng(0), (31, 64))


def test_shapes_have_tight_boxes() -> None:
    """The covered pixels reach to within a pixel of every side (a sharp tip covers its last pixel hardly)."""
    rng = np.random.default_rng(0)
    for _ in range(50):
        shape = shape_scenes._place(rng, (200, 200), shape_scenes._OUTLINES)
        rows, columns = np.nonzero(shape.coverage > 0)
        reach = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        np.testing.assert_allclose(reach + np.array([shape.x, shape.y] * 2), shape.box, atol=1)


def test_hidden_shapes_are_dropped() -> None:
    def square(x: int, side: int) -> shape_scenes._Shape:
        box = np.array([x, 0, x + side, side], np.float32)
        return shape_scenes._Shape(x, box, x, 0, np.ones((side, side), np.float32))

    below, quarter_seen, above = square(30, 10), square(8, 10), square(0, 16)
    outside = square(48, 10)
    kept = shape_scenes._drop_hidden([below, quarter_seen, outside, above], (50, 50))
    assert kept == [below, above]
