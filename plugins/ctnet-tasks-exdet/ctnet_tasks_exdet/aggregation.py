"""Edge aggregation: the score of a straight edge is spread over many cells, which are summed."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def aggregate(heatmap: Tensor, dim: int, weight: float) -> Tensor:
    """Add to every cell a fraction of the cells on both sides from which the heatmap rises to it.

    Args:
        heatmap: (B, C, H, W) of non-negative values.
        dim: dimension of the edge: 3 for top and bottom, 2 for left and right.
        weight: the fraction.

    Returns:
        (B, C, H, W), values may exceed 1.

    Source: ExtremeNet, section 4.4; the released code sums each cell's whole monotonic run.
    """
    rising = climbing_sum(heatmap, dim)
    falling = climbing_sum(heatmap.flip(dim), dim).flip(dim)
    return heatmap + weight * (rising + falling)


def climbing_sum(heatmap: Tensor, dim: int) -> Tensor:
    """For every cell, the sum of the non-decreasing run of cells before it.

    A scan in steps of 1, 2, 4, ...: after each, a cell knows the sum of twice as many cells before it, and
    whether its run began among them.
    """
    along = heatmap.transpose(dim, 3)
    length = along.shape[3]
    before = functional.pad(along, (1, 0))[..., :length]
    climbs = along >= before
    # The first cell has none before it: its run begins there, regardless of the padding.
    unbroken = functional.pad(climbs[..., 1:].to(along.dtype), (1, 0))
    total, step = along, 1
    while step < length:
        total = total + unbroken * functional.pad(total, (step, 0))[..., :length]
        unbroken = unbroken * functional.pad(unbroken, (step, 0))[..., :length]
        step *= 2
    return (total - along).transpose(dim, 3)
