from __future__ import annotations

import numpy as np
import pytest
import torch

from ctnet.core.heads import Head, Heatmap, Regression, fill_nearest
from ctnet.core.targets import CellTargets, Grid, Peaks


def two_images() -> CellTargets:
    first = CellTargets.of(np.array([[1, 2], [6, 4]]), np.array([[1.0, 2.0], [3.0, 4.0]]))
    second = CellTargets.of(np.array([[0, 0]]), np.array([[5.0, 6.0]]), np.array([[1.0, 0.0]]))
    return CellTargets.collate([first, second])


def test_fill_nearest_equals_a_plain_search():
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, [9, 7], (12, 2))
    weight = (generator.random((12, 3)) > 0.4).astype(np.float32)
    samples = CellTargets.of(pixels, generator.random((12, 3)), weight)
    filled = fill_nearest(samples, Grid(7, 9))[0]
    for channel in range(3):
        rows = np.flatnonzero(weight[:, channel])
        for y in range(7):
            for x in range(9):
                distance = ((pixels[rows] - [x, y]) ** 2).sum(1)
                nearest = rows[distance == distance.min()]
                assert filled[channel, y, x].item() in samples.value[nearest, channel].tolist()


def test_of_equally_near_samples_the_first_counts():
    samples = CellTargets.of(np.array([[3, 0], [1, 0], [3, 0]]), np.array([[1.0], [2.0], [3.0]]))
    assert fill_nearest(samples, Grid(1, 5))[0, 0, 0].tolist() == [2, 2, 1, 1, 1]


def test_rendered_regression_carries_each_images_own_samples():
    rendered = Regression(2).render(two_images(), Grid(6, 8, 2))
    assert rendered[0, :, 2, 1].tolist() == [1, 2]
    assert rendered[0, :, 4, 6].tolist() == [3, 4]
    assert (rendered[1, 0] == 5).all()
    assert (rendered[1, 1] == 0).all()  # its only sample is masked


def test_rendering_an_image_without_objects_gives_zeros():
    assert not Regression(2).render(CellTargets.of(np.zeros((0, 2)), np.zeros((0, 2))), Grid(4, 4, 1)).any()


def test_heatmap_renders_what_its_loss_wants():
    peaks = Peaks.of(np.array([[3.5, 2.2]]), np.array([2]), np.array([1]))
    head = Heatmap(2)
    rendered = head.render(peaks, Grid(6, 8))
    assert rendered[0, 1, 2, 3] == 1
    good = torch.logit(rendered.clamp(1e-3, 1 - 1e-3))
    assert head.loss(good, peaks).total < 0.1 * head.loss(torch.zeros_like(good), peaks).total
    assert head.loss(good, peaks).count == 1


def test_mirror_turns_maps_around_and_leaves_offsets_out():
    maps = torch.rand(1, 2, 3, 4)
    assert torch.equal(Heatmap(2).mirror(Heatmap(2).mirror(maps)), maps)
    assert torch.equal(Regression(2, symmetric=True).mirror(maps), maps.flip(-1))
    assert Regression(2).mirror(maps) is None


def test_a_head_without_a_loss_says_so():
    with pytest.raises(TypeError, match="Head must define loss"):
        Head(1).loss(torch.zeros(1, 1, 2, 2), two_images())
