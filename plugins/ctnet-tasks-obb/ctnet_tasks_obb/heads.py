"""The angle head: encoding and decoding of a rectangle's direction."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ctnet.plugin import Regression, constant
from ctnet_tasks_obb.boxes import Rectangles


@dataclass(frozen=True)
class AngleValues(Regression):
    """cos 2t, sin 2t, cos 4t, sin 4t of the angle t of a rectangle's long side."""

    def mirror(self, activated: Tensor) -> Tensor | None:
        # t becomes -t: the cosines are unchanged, the sines change sign.
        sign = constant([1, -1, 1, -1], activated)
        return activated.flip(-1) * sign[:, None, None]


def angle_values(boxes: Rectangles) -> tuple[np.ndarray, np.ndarray]:
    """Targets of the angle head.

    The first pair is weighted by the elongation of a rectangle. The longer side of a square is arbitrary, so
    its weight is 0, and nothing depends on it.

    Returns:
        Values and weights, (N, 4) float32 each.
    """
    half, quarter = boxes.axis**2, boxes.axis**4
    values = np.stack([half.real, half.imag, quarter.real, quarter.imag], axis=1)
    length, breadth = boxes.size.T
    longer = 1 - breadth / np.maximum(length, 1e-6)
    weights = np.stack([longer, longer, np.ones_like(longer), np.ones_like(longer)], axis=1)
    return values.astype(np.float32), weights.astype(np.float32)


def angle_of(values: Tensor) -> Tensor:
    """The angle (...,), rad, from the angle head's channels (..., 4).

    The second pair gives the direction of the sides, the first which of them is the long one.
    """
    side = torch.atan2(values[..., 3], values[..., 2]) / 4
    agreement = values[..., 0] * torch.cos(2 * side) + values[..., 1] * torch.sin(2 * side)
    return torch.where(agreement >= 0, side, side + math.pi / 2)
