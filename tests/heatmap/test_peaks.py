from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from ctnet.heatmap import find_peaks, gather, locate, suppress_non_peaks


def slow_peaks(heatmap: np.ndarray, k: int) -> list[tuple]:
    """All 3x3 maxima of one image as (score, channel, x, y), best first, at most k."""
    found = []
    channels, height, width = heatmap.shape
    for c in range(channels):
        for y in range(height):
            for x in range(width):
                window = heatmap[c, max(0, y - 1) : y + 2, max(0, x - 1) : x + 2]
                if heatmap[c, y, x] == window.max():
                    found.append((float(heatmap[c, y, x]), c, x, y))
    return sorted(found, reverse=True)[:k]


def test_peaks_equal_a_plain_search():
    maps = torch.rand(3, 4, 11, 13, generator=torch.Generator().manual_seed(0))
    found = find_peaks(maps, 20)
    for image in range(3):
        rows = [tuple(float(column[image, i]) for column in found) for i in range(20)]
        assert rows == [tuple(map(float, row)) for row in slow_peaks(maps[image].numpy(), 20)]


def test_rows_beyond_the_peaks_have_score_zero():
    maps = torch.zeros(1, 2, 6, 6)
    maps[0, 1, 2, 3] = 0.7
    found = find_peaks(maps, 5)
    assert found.score.tolist()[0] == pytest.approx([0.7, 0, 0, 0, 0])
    assert (found.channel[0, 0], found.x[0, 0], found.y[0, 0]) == (1, 3, 2)


def test_a_map_smaller_than_k_gives_as_many_rows_as_cells():
    assert find_peaks(torch.rand(2, 1, 2, 3), 100).score.shape == (2, 6)


def test_non_contiguous_maps_give_the_same_peaks():
    maps = torch.rand(2, 3, 9, 7, generator=torch.Generator().manual_seed(1))
    for one, other in zip(
        find_peaks(maps, 9), find_peaks(maps.to(memory_format=torch.channels_last), 9), strict=True
    ):
        assert torch.equal(one, other)


def test_gather_reads_the_map_at_each_peak():
    maps = torch.rand(2, 1, 8, 9, generator=torch.Generator().manual_seed(2))
    values = torch.rand(2, 5, 8, 9, generator=torch.Generator().manual_seed(3))
    found = find_peaks(maps, 4)
    read = gather(values, found)
    for image in range(2):
        for i in range(4):
            assert torch.equal(read[image, i], values[image, :, found.y[image, i], found.x[image, i]])


@pytest.mark.golden
def test_peak_filter_equals_the_reference(golden):
    for file in sorted(golden.glob("decode_ctdet*.npz")):
        data = np.load(file)
        np.testing.assert_array_equal(suppress_non_peaks(torch.from_numpy(data["hm"])), data["nms_hm"])


def test_points_lie_in_their_cells_where_the_offset_map_says() -> None:
    maps = torch.rand(2, 3, 6, 7)
    offset = torch.rand(2, 2, 6, 7)
    found = find_peaks(maps, 4)
    assert found.cells.dtype == torch.int64
    torch.testing.assert_close(locate(found, None), found.cells + 0.5)
    points = locate(found, offset)
    for image, row in itertools.product(range(2), range(4)):
        x, y = found.cells[image, row].tolist()
        torch.testing.assert_close(points[image, row], offset[image, :, y, x] + torch.tensor([x, y]))
