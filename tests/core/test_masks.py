"""Outlines from COCO's polygons and run-length encodings, moved, rasterised, written and compared."""

from __future__ import annotations

import json
import math
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from ctnet.core.fields import field_errors, read_fields, write_fields
from ctnet.core.geometry import Affine
from ctnet.core.masks import Mask, Outline, RunLength, one_ring, outline_of

FIELD = Mask()
FIELDS = {"outline": FIELD}
SQUARE = [2.0, 2.0, 8.0, 2.0, 8.0, 6.0, 2.0, 6.0]
TRIANGLE = [10.5, 3.0, 17.0, 9.25, 11.0, 12.0]


def run_lengths(mask: np.ndarray) -> dict[str, Any]:
    """An uncompressed encoding, by a plain loop over the columns."""
    counts, value = [0], False
    for pixel in mask.T.ravel().tolist():
        if pixel != value:
            counts.append(0)
            value = pixel
        counts[-1] += 1
    return {"size": list(mask.shape), "counts": counts}


def compressed(mask: np.ndarray) -> dict[str, Any]:
    encoding = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": list(mask.shape), "counts": encoding["counts"].decode()}


def blob(seed: int, height: int = 30, width: int = 40) -> np.ndarray:
    """A mask of some discs, with a hole that contains an island."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    mask = np.zeros((height, width), bool)
    for _ in range(3):
        radius, cx, cy = rng.uniform(2, 6), rng.uniform(0, width), rng.uniform(0, height)
        mask |= np.hypot(x - cx, y - cy) <= radius
    distance = np.hypot(x - 20, y - 15)
    mask[distance <= 12] = True
    mask[distance <= 8] = False
    mask[distance <= 3] = True
    return mask


def pixels(outline: Outline, shape: tuple[int, int]) -> np.ndarray:
    """Rasterised at the mask's pixels, whose centres are half a unit further in COCO's coordinates."""
    back = Affine(np.array([[1, 0, -0.5], [0, 1, -0.5]]))
    return outline.moved(back).rasterise(shape[1], shape[0])


def is_inside(x: float, y: float, ring: np.ndarray) -> bool:
    """Even-odd rule, edge by edge."""
    crossings = 0
    for (x1, y1), (x2, y2) in zip(ring, np.roll(ring, -1, axis=0), strict=True):
        if (y1 > y) != (y2 > y):
            crossings += x < x1 + (y - y1) * (x2 - x1) / (y2 - y1)
    return crossings % 2 == 1


def distance_to_edges(x: float, y: float, ring: np.ndarray) -> float:
    point, nearest = np.array([x, y]), math.inf
    for start, end in zip(ring, np.roll(ring, -1, axis=0), strict=True):
        along = np.clip((point - start) @ (end - start) / ((end - start) @ (end - start)), 0, 1)
        nearest = min(nearest, float(np.linalg.norm(start + along * (end - start) - point)))
    return nearest


def test_polygons_are_taken_as_they_are():
    outline = outline_of([SQUARE, TRIANGLE])
    assert outline == Outline(tuple(np.array(p, np.float32).reshape(-1, 2) for p in (SQUARE, TRIANGLE)))
    assert outline != outline_of([TRIANGLE, SQUARE])
    assert [ring.dtype for ring in outline.polygons] == [np.float32] * 2


@pytest.mark.parametrize("seed", range(5))
def test_rasterised_polygons_hold_the_pixels_whose_middles_lie_in_them(seed):
    rng = np.random.default_rng(seed)
    angles = np.sort(rng.uniform(0, 2 * np.pi, 7))
    ring = 12 + rng.uniform(4, 11, (7, 1)) * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    drawn = Outline((ring.astype(np.float32),)).rasterise(26, 24)
    assert drawn.shape == (24, 26)
    for y, x in np.ndindex(drawn.shape):
        if distance_to_edges(x, y, ring) > 1:
            assert drawn[y, x] == is_inside(x, y, ring), (x, y)


def test_a_pixel_on_the_edge_belongs_to_the_region():
    drawn = outline_of([SQUARE]).rasterise(12, 9)
    assert np.argwhere(drawn).min(axis=0).tolist() == [2, 2]
    assert np.argwhere(drawn).max(axis=0).tolist() == [6, 8]
    assert drawn.sum() == 5 * 7


@pytest.mark.parametrize("encode", [run_lengths, compressed])
@pytest.mark.parametrize("seed", range(4))
def test_a_run_length_mask_has_the_outline_of_its_pixels(encode, seed):
    """Holes, islands in them and pixels at the border included."""
    mask = blob(seed)
    encoding = json.loads(json.dumps(encode(mask)))
    assert FIELD.error(encoding, image={"height": 30, "width": 40}) is None
    outline = outline_of(encoding)
    assert outline.holes
    np.testing.assert_array_equal(pixels(outline, mask.shape), mask)


def test_both_encodings_of_a_mask_have_one_outline():
    assert outline_of(run_lengths(blob(0))) == outline_of(compressed(blob(0)))


@given(st.floats(0.5, 3), st.floats(-3, 3), st.booleans())
@settings(max_examples=25, deadline=None)
def test_a_moved_outline_shows_what_the_moved_picture_shows(zoom, turn, mirrored):
    mask = blob(1)
    cos, sin = zoom * math.cos(turn), zoom * math.sin(turn)
    affine = Affine(np.array([[cos, -sin, 60], [sin, cos, 60]]))
    if mirrored:
        affine = affine.after(Affine.mirror(40))
    column = np.array([outline_of(run_lengths(mask)), None], object)
    moved, missing = FIELD.move("outline", {"outline": column}, affine)["outline"]
    assert missing is None
    shifted = affine.after(Affine(np.array([[1, 0, 0.5], [0, 1, 0.5]])))
    picture = shifted.warp(255 * mask[..., None].repeat(3, axis=2).astype(np.uint8), (200, 200))
    seen, drawn = picture[..., 0] > 127, moved.rasterise(200, 200)
    # The outline runs through the centres of the outermost pixels, and its edge is drawn too.
    assert (seen & drawn).sum() / (seen | drawn).sum() > (0.6 if zoom < 1 else 0.75)
    assert abs(np.argwhere(seen).mean(axis=0) - np.argwhere(drawn).mean(axis=0)).max() < 0.75


def test_what_is_written_reads_back():
    column = np.array([outline_of([SQUARE, TRIANGLE]), None, outline_of(run_lengths(blob(2)))], object)
    entries: list[dict[str, Any]] = [{}, {}, {}]
    write_fields(FIELDS, entries, {"outline": column})
    entries = json.loads(json.dumps(entries))
    assert entries[0] == {"segmentation": [SQUARE, TRIANGLE]}
    assert entries[1] == {}
    assert all(field_errors(FIELDS, entry) == [] for entry in entries)
    again = read_fields(FIELDS, entries)["outline"]
    assert again[0] == column[0]
    assert again[1] is None
    # Polygons have no holes; they are joined to what surrounds them by a slit.
    assert not again[2].holes
    np.testing.assert_array_equal(pixels(again[2], (30, 40)), blob(2))
    assert FIELD.distance("outline", {"outline": column}, {"outline": again}).max() < 0.01


@pytest.mark.parametrize("missing", [None, [], {"size": [4, 5], "counts": [20]}])
def test_a_missing_or_empty_region_is_none(missing):
    entry = {"segmentation": missing}
    assert field_errors(FIELDS, entry, image={"height": 4, "width": 5}) == []
    assert read_fields(FIELDS, [entry, {}])["outline"].tolist() == [None, None]
    assert read_fields(FIELDS, [])["outline"].shape == (0,)


def test_distance_is_one_minus_the_iou():
    one, other = outline_of([SQUARE]), outline_of([[x + 3 * (n % 2 == 0) for n, x in enumerate(SQUARE)]])
    truth = np.array([one, one, None, one], object)
    found = np.array([one, other, one, None], object)
    distance = FIELD.distance("outline", {"outline": truth}, {"outline": found})
    assert distance[[0, 2, 3]].tolist() == [0, 0, 1]
    assert distance[1] == pytest.approx(1 - 12 / 36, abs=0.02)


@pytest.mark.parametrize(
    ("segmentation", "phrase"),
    [
        ([[1, 2, 3, 4]], "segmentation has as polygon 1 4 numbers, not x and y of three or more points"),
        ([SQUARE, [1, 2, 3, 4, 5, 6, 7]], "segmentation has as polygon 2 7 numbers, not x and y"),
        ([7], "segmentation has as polygon 1 7, not x and y of three or more points"),
        (["shapes"], "segmentation has as polygon 1 'shapes', not x and y of three or more points"),
        ([[1, 2, 3, 4, 5, math.nan]], "segmentation has a polygon 1 with values that are not finite numbers"),
        ([[1, 2, 3, 4, 5, "6"]], "segmentation has a polygon 1 with values that are not finite numbers"),
        ([[1, 2, 3, 4, 5, True]], "segmentation has a polygon 1 with values that are not finite numbers"),
        ("text", "segmentation is str, neither polygons nor a run-length encoding"),
        (7, "segmentation is int, neither polygons nor a run-length encoding"),
        (
            {"size": [5, 4], "counts": [20]},
            "segmentation is a run-length mask of size [5, 4], its image [4, 5]",
        ),
        ({"size": [4, 5], "counts": [19]}, "run-length mask whose counts do not add up to 20 pixels"),
        ({"size": [4, 5], "counts": [-1, 21]}, "run-length mask whose counts do not add up to 20 pixels"),
        ({"size": [4, 5], "counts": [1.5, 18.5]}, "run-length mask whose counts do not add up to 20 pixels"),
        ({"size": [4, 5]}, "segmentation is a run-length mask with counts of type NoneType"),
        ({"size": 5, "counts": [20]}, "segmentation is a run-length mask of size 5, not [height, width]"),
        ({"counts": [20]}, "segmentation is a run-length mask of size None, not [height, width]"),
        ({"size": [4, 5], "counts": "zzzz~"}, "segmentation is a run-length mask that cannot be decoded"),
    ],
)
def test_an_error_says_what_is_wrong(segmentation, phrase):
    [error] = field_errors(FIELDS, {"segmentation": segmentation}, image={"height": 4, "width": 5})
    assert re.search(re.escape(phrase), error)


# --- run lengths


@pytest.mark.parametrize("seed", range(20))
def test_a_window_becomes_the_run_lengths_of_the_whole_image(seed: int) -> None:
    rng = np.random.default_rng(seed)
    height, width = (int(side) for side in rng.integers(4, 20, 2))
    x, y = int(rng.integers(0, width - 1)), int(rng.integers(0, height - 1))
    window = rng.random((int(rng.integers(1, height - y + 1)), int(rng.integers(1, width - x + 1))))
    mask = np.zeros((height, width), bool)
    mask[y : y + window.shape[0], x : x + window.shape[1]] = window < rng.choice([0.5, 0.95, 2.0])
    part = mask[y : y + window.shape[0], x : x + window.shape[1]]
    runs = RunLength.of_window(part, (x, y), (width, height))
    assert runs.to_coco() == compressed(mask)
    assert runs == RunLength.of_coco(run_lengths(mask))
    assert runs.area == mask.sum()
    np.testing.assert_array_equal(runs.pixels, mask)


@pytest.mark.parametrize("seed", range(4))
def test_the_edges_of_pixels_are_their_area_but_for_the_tips_of_corners(seed: int) -> None:
    mask = blob(seed)
    runs = RunLength.of_coco(compressed(mask))
    np.testing.assert_array_equal(runs.edges.runs(40, 30).pixels, mask)
    doubled = runs.moved(Affine.scaling(2)).runs(80, 60).pixels
    assert (doubled ^ mask.repeat(2, axis=0).repeat(2, axis=1)).mean() < 0.015


@pytest.mark.parametrize("seed", range(4))
def test_one_ring_has_the_area_of_all_parts_and_holes(seed: int) -> None:
    mask = blob(seed)
    ring = one_ring(RunLength.of_coco(compressed(mask)))
    drawn = Outline((ring,)).runs(40, 30).pixels
    assert (drawn ^ mask).sum() <= 2


def test_a_run_length_mask_is_written_as_it_was_read() -> None:
    encoding = compressed(blob(0))
    columns = read_fields(FIELDS, [{"segmentation": encoding}])
    entries: list[dict[str, Any]] = [{}]
    write_fields(FIELDS, entries, columns)
    assert entries == [{"segmentation": encoding}]


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_a_cut_encoding_is_refused(share: float) -> None:
    encoding = compressed(blob(0))
    cut = {**encoding, "counts": encoding["counts"][: int(share * len(encoding["counts"]))]}
    assert FIELD.error(encoding) is None
    assert re.search(
        r"is a run-length mask (whose counts cover \d+ of 1200 pixels|that cannot)", FIELD.error(cut)
    )


def test_an_outline_far_outside_the_image_has_no_pixels() -> None:
    far = Outline((np.array([[1e9, 1e9], [1e9, 2e9], [2e9, 2e9]], np.float32),))
    assert far.runs(20, 10).area == 0
    assert Outline(()).runs(20, 10).area == 0
