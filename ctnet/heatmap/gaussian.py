"""Gaussian peaks: their radius, and drawing them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

import torch
from torch import Tensor

RadiusVariant = Literal["official", "corrected"]

#: Peak value of a point that reduces the penalty around it without being a positive.
SOFT_PEAK = 0.9999


class PeakRows(Protocol):
    """The columns that ``draw_gaussians`` reads; ``ctnet.core.targets.Peaks`` has them."""

    @property
    def batch(self) -> Tensor: ...
    @property
    def x(self) -> Tensor: ...
    @property
    def y(self) -> Tensor: ...
    @property
    def radius(self) -> Tensor: ...
    @property
    def channel(self) -> Tensor: ...
    @property
    def positive(self) -> Tensor: ...
    @property
    def cells(self) -> int: ...


def gaussian_radius(
    height: Tensor | float,
    width: Tensor | float,
    min_overlap: float = 0.7,
    variant: RadiusVariant = "official",
) -> Tensor:
    """Radius by which both corners may move and still give a box of IoU ``min_overlap`` with the object's.

    Args:
        height, width: box size in cells of the output grid, any broadcastable shapes.
        min_overlap: the IoU to keep.
        variant: "official" is the authors' released code, whose quadratic formula divides by 2 instead of
            2a (the published numbers come from it); "corrected" takes the true root of each case and gives
            a smaller radius.

    Returns:
        The radius in cells, float64, of the broadcast shape.

    Source: section 3, "object size-adaptive standard deviation", as in CornerNet.
    """
    height = torch.as_tensor(height, dtype=torch.float64)
    width = torch.as_tensor(width, dtype=torch.float64)
    area, perimeter_half = height * width, height + width
    # a r^2 + b r + c = 0 for: one corner in and one out; both corners inside; both corners outside.
    cases = (
        (1.0, -perimeter_half, area * (1 - min_overlap) / (1 + min_overlap)),
        (4.0, -2 * perimeter_half, (1 - min_overlap) * area),
        (4.0 * min_overlap, 2 * min_overlap * perimeter_half, (min_overlap - 1) * area),
    )
    roots = [_root(a, b, c, variant) for a, b, c in cases]
    return torch.minimum(torch.minimum(roots[0], roots[1]), roots[2])


def _root(a: float, b: Tensor, c: Tensor, variant: RadiusVariant) -> Tensor:
    discriminant = (b * b - 4 * a * c).clamp(min=0).sqrt()
    if variant == "official":
        return (-b + discriminant) / 2
    if variant == "corrected":
        # The smallest positive root: for b < 0 the lower one, for b > 0 (c <= 0) the upper one.
        return torch.where(b < 0, -b - discriminant, -b + discriminant) / (2 * a)
    raise ValueError(f"radius variant {variant!r} is unknown; use 'official' or 'corrected'")


def draw_gaussians(peaks: PeakRows, shape: Sequence[int], dtype: torch.dtype = torch.float32) -> Tensor:
    """Draw the Gaussians of a whole batch in one call; where they overlap the larger value stays.

    Each row draws exp(-d^2 / (2 sigma^2)) with sigma = (2 radius + 1) / 6 in the square of its radius
    around its pixel (the integer part of its point), cut at the map's border. A row that is not
    ``positive`` reaches ``SOFT_PEAK`` instead of 1 at its pixel.

    Args:
        peaks: N rows on any device; the map is created there.
        shape: (B, C, H, W) of the map.

    Returns:
        (B, C, H, W), values in [0, 1], exactly 1 only at the pixels of positive peaks.

    Source: section 3 of the paper; sigma as in the released code.
    """
    batch, channels, height, width = shape
    device = peaks.x.device
    count = (2 * peaks.radius + 1) ** 2
    row = torch.repeat_interleave(
        torch.arange(len(peaks.x), device=device), count, output_size=int(peaks.cells)
    )
    first = torch.cumsum(count, 0) - count
    cell = torch.arange(int(peaks.cells), device=device) - first[row]
    radius = peaks.radius[row]
    diameter = 2 * radius + 1
    step_y = torch.div(cell, diameter, rounding_mode="floor")
    dx, dy = cell - step_y * diameter - radius, step_y - radius
    sigma = diameter.to(torch.float32) / 6
    value = torch.exp(-(dx * dx + dy * dy) / (2 * sigma * sigma))
    value = torch.where((cell == count[row] // 2) & ~peaks.positive[row], SOFT_PEAK, value)

    x, y = peaks.x.floor().long()[row] + dx, peaks.y.floor().long()[row] + dy
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    # Cells outside go to pixel 0 with value 0: no boolean indexing, hence no wait for the device.
    index = ((peaks.batch[row] * channels + peaks.channel[row]) * height + y) * width + x
    canvas = torch.zeros(batch * channels * height * width, dtype=torch.float32, device=device)
    canvas.scatter_reduce_(0, torch.where(inside, index, 0), torch.where(inside, value, 0.0), "amax")
    return canvas.view(batch, channels, height, width).to(dtype)
