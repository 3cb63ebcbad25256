from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctnet.core.boxes import clip_boxes, cut_to_grid
from ctnet.core.fields import Points, move_record
from ctnet.core.geometry import Affine
from ctnet.core.records import Detections, Instances
from ctnet.core.targets import Grid

number = st.floats(-500, 500)


@pytest.mark.golden
def test_matrices_equal_the_reference(golden):
    for file in sorted(golden.glob("affine*.npz")):
        data = np.load(file)
        for (cx, cy, side, _, degrees, width, height, inverse, _), wanted in zip(
            data["params"], data["mats"], strict=True
        ):
            affine = Affine.centred((cx, cy), side, (width, height), degrees)
            ours = affine.inverse() if inverse else affine
            np.testing.assert_allclose(ours.matrix, wanted, rtol=1e-4, atol=1e-4 * np.abs(wanted).max())


@pytest.mark.golden
def test_points_come_back_as_in_the_reference(golden):
    for file in sorted(golden.glob("affine*.npz")):
        data = np.load(file)
        for coordinates, (cx, cy, side, width, height), wanted in zip(
            data["tp_coords"], data["tp_params"], data["tp_out"], strict=True
        ):
            back = Affine.centred((cx, cy), side, (width, height)).inverse()
            np.testing.assert_allclose(back.points(coordinates.astype(float)), wanted, rtol=1e-4, atol=1e-3)


@pytest.mark.golden
def test_detections_come_back_to_image_pixels_as_in_the_reference(golden):
    for file in sorted(golden.glob("affine*.npz")):
        data = np.load(file)
        height, width = data["ctdet_pp_hw"]
        cases = {
            "ctdet_pp": [(width, height)] * len(data["ctdet_pp_s"]),
            "ctdet_keepres": [tuple(side // 4) for side in data["ctdet_keepres_s"]],
        }
        for name, outputs in cases.items():
            rows = []
            for image, output in enumerate(outputs):
                side = float(np.atleast_1d(data[f"{name}_s"][image])[0])
                affine = Affine.centred(tuple(data[f"{name}_c"][image]), side, output)
                dets = data["ctdet_pp_dets"][image]
                found = Detections(dets[:, :4], dets[:, 4], dets[:, 5].astype(np.int64))
                found = move_record(found, affine.inverse(), {})
                for box, score, label in zip(found.boxes, found.scores, found.labels, strict=True):
                    rows.append([image, label + 1, *box, score])
            ours, wanted = np.array(sorted(rows)), np.array(sorted(data[f"{name}_out"].tolist()))
            order, other = (np.lexsort((table[:, 6], table[:, 1], table[:, 0])) for table in (ours, wanted))
            np.testing.assert_allclose(ours[order], wanted[other], rtol=1e-4, atol=1e-2)


@given(
    number, number, st.floats(1, 900), st.floats(-180, 180), st.lists(st.tuples(number, number), min_size=1)
)
@settings(max_examples=60, deadline=None)
def test_inverse_and_composition(cx, cy, side, degrees, points):
    points = np.array(points, float)
    first = Affine.centred((cx, cy), side, (128, 96), degrees)
    second = Affine.scaling(0.25)
    np.testing.assert_allclose(first.inverse().points(first.points(points)), points, atol=1e-6)
    np.testing.assert_allclose(
        second.after(first).points(points), second.points(first.points(points)), atol=1e-6
    )


@given(number, number, st.floats(1, 900), st.floats(-180, 180))
@settings(max_examples=60, deadline=None)
def test_the_centre_goes_to_the_middle_and_the_width_sets_the_scale(cx, cy, side, degrees):
    affine = Affine.centred((cx, cy), side, (128, 96), degrees)
    np.testing.assert_allclose(affine.points(np.array([cx, cy])), [64, 48], atol=1e-6)
    moved = affine.points(np.array([[cx, cy], [cx + 1, cy]]))
    assert np.linalg.norm(moved[1] - moved[0]) == pytest.approx(128 / side)


@given(st.floats(0, 90), st.floats(0, 90), st.floats(0, 40), st.floats(0, 40), st.floats(-180, 180))
@settings(max_examples=60, deadline=None)
def test_a_moved_box_holds_all_its_moved_corners(x, y, w, h, degrees):
    affine = Affine.centred((50, 50), 80, (128, 128), degrees)
    box = affine.boxes(np.array([x, y, x + w, y + h]))
    corners = affine.points(np.array([[x, y], [x + w, y], [x, y + h], [x + w, y + h]]))
    np.testing.assert_allclose(box, [*corners.min(0), *corners.max(0)], atol=1e-9)


def test_mirror_twice_is_the_identity_and_pixels_agree():
    mirror = Affine.mirror(7)
    np.testing.assert_allclose(mirror.after(mirror).matrix, Affine.identity().matrix)
    image = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    np.testing.assert_array_equal(mirror.warp(image, (7, 5)), image[:, ::-1])


def test_a_flat_map_has_no_inverse():
    with pytest.raises(ValueError, match="has no inverse"):
        Affine.scaling(0.0).inverse()


def test_moving_a_record_changes_what_the_map_moves_and_nothing_else():
    instances = Instances.of(
        [[1, 2, 3, 4]], [0], score=np.array([2.0]), points=np.ones((1, 5, 2), np.float32)
    )
    moved = move_record(instances, Affine.scaling(2), {"points": Points(json="points", n=5)})
    np.testing.assert_allclose(moved.boxes, [[2, 4, 6, 8]])
    np.testing.assert_allclose(moved.points, np.full((1, 5, 2), 2))
    assert moved.score.tolist() == [2.0]


def test_clipping_keeps_boxes_on_the_last_pixel():
    np.testing.assert_allclose(clip_boxes(np.array([[-3.0, 2, 99, 99]]), 64, 48), [[0, 2, 63, 47]])


def test_what_a_grid_does_not_show_is_left_out() -> None:
    boxes = [[-3, 2, 9, 30], [40, 2, 50, 9], [5, 5, 5, 9], [30, 3, 45, 9]]
    shown = cut_to_grid(Instances.of(boxes, [0, 1, 2, 3], note=np.arange(4)), Grid(20, 32))
    np.testing.assert_array_equal(shown.boxes, [[0, 2, 9, 19], [30, 3, 31, 9]])
    assert (shown.labels.tolist(), shown.note.tolist()) == ([0, 3], [0, 3])
