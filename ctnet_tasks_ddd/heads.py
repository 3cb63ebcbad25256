"""The heads of ddd: values (optionally averaged as in the released code), depth, and rotation in two bins."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ctnet.plugin import CellTargets, Loss, Regression, Target, constant, full_precision, l1_loss

#: The released code's value; avoids division by zero.
_EPSILON = 1e-6

#: The centres of the two bins, rad. Each extends 30 degrees beyond its half of the circle at both ends.
BIN_MIDDLES = (-math.pi / 2, math.pi / 2)
_OVERLAP = math.pi / 6

#: Channels of a bin: logits of "outside" and "inside", sine and cosine of the angle from its centre.
_OF_BIN = 4


@dataclass(frozen=True)
class Values(Regression):
    """Values at the objects' cells, trained with L1.

    Attributes:
        slots: 0: the loss is averaged over the weighted values (the paper's mean). Otherwise it is averaged
            over this many objects per image, regardless of their actual number, as in the released code.
    """

    slots: int = 0

    def loss(self, predicted: Tensor, target: Target) -> Loss:
        assert isinstance(target, CellTargets)
        total, count = l1_loss(self.activate(predicted), target.value, target.weight)
        if self.slots:
            count = count.new_full((), self.slots * target.images * self.channels)
        return Loss(total, count)


@dataclass(frozen=True)
class Depth(Values):
    """Depth in metres: 1 / sigmoid - 1 of the raw value (section 4.1).

    An untrained network predicts about 20 m, the middle of KITTI's range. With the released code's bias of 0,
    which is 1 m, the gradient is tiny at first and then overshoots.
    """

    bias: float = -3.0

    def activate(self, raw: Tensor) -> Tensor:
        return 1 / (full_precision(raw).sigmoid() + _EPSILON) - 1


@dataclass(frozen=True)
class Distances(Values):
    """Distances of a box's left, top, right and bottom side from a point inside (or outside) it, cells."""

    def mirror(self, activated: Tensor) -> Tensor | None:
        return activated.flip(-1)[:, [2, 1, 0, 3]]


@dataclass(frozen=True)
class Rotation(Regression):
    """The observation angle in two overlapping bins (appendix B).

    Channels, for either bin: logits of "outside" and "inside", sine and cosine of the angle from its centre.
    Targets have the same channels, 1 for the logit that should be high; sine and cosine have weight in the
    bins that contain the angle.
    """

    def loss(self, predicted: Tensor, target: Target) -> Loss:
        assert isinstance(target, CellTargets)
        return rotation_loss(predicted, target)

    def soften(self, target: Target, seen: Tensor, share: float) -> Target:
        """As it is: which bins contain the angle is a yes or no."""
        return target

    def mirror(self, activated: Tensor) -> Tensor | None:
        # alpha becomes pi - alpha: the angle from either centre changes its sign.
        sign = constant([1, 1, -1, 1] * len(BIN_MIDDLES), activated)
        return activated.flip(-1) * sign[:, None, None]


def rotation_values(alpha: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Targets of the rotation head.

    Args:
        alpha: (N,), observation angle, rad in [-pi, pi].

    Returns:
        Values and weights, (N, 8) float32 each.
    """
    values, weights = [], []
    for mid in BIN_MIDDLES:
        side = math.copysign(1, mid) * alpha
        inside = ((side > -_OVERLAP) | (side < _OVERLAP - math.pi)).astype(np.float32)
        always = np.ones_like(inside)
        values += [1 - inside, inside, np.sin(alpha - mid) * inside, np.cos(alpha - mid) * inside]
        weights += [always, always, inside, inside]
    return np.stack(values, axis=1).astype(np.float32), np.stack(weights, axis=1)


def angle_of(rotation: Tensor) -> Tensor:
    """The observation angle (...,), rad in [-pi, pi), from the rotation head's channels (..., 8).

    The bin with the higher logit "inside" is used, on ties the second one, as in the released code.

    Source: appendix B.
    """
    angles = [
        torch.atan2(rotation[..., first + 2], rotation[..., first + 3]) + mid
        for first, mid in zip((0, _OF_BIN), BIN_MIDDLES, strict=True)
    ]
    chosen = torch.where(rotation[..., 1] > rotation[..., _OF_BIN + 1], angles[0], angles[1])
    turns = torch.floor((chosen + math.pi) / (2 * math.pi))
    return chosen - turns * (2 * math.pi)


def rotation_loss(output: Tensor, target: CellTargets) -> Loss:
    """Cross-entropy of both bins, and L1 of sine and cosine in the bins that contain the angle.

    Args:
        output: (N, 8), see ``Rotation``.
        target: target of the same N objects.

    Returns:
        Their sum over bins and objects, and the number of objects.

    Source: equation 7.
    """
    output = full_precision(output)
    value, weight = target.value.to(output.dtype), target.weight.to(output.dtype)
    of_turn = _of_turns((output - value).abs() * weight)
    return Loss(_of_bins(output, value, weight).sum() + of_turn.sum(), weight[:, 1].sum())


def released_rotation_losses(output: Tensor, target: CellTargets, slots: int) -> dict[str, Loss]:
    """The released code's form of ``rotation_loss``: a sum of three means with a count each.

    The cross-entropy is a mean over all slots, where every empty one adds log 2; sine and cosine have a
    smooth L1 loss, averaged over the objects of each bin.

    Args:
        output: (N, 8), see ``Rotation``.
        target: target of the same N objects.
        slots: slots for objects per image.
    """
    output = full_precision(output)
    value, weight = target.value.to(output.dtype), target.weight.to(output.dtype)
    room = weight.new_full((), slots * target.images)
    empty = len(BIN_MIDDLES) * room - weight[:, 1::_OF_BIN].sum()
    losses = {"rotation_bins": Loss(_of_bins(output, value, weight).sum() + empty * math.log(2), room)}
    of_turn = _of_turns(functional.smooth_l1_loss(output, value, reduction="none") * weight)
    members = _of_turns(weight)[..., 0].sum(dim=0)
    return losses | {
        name: Loss(of_turn[:, number].sum(), members[number])
        for number, name in enumerate(("rotation_first", "rotation_second"))
    }


def _of_bins(output: Tensor, value: Tensor, weight: Tensor) -> Tensor:
    """(N, 2): cross-entropy of each bin's logits, times its weight."""
    counts = weight[:, 1::_OF_BIN]
    logits = output.reshape(len(output), len(BIN_MIDDLES), _OF_BIN)[..., :2]
    inside = value[:, 1::_OF_BIN].flatten().long()
    return functional.cross_entropy(logits.flatten(0, 1), inside, reduction="none").view_as(counts) * counts


def _of_turns(columns: Tensor) -> Tensor:
    """(N, 2, 2): the columns of sine and cosine of each bin."""
    return columns.reshape(len(columns), len(BIN_MIDDLES), _OF_BIN)[..., 2:]
