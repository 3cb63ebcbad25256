"""Losses of values read at single pixels: sums over (M, D) entries, and the counts that they are divided by.

All are computed in the output's dtype, or float32 for half precision.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from ctnet.heatmap.precision import full_precision

#: Avoids division by zero; the released code's value.
_EPSILON = 1e-4


def l1_loss(output: Tensor, value: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Weighted sum of absolute differences.

    Args:
        output, value, weight: (M, D).

    Returns:
        Two scalars: the sum, and the sum of weights.

    Source: equations 2 and 3; the count is the number of components, not of objects, as in the released code.
    """
    output = full_precision(output)
    value, weight = value.to(output.dtype), weight.to(output.dtype)
    return ((output - value).abs() * weight).sum(), weight.sum()


def smooth_l1_loss(output: Tensor, value: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Smooth L1 (quadratic below 1), summed over components.

    Args:
        output, value, weight: (M, D).

    Returns:
        Two scalars: the sum, and the number of rows, each counting with the mean of its weights.

    Source: the released code's alternative to L1 (its divisor counts objects, not components).
    """
    output = full_precision(output)
    value, weight = value.to(output.dtype), weight.to(output.dtype)
    total = functional.smooth_l1_loss(output * weight, value * weight, reduction="sum")
    return total, weight.sum() / weight.shape[1]


def normalized_l1_loss(output: Tensor, value: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """L1 of output / value against 1: errors relative to the size.

    Args:
        output, value, weight: (M, D).

    Returns:
        As ``l1_loss``.

    Source: the released code's option for sizes.
    """
    output = full_precision(output)
    value = value.to(output.dtype)
    return l1_loss(output / (value + _EPSILON), value.new_ones(()).expand_as(value), weight)


def concentric_giou_loss(output: Tensor, value: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """1 - GIoU of two boxes that share their centre, from their sizes alone.

    A negative size has no area: it is taken as 0, and its magnitude is added so that a gradient pushes it
    back above 0.

    Args:
        output: (M, D) with D = 2 n: n pairs (width, height), grid units.
        value: (M, D), the true sizes.
        weight: (M, D); a pair counts with the mean of its two weights.

    Returns:
        Two scalars: the weighted sum over pairs, and the sum of their weights.

    Source: Rezatofighi et al. 2019, generalised intersection over union.
    """
    output = full_precision(output)
    pairs = (len(output), output.shape[1] // 2, 2)
    size, true_size = output.reshape(pairs), value.to(output.dtype).reshape(pairs)
    negative = (-size).clamp(min=0).sum(-1)
    size = size.clamp(min=0)
    overlap = size.minimum(true_size).prod(-1)
    union = size.prod(-1) + true_size.prod(-1) - overlap
    hull = size.maximum(true_size).prod(-1)
    giou = overlap / (union + _EPSILON) - (hull - union) / (hull + _EPSILON)
    pair_weight = weight.to(output.dtype).reshape(pairs).mean(-1)
    return ((1 - giou + negative) * pair_weight).sum(), pair_weight.sum()


def box_iou_loss(
    output: Tensor, value: Tensor, weight: Tensor, kind: Literal["giou", "ciou"] = "giou"
) -> tuple[Tensor, Tensor]:
    """1 - GIoU (or CIoU) of two boxes that are given by their distances from a common point.

    A box whose right edge is left of its left one (or whose lower edge is above its upper one) has no area:
    the gap is added, so that a gradient closes it.

    Args:
        output: (M, 4), distances to the left, upper, right and lower edge, grid units; negative ones are
            possible, where the point lies outside the box.
        value: (M, 4), the true ones.
        weight: (M, 4); a box counts with the mean of its weights.
        kind: "giou" or "ciou".

    Returns:
        Two scalars: the weighted sum over boxes, and the sum of their weights.

    Source: Rezatofighi et al. 2019 (GIoU); Zheng et al. 2020, equations 8 to 11 (CIoU).
    """
    output = full_precision(output)
    value, weight = value.to(output.dtype), weight.to(output.dtype).mean(-1)
    extent, true_extent = output[:, :2] + output[:, 2:], value[:, :2] + value[:, 2:]
    gap, size = (-extent).clamp(min=0).sum(-1), extent.clamp(min=0)
    shared = output.minimum(value)
    overlap = (shared[:, :2] + shared[:, 2:]).clamp(min=0).prod(-1)
    union = size.prod(-1) + true_extent.prod(-1) - overlap
    iou = overlap / (union + _EPSILON)
    outer = output.maximum(value)
    hull = (outer[:, :2] + outer[:, 2:]).maximum(true_extent)
    if kind == "giou":
        area = hull.prod(-1)
        quality = iou - (area - union) / (area + _EPSILON)
    else:
        away = ((output[:, 2:] - output[:, :2]) - (value[:, 2:] - value[:, :2])) / 2
        shape = _aspect(true_extent) - _aspect(size)
        difference = (4 / math.pi**2) * shape.square()
        with torch.no_grad():
            share = difference / (1 - iou + difference + _EPSILON)
        quality = iou - away.square().sum(-1) / (hull.square().sum(-1) + _EPSILON) - share * difference
    return ((1 - quality + gap) * weight).sum(), weight.sum()


def _aspect(size: Tensor) -> Tensor:
    """The angle of a box's diagonal, (M,), for (M, 2) sizes."""
    return torch.atan(size[:, 0] / (size[:, 1] + _EPSILON))
