"""Losses of values read at single pixels. Each sums over (M, D) entries and divides by what counts."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

#: Keeps the division defined when nothing counts; the released code's value.
_EPSILON = 1e-4


def l1_loss(output: Tensor, value: Tensor, weight: Tensor) -> Tensor:
    """Weighted mean of absolute differences; 0 when no weight counts.

    Args:
        output, value, weight: (M, D).

    Source: equations 2 and 3; the mean over components, not objects, as in the released code.
    """
    return ((output - value).abs() * weight).sum() / (weight.sum() + _EPSILON)


def smooth_l1_loss(output: Tensor, value: Tensor, weight: Tensor) -> Tensor:
    """Smooth L1 (quadratic below 1), summed over the D components and averaged over the M rows.

    Args:
        output, value, weight: (M, D).

    Source: the released code's alternative to L1 (its divisor counts objects, not components).
    """
    loss = functional.smooth_l1_loss(output * weight, value * weight, reduction="sum")
    return loss * weight.shape[1] / (weight.sum() + _EPSILON * weight.shape[1])


def normalized_l1_loss(output: Tensor, value: Tensor, weight: Tensor) -> Tensor:
    """L1 of output / value against 1: errors relative to the size.

    Args:
        output, value, weight: (M, D).

    Source: the released code's option for sizes.
    """
    return l1_loss(output / (value + _EPSILON), value.new_ones(()).expand_as(value), weight)


def concentric_giou_loss(output: Tensor, value: Tensor, weight: Tensor) -> Tensor:
    """1 - GIoU of two boxes that share their centre, from their sizes alone.

    A negative size has no area: it is taken as 0, and its magnitude is added so that a gradient leads back.

    Args:
        output: (M, D) with D = 2 n: n pairs (width, height), grid units.
        value: (M, D), the true sizes.
        weight: (M, D); a pair counts with the mean of its two weights.

    Source: Rezatofighi et al. 2019, generalised intersection over union.
    """
    pairs = (len(output), output.shape[1] // 2, 2)
    size, true_size = output.reshape(pairs), value.reshape(pairs)
    negative = (-size).clamp(min=0).sum(-1)
    size = size.clamp(min=0)
    overlap = size.minimum(true_size).prod(-1)
    union = size.prod(-1) + true_size.prod(-1) - overlap
    hull = size.maximum(true_size).prod(-1)
    giou = overlap / (union + _EPSILON) - (hull - union) / (hull + _EPSILON)
    pair_weight = weight.reshape(pairs).mean(-1)
    loss: Tensor = ((1 - giou + negative) * pair_weight).sum() / (pair_weight.sum() + _EPSILON)
    return loss
