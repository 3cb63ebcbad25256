"""Overlap of rotated boxes against textbook clipping, known areas, and OpenCV."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctnet.ops.polygons import polygon_areas, rotated_intersections, rotated_iou

pytestmark = pytest.mark.filterwarnings("error")

angle = st.floats(-10, 10)
place = st.floats(-5, 5)
side = st.floats(0.1, 8)
box = st.tuples(place, place, side, side, angle)
few = settings(max_examples=40, deadline=None)


def area(first, second) -> float:
    return float(rotated_intersections(np.array(first), np.array(second)))


def corners_of(box) -> np.ndarray:
    """(4, 2), from the x axis towards the y axis."""
    x, y, length, width, turn = box
    along = np.array([math.cos(turn), math.sin(turn)]) * length / 2
    across = np.array([-math.sin(turn), math.cos(turn)]) * width / 2
    around = np.array([-along - across, along - across, along + across, across - along])
    return around + np.array([x, y])


def random_boxes(count: int) -> np.ndarray:
    rng = np.random.default_rng(count)
    return np.column_stack(
        [rng.uniform(0, 60, (count, 2)), rng.uniform(2, 60, (count, 2)), rng.uniform(-7, 7, count)]
    )


def slow_common_area(first, second) -> float:
    """Textbook clipping of the first along the sides of the second, corner by corner."""
    kept, clip = corners_of(first).tolist(), corners_of(second).tolist()
    for (ax, ay), (bx, by) in zip(clip, clip[1:] + clip[:1], strict=True):

        def depth(point: list[float], ax=ax, ay=ay, bx=bx, by=by) -> float:
            return (bx - ax) * (point[1] - ay) - (by - ay) * (point[0] - ax)

        result = []
        for point, after in zip(kept, kept[1:] + kept[:1], strict=True):
            one, other = depth(point), depth(after)
            if one >= 0:
                result.append(point)
            if (one >= 0) != (other >= 0):
                t = one / (one - other)
                result.append([point[0] + t * (after[0] - point[0]), point[1] + t * (after[1] - point[1])])
        kept = result
        if not kept:
            return 0.0
    return slow_polygon_area(kept)


def slow_polygon_area(points) -> float:
    pairs = zip(points, [*points[1:], points[0]], strict=True)
    return abs(sum(x1 * y2 - x2 * y1 for (x1, y1), (x2, y2) in pairs)) / 2


@pytest.mark.golden
def test_golden(golden) -> None:
    """The reference's angles turn from x towards -z."""
    files = sorted(golden.glob("rotated_iou*.npz"))
    assert files
    for file in files:
        data = np.load(file)
        first, second = (data[name] * [1, 1, 1, 1, -1] for name in ("bev_a", "bev_b"))
        assert np.abs(rotated_iou(first, second) - data["iou_bev"]).max() < 1e-9
        assert np.allclose(rotated_intersections(first, second), data["inter_bev"], rtol=1e-9, atol=1e-9)


@few
@given(box, box)
def test_equals_the_textbook_s_clipping(first, second) -> None:
    assert area(first, second) == pytest.approx(slow_common_area(first, second), abs=1e-9)


@few
@given(box, box)
def test_order_does_not_matter(first, second) -> None:
    assert area(first, second) == pytest.approx(area(second, first), abs=1e-10)


@few
@given(box, box, angle, place, place)
def test_turning_and_moving_both_changes_nothing(first, second, turn, right, down) -> None:
    def moved(box):
        x, y, length, width, rotation = box
        cos, sin = math.cos(turn), math.sin(turn)
        return (x * cos - y * sin + right, x * sin + y * cos + down, length, width, rotation + turn)

    assert area(moved(first), moved(second)) == pytest.approx(area(first, second), abs=1e-9)


@few
@given(box, st.integers(-3, 3))
def test_quarter_turns_with_sides_exchanged_are_the_same_box(box, quarters) -> None:
    x, y, length, width, rotation = box
    sides = (length, width) if quarters % 2 == 0 else (width, length)
    same = (x, y, *sides, rotation + quarters * math.pi / 2)
    assert rotated_iou(np.array(box), np.array(same)) == pytest.approx(1, abs=1e-12)


def test_known_areas() -> None:
    assert area((0, 0, 4, 2, 0), (1, 0.5, 4, 2, 0)) == pytest.approx(3 * 1.5, abs=1e-12)
    assert area((0, 0, 4, 2, 0), (0, 0, 4, 2, math.pi / 2)) == pytest.approx(4, abs=1e-12)
    assert area((0, 0, 2, 2, 0), (0, 0, 2, 2, math.pi / 4)) == pytest.approx(8 * math.sqrt(2) - 8, abs=1e-12)


def test_the_angle_turns_from_x_towards_y() -> None:
    """A box along the diagonal covers a point of it, and not its mirror image."""
    diagonal, small = (0, 0, 8, 1, math.pi / 4), (2, 2, 0.2, 0.2, 0)
    assert area(diagonal, small) == pytest.approx(0.04)
    assert area(diagonal, (2, -2, 0.2, 0.2, 0)) == 0


def test_touching_or_apart_shares_nothing() -> None:
    assert area((0, 0, 2, 2, 0), (2, 0, 2, 2, 0)) == 0
    assert area((0, 0, 2, 2, 0.3), (100, 0, 2, 2, 1)) == 0


def test_two_negative_sides_are_half_a_turn_and_one_covers_nothing() -> None:
    box, other = (0.2, 0, 4, 2, 0.3), (0, 0.1, 4, 2, 0.4)
    assert area((0.2, 0, -4, -2, 0.3), other) == area(box, other) > 0
    for sides in ((-4, 2), (4, -2), (0, 2), (0, 0)):
        assert area((0.2, 0, *sides, 0.3), other) == 0
        assert area(other, (0.2, 0, *sides, 0.3)) == 0


def test_nothing_over_nothing_is_nothing() -> None:
    assert rotated_iou(np.zeros((1, 5)), np.zeros((1, 5)))[0] == 0


def test_shapes_broadcast() -> None:
    first, second = random_boxes(6), random_boxes(4)
    found = rotated_iou(first[:, None], second)
    assert found.shape == (6, 4)
    assert (found > 0).any()
    np.testing.assert_array_equal(found[2], rotated_iou(first[2], second))
    assert rotated_iou(first[:, None], second[:0]).shape == (6, 0)
    assert rotated_intersections(np.zeros((0, 5)), np.zeros((0, 5))).shape == (0,)


def test_it_agrees_with_opencv() -> None:
    first, second = random_boxes(20), random_boxes(21)[:20]
    for one, other, common in zip(first, second, rotated_intersections(first, second), strict=True):
        sides = [(tuple(box[:2]), tuple(box[2:4]), float(np.degrees(box[4]))) for box in (one, other)]
        points = cv2.rotatedRectangleIntersection(*sides)[1]
        expected = 0.0 if points is None else cv2.contourArea(cv2.convexHull(points))
        assert common == pytest.approx(expected, abs=0.05)


@pytest.mark.parametrize("noise", [0.0, 1e-12, 1e-7, 1e-4])
@pytest.mark.parametrize("offset", [0.0, 2e4])
def test_nearly_equal_boxes_overlap_wholly(noise: float, offset: float) -> None:
    """Where OpenCV's polygons fail: sides that almost coincide."""
    boxes = random_boxes(200)
    boxes[:, :2] += offset
    other = boxes + np.random.default_rng(0).normal(0, 1, boxes.shape) * noise
    iou = rotated_intersections(boxes, other) / boxes[:, 2:4].prod(axis=1)
    np.testing.assert_allclose(iou, 1, atol=1e-3 if noise == 1e-4 else 1e-5)


def test_areas_of_polygons_in_either_orientation() -> None:
    rng = np.random.default_rng(0)
    polygons = rng.uniform(-5, 5, (7, 5, 2))
    expected = [slow_polygon_area(points.tolist()) for points in polygons]
    np.testing.assert_allclose(polygon_areas(polygons), expected, atol=1e-12)
    np.testing.assert_allclose(polygon_areas(polygons[:, ::-1]), expected, atol=1e-12)
    assert polygon_areas(np.array([[0, 0], [4, 0], [4, 3]])) == 6
