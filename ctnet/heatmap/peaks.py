"""Peaks of heatmaps, and reading dense maps at them."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional


class FoundPeaks(NamedTuple):
    """The k highest peaks of each image, best first; all tensors (B, k)."""

    score: Tensor  #: float, the heatmap's value
    channel: Tensor  #: int64
    x: Tensor  #: int64, pixel column
    y: Tensor  #: int64, pixel row

    @property
    def cells(self) -> Tensor:
        """(B, k, 2) int64, (x, y)."""
        return torch.stack([self.x, self.y], dim=2)


def suppress_non_peaks(heatmap: Tensor) -> Tensor:
    """Keep the cells that are a maximum of their 3x3 window; set the rest to 0.

    Args:
        heatmap: (B, C, H, W) of non-negative values.

    Source: section 3, "from points to bounding boxes".
    """
    return torch.where(heatmap == _highest_around(heatmap), heatmap, 0.0)


def _highest_around(heatmap: Tensor) -> Tensor:
    """The largest value of each cell's 3x3 window, cut at the map's border.

    Rows, then columns, of shifted maps: the same as ``max_pool2d``, whose CPU kernel uses no vector
    instructions; this takes a tenth of the time.
    """
    padded = functional.pad(heatmap, (1, 1, 1, 1), value=-torch.inf)
    columns = padded[..., :-2, :].maximum(padded[..., 2:, :]).maximum(padded[..., 1:-1, :])
    return columns[..., :-2].maximum(columns[..., 2:]).maximum(columns[..., 1:-1])


def find_peaks(heatmap: Tensor, k: int) -> FoundPeaks:
    """The k highest 3x3 peaks over all channels of each image.

    Where an image has fewer than k peaks, the remaining rows have score 0. Where the whole map has fewer than
    k cells, there are as many rows as cells.

    Args:
        heatmap: (B, C, H, W), probabilities.
        k: rows wanted per image.

    Source: section 3, "from points to bounding boxes".
    """
    _, channels, height, width = heatmap.shape
    # The best k of each channel first: the final choice then sorts C x k values rather than C x H x W.
    per_channel, cell = suppress_non_peaks(heatmap).flatten(2).topk(min(k, height * width), dim=2)
    score, position = per_channel.flatten(1).topk(min(k, channels * height * width), dim=1)
    channel = torch.div(position, per_channel.shape[2], rounding_mode="floor")
    cell = cell.flatten(1).gather(1, position)
    y = torch.div(cell, width, rounding_mode="floor")
    return FoundPeaks(score, channel, cell - y * width, y)


def gather(maps: Tensor, peaks: FoundPeaks) -> Tensor:
    """Read a dense map at peaks.

    Args:
        maps: (B, D, H, W).
        peaks: k peaks per image.

    Returns:
        (B, k, D).
    """
    index = (peaks.y * maps.shape[3] + peaks.x).unsqueeze(1).expand(-1, maps.shape[1], -1)
    return maps.flatten(2).gather(2, index).transpose(1, 2)


def locate(peaks: FoundPeaks, offset: Tensor | None) -> Tensor:
    """Positions of the peaks' points on the grid: (B, k, 2), (x, y).

    Args:
        peaks: k peaks per image.
        offset: (B, 2, H, W), of a point within its cell; None: the middle of the cell.
    """
    return peaks.cells + (0.5 if offset is None else gather(offset, peaks))
