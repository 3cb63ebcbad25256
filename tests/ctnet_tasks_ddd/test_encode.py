"""Targets of ddd, number by number, for one car and one ignore region."""

from __future__ import annotations

import numpy as np
import pytest

from ctnet.core.records import Instances
from ctnet.core.targets import CellTargets, Grid, Peaks
from ctnet_tasks_ddd.encode import encode_objects, peaks_of

GRID = Grid(16, 24)


def scene(**changes: object) -> Instances:
    """A car at cells 4 to 10 across and 3 to 8 down, and an ignore region beside it."""
    columns = {
        "dimensions": np.array([[1.5, 1.6, 3.9], [np.nan] * 3]),
        "depth_target": np.array([20.0, np.nan]),
        "alpha": np.array([0.5, np.nan]),
        "centre": np.array([[7.25, 5.75], [14.0, 6.5]], np.float32),
        **changes,
    }
    boxes = [[4, 3, 10, 8], [13, 6, 15, 7]]
    return Instances.of(boxes, [1, 1], [False, True], **columns)


def encoded(projected: bool = False, rectangles: bool = False, **changes: object) -> dict:
    return encode_objects(scene(**changes), GRID, projected, rectangles)


@pytest.mark.parametrize(
    ("projected", "offset", "size"),
    [(False, [0, 0.5], [6, 5]), (True, [0.25, 0.75], [3.25, 2.75, 2.75, 2.25])],
)
def test_the_peak_is_the_centre_of_the_box_or_of_the_body(
    projected: bool, offset: list[float], size: list[float]
) -> None:
    targets = encoded(projected)
    for name, value in (("offset", offset), ("size", size)):
        target = targets[name]
        assert isinstance(target, CellTargets)
        assert (target.x.tolist(), target.y.tolist(), target.value.tolist()) == ([7], [5], [value])


def test_depth_dimensions_and_rotation_are_targets_of_known_objects() -> None:
    targets = encoded()
    assert targets["depth"].value.tolist() == [[20]]
    assert targets["depth"].weight.tolist() == [[1]]
    np.testing.assert_allclose(targets["dimensions"].value, [[1.5, 1.6, 3.9]])
    # alpha of 0.5 is in the second bin alone, which is centred at pi / 2.
    assert targets["rotation"].value.shape == (1, 8)
    angle = 0.5 - np.pi / 2
    np.testing.assert_allclose(targets["rotation"].value[0, -2:], [np.sin(angle), np.cos(angle)], rtol=1e-6)


def test_unknown_values_have_no_weight() -> None:
    unknown = encoded(
        dimensions=np.full((2, 3), np.nan), depth_target=np.full(2, np.nan), alpha=np.full(2, np.nan)
    )
    for name in ("depth", "dimensions", "rotation"):
        assert not unknown[name].weight.any()
        assert unknown[name].value.isfinite().all()
    assert unknown["size"].weight.all()


@pytest.mark.parametrize(
    ("rectangles", "cells"),
    [(False, [(14, 6)]), (True, [(13, 6), (14, 6), (15, 6), (13, 7), (14, 7), (15, 7)])],
)
def test_an_ignore_region_is_never_a_positive(rectangles: bool, cells: list[tuple[int, int]]) -> None:
    heatmap = encoded(rectangles=rectangles)["heatmap"]
    assert isinstance(heatmap, Peaks)
    points = list(zip(heatmap.x.int().tolist(), heatmap.y.int().tolist(), strict=True))
    assert points == [(7, 5), *cells]
    assert heatmap.positive.tolist() == [True] + [False] * len(cells)
    assert set(heatmap.channel.tolist()) == {1}


def test_a_body_projected_outside_its_box_has_its_peak_at_the_nearest_point_of_the_box() -> None:
    outside = scene(centre=np.array([[11.5, 5.0], [14.0, 6.5]], np.float32))
    assert peaks_of(outside, projected=True)[0].tolist() == [10, 5]
    assert peaks_of(outside, projected=False)[0].tolist() == [7, 5.5]
