from __future__ import annotations

import numpy as np
import pytest
import torch

from ctnet.heads import Head, Heatmap, Regression, fill_nearest
from ctnet.targets import Grid, Peaks, Samples


def two_images() -> Samples:
    first = Samples.of(np.array([[1, 2], [6, 4]]), np.array([[1.0, 2.0], [3.0, 4.0]]))
    second = Samples.of(np.array([[0, 0]]), np.array([[5.0, 6.0]]), np.array([[1.0, 0.0]]))
    return Samples.collate([first, second])


def test_fill_nearest_equals_a_plain_search():
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, [9, 7], (12, 2))
    weight = (generator.random((12, 3)) > 0.4).astype(np.float32)
    samples = Samples.of(pixels, generator.random((12, 3)), weight)
    filled = fill_nearest(samples, Grid(7, 9))[0]
    for channel in range(3):
        rows = np.flatnonzero(weight[:, channel])
        for y in range(7):
            for x in range(9):
                distance = ((pixels[rows] - [x, y]) ** 2).sum(1)
                nearest = rows[distance == distance.min()]
                assert filled[channel, y, x].item() in samples.value[nearest, channel].tolist()


def test_of_equally_near_samples_the_first_counts():
    samples = Samples.of(np.array([[3, 0], [1, 0], [3, 0]]), np.array([[1.0], [2.0], [3.0]]))
    assert fill_nearest(samples, Grid(1, 5))[0, 0, 0].tolist() == [2, 2, 1, 1, 1]


def test_painted_regression_carries_each_images_own_samples():
    painted = Regression(2).paint(two_images(), Grid(6, 8, 2))
    assert painted[0, :, 2, 1].tolist() == [1, 2]
    assert painted[0, :, 4, 6].tolist() == [3, 4]
    assert (painted[1, 0] == 5).all()
    assert (painted[1, 1] == 0).all()  # its only sample is masked


def test_painting_an_image_without_objects_gives_zeros():
    assert not Regression(2).paint(Samples.of(np.zeros((0, 2)), np.zeros((0, 2))), Grid(4, 4, 1)).any()


def test_heatmap_paints_what_its_loss_wants():
    peaks = Peaks.of(np.array([[3.5, 2.2]]), np.array([2]), np.array([1]))
    head = Heatmap(2)
    painted = head.paint(peaks, Grid(6, 8))
    assert painted[0, 1, 2, 3] == 1
    good = torch.logit(painted.clamp(1e-3, 1 - 1e-3))
    assert head.loss(good, peaks) < 0.1 * head.loss(torch.zeros_like(good), peaks)


def test_mirror_turns_maps_around_and_leaves_offsets_out():
    maps = torch.rand(1, 2, 3, 4)
    assert torch.equal(Heatmap(2).mirror(Heatmap(2).mirror(maps)), maps)
    assert torch.equal(Regression(2, symmetric=True).mirror(maps), maps.flip(-1))
    assert Regression(2).mirror(maps) is None


def test_a_head_without_a_loss_says_so():
    with pytest.raises(TypeError, match="Head must define loss"):
        Head(1).loss(torch.zeros(1, 1, 2, 2), two_images())
