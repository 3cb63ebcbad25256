"""Rotated IoU against a slow reference, known areas, and OpenCV."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
from ctnet_tasks_obb.boxes import Rectangles, rectangles
from ctnet_tasks_obb.overlaps import common_area, polygon_area, rotated_iou

RNG = np.random.default_rng(1)


def boxes(count: int, within: float = 60.0) -> np.ndarray:
    return Rectangles(
        RNG.uniform(0, within, (count, 2)),
        RNG.uniform(2, 60, (count, 2)),
        np.exp(1j * RNG.uniform(0, 2 * np.pi, count)),
    ).corners


def slow_common_area(first: np.ndarray, second: np.ndarray) -> float:
    """The textbook's clipping, corner by corner."""
    clip = second.tolist()
    if signed_area(clip) < 0:
        clip = clip[::-1]
    kept = first.tolist()
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
    return abs(signed_area(kept))


def signed_area(points: list[list[float]]) -> float:
    pairs = zip(points, points[1:] + points[:1], strict=True)
    return sum(x1 * y2 - x2 * y1 for (x1, y1), (x2, y2) in pairs) / 2


def test_it_agrees_with_the_textbook() -> None:
    first, second = boxes(40), boxes(30)
    second[::2] = second[::2, ::-1]  # either turn
    found = rotated_iou(first, second)
    assert (found > 0).mean() > 0.3
    assert (found == 0).any()
    for row, one in enumerate(first):
        for column, other in enumerate(second):
            common = slow_common_area(one, other)
            union = abs(signed_area(one.tolist())) + abs(signed_area(other.tolist())) - common
            assert found[row, column] == pytest.approx(common / union, abs=1e-9)


def test_it_agrees_with_opencv() -> None:
    first, second = boxes(20), boxes(20)
    common = common_area(first, second)
    one, other = rectangles(first), rectangles(second)
    for row in range(20):
        sides = [
            (box.centre[row].tolist(), box.size[row].tolist(), float(np.degrees(box.angle[row])))
            for box in (one, other)
        ]
        points = cv2.rotatedRectangleIntersection(*sides)[1]
        area = 0.0 if points is None else cv2.contourArea(cv2.convexHull(points))
        assert common[row] == pytest.approx(area, abs=0.05)


def test_known_areas() -> None:
    square = np.array([[[-1, -1], [1, -1], [1, 1], [-1, 1]]], float)
    turned = Rectangles(np.zeros((1, 2)), np.full((1, 2), 2.0), np.exp(1j * np.pi / 4 * np.ones(1))).corners
    assert common_area(square, turned)[0] == pytest.approx(8 * (math.sqrt(2) - 1))  # a regular octagon
    assert rotated_iou(square, square + np.array([1, 0])) == pytest.approx(1 / 3)
    assert rotated_iou(square, square + np.array([2, 0])) == 0  # they touch
    assert rotated_iou(square, square / 2) == pytest.approx(0.25)
    assert rotated_iou(square, square * [1, 0]) == 0  # without area


@pytest.mark.parametrize("noise", [0.0, 1e-12, 1e-7, 1e-4])
@pytest.mark.parametrize("place", [0.0, 2e4])
def test_nearly_equal_boxes_overlap_wholly(noise: float, place: float) -> None:
    """Where OpenCV's polygons fail: sides that all but coincide."""
    corners = boxes(200) + place
    for turn in range(4):
        other = np.roll(corners, turn, axis=1) + RNG.normal(0, 1, corners.shape) * noise
        iou = common_area(corners, other) / polygon_area(corners)
        np.testing.assert_allclose(iou, 1, atol=1e-3 if noise == 1e-4 else 1e-5)


def test_it_does_not_mind_the_order() -> None:
    first, second = boxes(15), boxes(10)
    np.testing.assert_allclose(rotated_iou(first, second), rotated_iou(second, first).T, atol=1e-12)
    assert rotated_iou(first, second[:0]).shape == (15, 0)
    assert rotated_iou(first[:0], second).shape == (0, 10)
