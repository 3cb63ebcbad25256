"""Overlaps of boxes against counting pixels, and against one pair at a time."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctnet.ops.boxes import box_areas, box_centres, box_coverage, box_iou, box_sizes, boxes_around

sides = st.integers(0, 9)
#: Whole numbers, inverted sides among them.
whole_boxes = st.lists(st.tuples(sides, sides, sides, sides), max_size=5).map(
    lambda rows: np.array(rows, np.float64).reshape(-1, 4)
)


def pixels(box: np.ndarray, inclusive: bool) -> np.ndarray:
    """The unit squares that a box of whole numbers covers."""
    x1, y1, x2, y2 = box.astype(int)
    mask = np.zeros((12, 12), bool)
    mask[y1 : max(y1, y2 + inclusive), x1 : max(x1, x2 + inclusive)] = True
    return mask


@given(one=whole_boxes, other=whole_boxes, inclusive=st.booleans())
def test_iou_equals_counting_pixels(one: np.ndarray, other: np.ndarray, inclusive: bool) -> None:
    found = box_iou(one, other, inclusive)
    assert found.shape == (len(one), len(other))
    for i, a in enumerate(one):
        for j, b in enumerate(other):
            first, second = pixels(a, inclusive), pixels(b, inclusive)
            common, union = (first & second).sum(), (first | second).sum()
            assert found[i, j] == (common / union if union else 0)


@given(boxes=whole_boxes, regions=whole_boxes)
def test_coverage_equals_counting_pixels(boxes: np.ndarray, regions: np.ndarray) -> None:
    found = box_coverage(boxes, regions)
    assert found.shape == (len(boxes), len(regions))
    for i, box in enumerate(boxes):
        for j, region in enumerate(regions):
            own, covered = pixels(box, False), pixels(box, False) & pixels(region, False)
            assert found[i, j] == (covered.sum() / own.sum() if own.any() else 0)


@given(boxes=whole_boxes, inclusive=st.booleans())
def test_areas_equal_counting_pixels(boxes: np.ndarray, inclusive: bool) -> None:
    assert box_areas(boxes, inclusive).tolist() == [pixels(box, inclusive).sum() for box in boxes]


@given(st.integers(0, 2**32 - 1))
def test_overlaps_of_boxes_between_pixels(seed: int) -> None:
    generator = np.random.default_rng(seed)
    one, other = (np.sort(generator.random((n, 2, 2)) * 10, axis=1).reshape(n, 4) for n in (5, 7))
    for i, a in enumerate(one):
        for j, b in enumerate(other):
            width = max(0, min(a[2], b[2]) - max(a[0], b[0]))
            height = max(0, min(a[3], b[3]) - max(a[1], b[1]))
            areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
            assert box_iou(one, other)[i, j] == pytest.approx(
                width * height / (sum(areas) - width * height), abs=1e-12
            )
            assert box_coverage(one, other)[i, j] == pytest.approx(width * height / areas[0], abs=1e-12)


def test_a_box_covers_itself_exactly() -> None:
    boxes = np.sort(np.random.default_rng(0).random((50, 2, 2)).astype(np.float32), axis=1).reshape(50, 4)
    assert (np.diag(box_iou(boxes, boxes)) == 1).all()
    assert (np.diag(box_coverage(boxes, boxes)) == 1).all()


def test_centres_and_sizes_of_any_shape() -> None:
    boxes = np.array([[0, 1, 4, 2], [5, 5, 3, 5]], np.float32)
    assert box_centres(boxes).tolist() == [[2, 1.5], [4, 5]]
    assert box_sizes(boxes).tolist() == [[4, 1], [-2, 0]]
    stacked = np.stack([boxes, boxes + 1])
    assert np.array_equal(box_centres(stacked)[1], box_centres(boxes) + 1)
    assert np.array_equal(box_sizes(stacked)[1], box_sizes(boxes))
    assert box_areas(stacked).shape == (2, 2)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_types_are_kept_and_nothing_is_fine(dtype: type) -> None:
    boxes, none = np.ones((3, 4), dtype), np.zeros((0, 4), dtype)
    for result in (box_centres(boxes), box_sizes(boxes), box_areas(boxes), box_iou(boxes, boxes)):
        assert result.dtype == dtype
    assert box_iou(boxes, none).shape == box_coverage(boxes, none).shape == (3, 0)
    assert box_iou(none, boxes).shape == box_coverage(none, boxes).shape == (0, 3)
    assert box_centres(none).shape == box_sizes(none).shape == (0, 2)
    assert box_areas(none).shape == (0,)


def test_memory_layout_does_not_matter() -> None:
    boxes = np.sort(np.random.default_rng(0).random((6, 2, 2)), axis=1).reshape(6, 4)
    strided = np.repeat(boxes, 2, axis=0)[::2]
    for other in (np.asfortranarray(boxes), strided):
        assert np.array_equal(box_iou(other, boxes), box_iou(boxes, boxes))
        assert np.array_equal(box_coverage(boxes, other), box_coverage(boxes, boxes))


def test_boxes_around_points() -> None:
    points = np.array([[[3.0, 1], [0, 2], [1, 5]], [[1, 1], [1, 1], [1, 1]]])
    assert boxes_around(points).tolist() == [[0, 1, 3, 5], [1, 1, 1, 1]]
    assert boxes_around(np.zeros((0, 4, 2))).shape == (0, 4)
