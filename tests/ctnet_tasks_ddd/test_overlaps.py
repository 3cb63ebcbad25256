"""Overlap of objects in 2D, in bird's-eye view and in 3D."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctnet_tasks_ddd.overlaps import Shapes, overlaps

pytestmark = pytest.mark.filterwarnings("error")

#: x, z, length, width, rotation_y.
rectangle = st.tuples(*[st.floats(-5, 5)] * 2, *[st.floats(0.1, 8)] * 2, st.floats(-10, 10))


def in_space(boxes) -> Shapes:
    """Objects of boxes (N, 7) whose boxes in the image are ignored."""
    boxes = np.array(boxes, float)
    return Shapes(np.zeros(len(boxes), int), np.zeros((len(boxes), 4)), boxes)


@pytest.mark.golden
def test_golden(golden) -> None:
    files = sorted(golden.glob("rotated_iou*.npz"))
    assert files
    for file in files:
        data = np.load(file)
        found = overlaps(in_space(data["box3d_a"]), in_space(data["box3d_b"]))[2]
        assert np.abs(found - data["iou_3d"]).max() < 1e-9


@settings(max_examples=40, deadline=None)
@given(rectangle, rectangle)
def test_rectangles_turn_as_the_benchmark_s(slow, first, second) -> None:
    def content(x, z, length, width, turn):
        return SimpleNamespace(x=x, z=z, length=length, width=width, rotation=turn)

    def box(x, z, length, width, turn):
        return [x, 0, z, 1, width, length, turn]

    shared = slow.ground_intersection(content(*first), content(*second))
    expected = shared / (first[2] * first[3] + second[2] * second[3] - shared)
    assert overlaps(in_space([box(*first)]), in_space([box(*second)]))[1][0] == pytest.approx(
        expected, abs=1e-9
    )


def test_boxes_share_the_common_height() -> None:
    low, high = (0, 0, 5, 2, 1, 4, 0.5), (0, -1, 5, 2, 1, 4, 0.5)
    assert overlaps(in_space([low]), in_space([high]))[2][0] == pytest.approx(1 / 3, abs=1e-12)
    assert overlaps(in_space([low]), in_space([high]), of_second=True)[2][0] == pytest.approx(1 / 2)
    above = (0, -2, 5, 2, 1, 4, 0.5)
    upside_down = (0, 0, 5, -2, 1, 4, 0.5)
    assert overlaps(in_space([low, low]), in_space([above, upside_down]))[2].tolist() == [0, 0]


def test_boxes_in_the_image() -> None:
    one, other = (
        Shapes(np.zeros(1, int), np.array([box]), np.zeros((1, 7)))
        for box in ([0.0, 0, 10, 10], [5.0, 0, 15, 20])
    )
    assert overlaps(one, other)[0][0] == pytest.approx(50 / 250)
    assert overlaps(one, other, of_second=True)[0][0] == pytest.approx(50 / 200)


def test_nothing_over_nothing_is_nothing() -> None:
    flat = in_space(np.zeros((1, 7)))
    assert [share[0] for share in overlaps(flat, flat)] == [0, 0, 0]
