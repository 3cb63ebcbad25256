"""Overlap of rotated rectangles and boxes."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctnet_tasks_ddd.rotated_iou import bev_iou, intersection_area, iou_3d

pytestmark = pytest.mark.filterwarnings("error")

angle = st.floats(-10, 10)
place = st.floats(-5, 5)
side = st.floats(0.1, 8)
rectangle = st.tuples(place, place, side, side, angle)
few = settings(max_examples=40, deadline=None)


def area(first, second) -> float:
    return float(intersection_area(np.array([first]), np.array([second]))[0])


def as_box(rectangle):
    return SimpleNamespace(**dict(zip(("x", "z", "length", "width", "rotation"), rectangle, strict=True)))


@pytest.mark.golden
def test_golden(golden) -> None:
    files = sorted(golden.glob("rotated_iou*.npz"))
    assert files
    for file in files:
        data = np.load(file)
        assert np.abs(bev_iou(data["bev_a"], data["bev_b"]) - data["iou_bev"]).max() < 1e-9
        assert np.abs(iou_3d(data["box3d_a"], data["box3d_b"]) - data["iou_3d"]).max() < 1e-9
        ours = intersection_area(data["bev_a"], data["bev_b"])
        assert np.allclose(ours, data["inter_bev"], rtol=1e-9, atol=1e-9)


@few
@given(rectangle, rectangle)
def test_equals_polygon_clipping(slow, first, second) -> None:
    expected = slow.ground_intersection(as_box(first), as_box(second))
    assert area(first, second) == pytest.approx(expected, abs=1e-9)


@few
@given(rectangle, rectangle)
def test_order_does_not_matter(first, second) -> None:
    assert area(first, second) == pytest.approx(area(second, first), abs=1e-10)


@few
@given(rectangle, rectangle, angle, place, place)
def test_turning_and_moving_both_changes_nothing(first, second, turn, right, forward) -> None:
    def moved(box):
        x, z, length, width, rotation = box
        cos, sin = math.cos(turn), math.sin(turn)
        return (x * cos + z * sin + right, z * cos - x * sin + forward, length, width, rotation + turn)

    assert area(moved(first), moved(second)) == pytest.approx(area(first, second), abs=1e-9)


@few
@given(rectangle, st.integers(-3, 3))
def test_quarter_turns_with_sides_exchanged_are_the_same_rectangle(box, quarters) -> None:
    x, z, length, width, rotation = box
    sides = (length, width) if quarters % 2 == 0 else (width, length)
    same = (x, z, *sides, rotation + quarters * math.pi / 2)
    assert bev_iou(np.array([box]), np.array([same]))[0] == pytest.approx(1, abs=1e-12)


def test_upright_rectangles_have_the_plain_overlap() -> None:
    assert area((0, 0, 4, 2, 0), (1, 0.5, 4, 2, 0)) == pytest.approx(3 * 1.5, abs=1e-12)
    assert area((0, 0, 4, 2, 0), (0, 0, 4, 2, math.pi / 2)) == pytest.approx(4, abs=1e-12)
    assert area((0, 0, 2, 2, 0), (0, 0, 2, 2, math.pi / 4)) == pytest.approx(8 * math.sqrt(2) - 8, abs=1e-12)


def test_touching_or_apart_shares_nothing() -> None:
    assert area((0, 0, 2, 2, 0), (2, 0, 2, 2, 0)) == 0
    assert area((0, 0, 2, 2, 0.3), (100, 0, 2, 2, 1)) == 0


def test_two_negative_sides_are_half_a_turn_and_one_covers_nothing() -> None:
    box, other = (0.2, 0, 4, 2, 0.3), (0, 0.1, 4, 2, 0.4)
    assert area((0.2, 0, -4, -2, 0.3), other) == area(box, other) > 0
    for sides in ((-4, 2), (4, -2), (0, 2), (0, 0)):
        assert area((0.2, 0, *sides, 0.3), other) == 0
        assert area(other, (0.2, 0, *sides, 0.3)) == 0


def test_no_pairs() -> None:
    assert intersection_area(np.zeros((0, 5)), np.zeros((0, 5))).shape == (0,)


def test_boxes_share_the_common_height() -> None:
    low, high = (0, 0, 5, 2, 1, 4, 0.5), (0, -1, 5, 2, 1, 4, 0.5)
    assert iou_3d(np.array([low]), np.array([high]))[0] == pytest.approx(1 / 3, abs=1e-12)
    above = (0, -2, 5, 2, 1, 4, 0.5)
    upside_down = (0, 0, 5, -2, 1, 4, 0.5)
    assert iou_3d(np.array([low, low]), np.array([above, upside_down])).tolist() == [0, 0]


def test_nothing_over_nothing_is_nothing() -> None:
    flat = np.zeros((1, 7))
    assert iou_3d(flat, flat)[0] == 0
    assert bev_iou(flat[:, :5], flat[:, :5])[0] == 0
