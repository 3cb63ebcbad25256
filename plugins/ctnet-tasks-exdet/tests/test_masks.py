"""Extreme points of polygons and run-length masks, against a plain loop; segmentations of a wrong form."""

from __future__ import annotations

import numpy as np
import pytest
from ctnet_tasks_exdet.masks import extreme_points, mask_fits
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from ctnet.plugin import Mask, outline_of


def box_around(*contours: np.ndarray) -> np.ndarray:
    points = np.concatenate(contours)
    return np.concatenate([points.min(axis=0), points.max(axis=0)])


def slow_stretch(contour: np.ndarray, axis: int, sign: int) -> float:
    """From the extreme vertex along the outline, both ways, while it stays within 2 percent of the extent."""
    values = [sign * point[axis] for point in contour.tolist()]
    along = [point[1 - axis] for point in contour.tolist()]
    allowed = 0.02 * (max(values) - min(values))
    count, start = len(values), values.index(min(values))
    stretch = [along[start]]
    for step in (1, -1):
        for distance in range(1, count):
            vertex = (start + step * distance) % count
            if values[vertex] - min(values) > allowed:
                break
            stretch.append(along[vertex])
    return (min(stretch) + max(stretch)) / 2


polygons = st.integers(0, 100_000).map(
    lambda seed: np.random.default_rng(seed).integers(0, 40, (seed % 9 + 3, 2)).astype(float)
)


@given(polygons)
@settings(deadline=None)
def test_points_equal_a_plain_loop(contour):
    box = box_around(contour)
    top, left, bottom, right = extreme_points([contour], box)
    assert top.tolist() == pytest.approx([slow_stretch(contour, 1, 1), box[1]])
    assert left.tolist() == pytest.approx([box[0], slow_stretch(contour, 0, 1)])
    assert bottom.tolist() == pytest.approx([slow_stretch(contour, 1, -1), box[3]])
    assert right.tolist() == pytest.approx([box[2], slow_stretch(contour, 0, -1)])


@given(st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_a_mirrored_outline_has_mirrored_points(seed):
    """Of outlines whose extreme vertices are single ones; of two equal ones either may be taken."""
    contour = np.random.default_rng(seed).uniform(0, 50, (7, 2))
    plain = extreme_points([contour], box_around(contour))
    flipped = contour * [-1, 1] + [100, 0]
    mirrored = extreme_points([flipped], box_around(flipped))
    np.testing.assert_allclose(mirrored[[0, 3, 2, 1]], plain * [-1, 1] + [100, 0], atol=1e-4)


def test_a_level_edge_is_touched_in_its_middle():
    house = np.array([[0, 10], [5, 0], [15, 0.1], [20, 10], [20, 30], [0, 30]], float)
    points = extreme_points([house], box_around(house))
    assert points.tolist() == [[10, 0], [0, 20], [10, 30], [20, 20]]


def test_the_farthest_part_of_several_counts_and_only_its_own_stretch():
    left, right = (np.array([[x, 2], [x + 4, 0], [x + 8, 2], [x + 4, 9]], float) for x in (0, 100))
    points = extreme_points([left, right], box_around(left, right))
    assert points.tolist() == [[4, 0], [0, 2], [4, 9], [108, 2]]


def test_points_lie_on_the_box_whatever_the_mask_says():
    outline = np.array([[0, 5], [5, 0], [10, 5], [5, 10]], float)
    assert extreme_points([outline], np.array([1, 1, 9, 11])).tolist() == [[5, 1], [1, 5], [5, 11], [9, 5]]


def run_lengths(mask: np.ndarray, compressed: bool) -> dict:
    if compressed:
        encoded = coco_mask.encode(np.asfortranarray(mask))
        return {"size": encoded["size"], "counts": encoded["counts"].decode()}
    flat = mask.flatten(order="F")
    changes = np.flatnonzero(np.diff(flat)) + 1
    counts = np.diff(np.concatenate([[0], changes, [flat.size]])).tolist()
    return {"size": list(mask.shape), "counts": [0, *counts] if flat[0] else counts}


@pytest.mark.parametrize("compressed", [True, False])
def test_a_run_length_mask_says_what_its_pixels_do(compressed):
    mask = np.zeros((20, 30), np.uint8)
    mask[4:9, 6:16] = 1  # covers x 6 to 16, y 4 to 9
    mask[2:4, 12] = 1
    encoding = run_lengths(mask, compressed)
    assert Mask().error(encoding, image={"width": 30, "height": 20}) is None
    box = np.array([6.0, 2, 16, 9])
    contours = outline_of(encoding).polygons
    assert mask_fits(contours, box)
    assert extreme_points(contours, box).tolist() == [[12.5, 2], [6, 6.5], [11, 9], [16, 6.5]]


def test_masks_of_nothing():
    assert outline_of(None) is outline_of([]) is outline_of({}) is None
    assert outline_of(run_lengths(np.zeros((4, 5), np.uint8), False)) is None


@pytest.mark.parametrize(
    ("segmentation", "error"),
    [
        ([], None),
        ([[0, 0, 5, 0, 5, 5]], None),
        ("text", "is str, neither polygons nor a run-length encoding"),
        (7, "is int, neither polygons nor a run-length encoding"),
        ([[0, 0, 5, 0]], "has as polygon 1 4 numbers, not x and y of three or more points"),
        ([[0, 0, 5, 0, 5, 5], [0] * 7], "has as polygon 2 7 numbers, not x and y of three or more points"),
        ([3], "has as polygon 1 3, not x and y of three or more points"),
        ([[0, 0, 5, 0, 5, float("nan")]], "has a polygon 1 with values that are not finite numbers"),
        ([[0, 0, 5, 0, 5, "a"]], "has a polygon 1 with values that are not finite numbers"),
        ({"size": [5, 4], "counts": [20]}, "is a run-length mask of size [5, 4], its image [4, 5]"),
        (
            {"size": [4, 5], "counts": [19]},
            "is a run-length mask whose counts do not add up to 20 pixels",
        ),
        (
            {"size": [4, 5], "counts": [-1, 21]},
            "is a run-length mask whose counts do not add up to 20 pixels",
        ),
        ({"size": [4, 5]}, "is a run-length mask with counts of type NoneType"),
        ({"size": 5, "counts": [20]}, "is a run-length mask of size 5, not [height, width]"),
        ({"size": [4, 5], "counts": "zzzz~"}, "is a run-length mask that cannot be decoded"),
    ],
)
def test_a_wrong_form_is_named(segmentation, error):
    said = Mask().error(segmentation, image={"width": 5, "height": 4})
    assert said == error or (error is not None and said.startswith(error))


def test_a_mask_that_misses_its_box_does_not_fit():
    square = [np.array([[10, 10], [50, 10], [50, 50], [10, 50]], float)]
    assert mask_fits(square, np.array([10.0, 10, 50, 50]))
    assert mask_fits(square, np.array([11.5, 8.5, 51, 50]))
    assert not mask_fits(square, np.array([10.0, 10, 53, 50]))
    assert not mask_fits(square, np.array([10.0, 10, 50, 45]))
