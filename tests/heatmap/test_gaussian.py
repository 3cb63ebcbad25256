from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ctnet.core.targets import Peaks
from ctnet.heatmap import draw_gaussians, gaussian_radius
from ctnet.heatmap.gaussian import SOFT_PEAK


def slow_gaussians(rows: list[tuple], shape: tuple[int, int, int, int]) -> np.ndarray:
    """Rows are (batch, x, y, radius, channel, positive); one cell at a time."""
    canvas = np.zeros(shape)
    for batch, x, y, radius, channel, positive in rows:
        sigma = (2 * radius + 1) / 6
        px, py = math.floor(x), math.floor(y)
        for row in range(max(0, py - radius), min(shape[2], py + radius + 1)):
            for column in range(max(0, px - radius), min(shape[3], px + radius + 1)):
                squared = (row - py) ** 2 + (column - px) ** 2
                value = math.exp(-squared / (2 * sigma**2))
                if squared == 0 and not positive:
                    value = SOFT_PEAK
                canvas[batch, channel, row, column] = max(canvas[batch, channel, row, column], value)
    return canvas


def peaks_of(rows: list[tuple]) -> Peaks:
    batch, x, y, radius, channel, positive = (list(column) for column in zip(*rows, strict=True))
    one = Peaks.of(np.array([x, y]).T, np.array(radius), np.array(channel), np.array(positive))
    return Peaks(torch.tensor(batch), one.x, one.y, one.radius, one.channel, one.positive, one.cells)


def iou_of_moved(height: float, width: float, radius: float, kind: str) -> float:
    if kind == "shift":
        inter = (height - radius) * (width - radius)
        return inter / (2 * height * width - inter)
    if kind == "shrink":
        return (height - 2 * radius) * (width - 2 * radius) / (height * width)
    return height * width / ((height + 2 * radius) * (width + 2 * radius))


@given(st.floats(0.5, 200), st.floats(0.5, 200), st.floats(0.3, 0.95))
@settings(max_examples=100, deadline=None)
def test_corrected_radius_keeps_exactly_the_overlap_asked_for(height, width, overlap):
    radius = float(gaussian_radius(height, width, overlap, variant="corrected"))
    worst = min(iou_of_moved(height, width, radius, kind) for kind in ("shift", "shrink", "grow"))
    assert worst == pytest.approx(overlap, abs=1e-6)


def test_official_radius_is_not_smaller_than_the_corrected_one():
    sizes = torch.linspace(1, 128, 50)
    official = gaussian_radius(sizes[:, None], sizes)
    assert official.shape == (50, 50)
    assert (official >= gaussian_radius(sizes[:, None], sizes, variant="corrected") - 1e-9).all()


def test_unknown_variant_is_named():
    with pytest.raises(ValueError, match="'best' is unknown; use 'official' or 'corrected'"):
        gaussian_radius(3, 3, variant="best")  # type: ignore[arg-type]


@pytest.mark.golden
def test_radius_equals_the_reference(golden):
    for file in sorted(golden.glob("gaussian*.npz")):
        data = np.load(file)
        height, width = torch.from_numpy(data["hw"]).T
        overlap = float(data["min_overlap"])
        np.testing.assert_allclose(gaussian_radius(height, width, overlap), data["radius"], rtol=1e-12)
        np.testing.assert_allclose(gaussian_radius(height, width, 0.5), data["radius_ov05"], rtol=1e-12)


@pytest.mark.golden
def test_single_gaussians_equal_the_reference(golden):
    for file in sorted(golden.glob("gaussian*.npz")):
        data = np.load(file)
        single = data["draw_single"]
        rows = [
            (i, *xy, radius, 0, True)
            for i, (xy, radius) in enumerate(zip(data["draw_center_xy"], data["draw_radius"], strict=True))
        ]
        drawn = draw_gaussians(peaks_of(rows), (len(single), 1, *single.shape[1:]))
        np.testing.assert_allclose(drawn[:, 0], single, atol=1e-6)


@pytest.mark.golden
def test_overlapping_gaussians_equal_the_reference(golden):
    for file in sorted(golden.glob("gaussian*.npz")):
        data = np.load(file)
        for prefix in sorted(
            {key[:-3] for key in data.files if key.startswith("overlap") and key.endswith("_xy")}
        ):
            centres, radii, heights = (data[f"{prefix}_{key}"] for key in ("xy", "radius", "k"))
            canvas = data[f"{prefix}_hm"]
            if (heights == 1).all():
                rows = [(0, *xy, r, 0, True) for xy, r in zip(centres, radii, strict=True)]
                drawn = draw_gaussians(peaks_of(rows), (1, 1, *canvas.shape))[0, 0]
            else:  # ours all have the same height: scale each on a map of its own
                rows = [(i, *xy, r, 0, True) for i, (xy, r) in enumerate(zip(centres, radii, strict=True))]
                alone = draw_gaussians(peaks_of(rows), (len(rows), 1, *canvas.shape))[:, 0]
                drawn = (alone * torch.from_numpy(heights).float()[:, None, None]).amax(0)
            np.testing.assert_allclose(drawn, canvas, atol=1e-6)


row_strategy = st.tuples(
    st.integers(0, 1),
    st.floats(-6, 26, width=32),
    st.floats(-6, 22, width=32),
    st.integers(0, 9),
    st.integers(0, 2),
    st.booleans(),
)


@given(st.lists(row_strategy, min_size=1, max_size=12))
@settings(max_examples=60, deadline=None)
def test_draw_gaussians_equals_a_plain_loop(rows):
    shape = (2, 3, 17, 21)
    np.testing.assert_allclose(draw_gaussians(peaks_of(rows), shape), slow_gaussians(rows, shape), atol=1e-6)


def test_draw_gaussians_of_nothing_is_zero():
    empty = Peaks.of(np.zeros((0, 2)), np.zeros(0), np.zeros(0))
    assert draw_gaussians(empty, (2, 3, 5, 7)).shape == (2, 3, 5, 7)
    assert not draw_gaussians(empty, (2, 3, 5, 7)).any()


def test_only_positive_peaks_reach_one():
    drawn = draw_gaussians(peaks_of([(0, 3.5, 3.5, 2, 0, True), (0, 9.0, 3.0, 2, 0, False)]), (1, 1, 8, 12))[
        0, 0
    ]
    assert drawn[3, 3] == 1
    assert drawn[3, 9] == pytest.approx(SOFT_PEAK)
    assert (drawn == 1).sum() == 1


def test_a_positive_wins_over_a_soft_peak_on_the_same_cell():
    rows = [(0, 3, 3, 2, 0, True), (0, 3, 3, 2, 0, False)]
    assert draw_gaussians(peaks_of(rows), (1, 1, 8, 8))[0, 0, 3, 3] == 1
    assert draw_gaussians(peaks_of(rows[::-1]), (1, 1, 8, 8))[0, 0, 3, 3] == 1
