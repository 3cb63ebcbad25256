"""Rectangles from corners and back."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ctnet_tasks_obb.boxes import Rectangles, corners_of, misfit, rectangles, upright

RNG = np.random.default_rng(0)
COUNT = 200
BOXES = Rectangles(
    RNG.uniform(-500, 500, (COUNT, 2)),
    np.sort(RNG.uniform(1, 80, (COUNT, 2)), axis=1)[:, ::-1],
    np.exp(1j * RNG.uniform(-np.pi, np.pi, COUNT)),
)


@pytest.mark.parametrize("first", range(4))
@pytest.mark.parametrize("backwards", [False, True])
def test_any_corner_may_be_the_first_and_either_turn_will_do(first: int, backwards: bool) -> None:
    corners = np.roll(BOXES.corners, first, axis=1)
    found = rectangles(corners[:, ::-1] if backwards else corners)
    np.testing.assert_allclose(found.centre, BOXES.centre, atol=1e-9)
    np.testing.assert_allclose(found.size, BOXES.size, atol=1e-9)
    np.testing.assert_allclose(found.axis**2, BOXES.axis**2, atol=1e-9)  # an axis has no front


def test_tensors_give_the_same_corners() -> None:
    made = corners_of(
        *(torch.from_numpy(np.array(column)) for column in (BOXES.centre, BOXES.size, BOXES.angle))
    )
    assert misfit(made.numpy()).max() < 1e-9
    np.testing.assert_allclose(upright(made.numpy()), upright(BOXES.corners), atol=1e-9)


def test_the_angle_is_of_the_long_side() -> None:
    found = rectangles(np.array([[[0, 0], [2, 0], [2, 9], [0, 9]], [[0, 0], [9, 0], [9, 2], [0, 2]]], float))
    assert found.size.tolist() == [[9, 2], [9, 2]]
    assert np.degrees(found.angle) == pytest.approx([90, 0])


def test_the_fit_is_that_of_least_squares() -> None:
    """No rectangle near the one that is found lies nearer to the corners."""
    corners = BOXES.corners[0] + RNG.normal(0, 2, (4, 2))
    found = rectangles(corners[None])

    def cost(box: Rectangles) -> float:
        around = box.corners[0]
        orders = [np.roll(turned, k, axis=0) for turned in (around, around[::-1]) for k in range(4)]
        return min(float(((order - corners) ** 2).sum()) for order in orders)

    best = cost(found)
    for _ in range(300):
        near = Rectangles(
            found.centre + RNG.normal(0, 0.1, (1, 2)),
            found.size + RNG.normal(0, 0.1, (1, 2)),
            found.axis * np.exp(1j * RNG.normal(0, 0.01, 1)),
        )
        assert cost(near) > best


def test_misfit_tells_how_far_a_corner_is_off() -> None:
    square = np.array([[[0, 0], [10, 0], [10, 10], [0, 10]]], float)
    assert misfit(square)[0] == pytest.approx(0, abs=1e-12)
    square[0, 2] += 4
    assert 1 < misfit(square)[0] < 4


def test_rounded_rectangles_fit_within_a_unit_and_a_half() -> None:
    """What ``_ROUNDED`` of the converter relies on."""
    assert misfit(BOXES.corners.round()).max() <= 1.5
    assert misfit(BOXES.corners.round(1)).max() <= 0.15


def test_nothing_is_nothing() -> None:
    empty = rectangles(np.zeros((0, 4, 2)))
    assert empty.corners.shape == (0, 4, 2)
    assert upright(np.zeros((0, 4, 2))).shape == (0, 4)
