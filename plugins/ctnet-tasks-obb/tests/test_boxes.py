"""Rectangles from corners and back."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from ctnet_tasks_obb.boxes import Rectangles, corners_iou, corners_of, misfit, rectangles

from ctnet.ops.boxes import boxes_around

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
    np.testing.assert_allclose(boxes_around(made.numpy()), boxes_around(BOXES.corners), atol=1e-9)


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
    assert boxes_around(np.zeros((0, 4, 2))).shape == (0, 4)


def test_overlaps_of_corners_in_any_order() -> None:
    square = np.array([[[-1, -1], [1, -1], [1, 1], [-1, 1]]], float)
    turned = Rectangles(np.zeros((1, 2)), np.full((1, 2), 2.0), np.exp(1j * np.pi / 4 * np.ones(1))).corners
    octagon = 8 * (math.sqrt(2) - 1)
    assert corners_iou(square, turned)[0, 0] == pytest.approx(octagon / (8 - octagon))
    assert corners_iou(square, square + np.array([1, 0])) == pytest.approx(1 / 3)
    assert corners_iou(square, square + np.array([2, 0])) == 0  # they touch
    assert corners_iou(square, square / 2) == pytest.approx(0.25)
    assert corners_iou(square, square * [1, 0]) == 0  # without area
    for turn in range(4):
        assert corners_iou(square, np.roll(square, turn, axis=1)) == pytest.approx(1)
        assert corners_iou(square[:, ::-1], np.roll(square, turn, axis=1)) == pytest.approx(1)


@pytest.mark.parametrize("noise", [0.0, 1e-12, 1e-7, 1e-4])
@pytest.mark.parametrize("place", [0.0, 2e4])
def test_nearly_equal_corners_overlap_wholly(noise: float, place: float) -> None:
    rng = np.random.default_rng(1)
    sides, axis = rng.uniform(2, 60, (200, 2)), np.exp(1j * rng.uniform(0, 2 * np.pi, 200))
    corners = Rectangles(rng.uniform(0, 60, (200, 2)), sides, axis).corners + place
    other = np.roll(corners, 1, axis=1) + rng.normal(0, 1, corners.shape) * noise
    iou = np.diagonal(corners_iou(corners, other))
    np.testing.assert_allclose(iou, 1, atol=1e-3 if noise == 1e-4 else 1e-5)


def test_overlaps_do_not_mind_the_order() -> None:
    first, second = BOXES.corners[:15] / 10, BOXES.corners[15:25] / 10
    np.testing.assert_allclose(corners_iou(first, second), corners_iou(second, first).T, atol=1e-12)
    assert corners_iou(first, second[:0]).shape == (15, 0)
    assert corners_iou(first[:0], second).shape == (0, 10)
