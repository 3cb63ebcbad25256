"""How an object's coefficients and the map that all objects share make its mask.

The channels of the map are prototypes, which have no meaning of their own: the logits of a mask are their
sum, weighted by the coefficients.

Source: Bolya et al., YOLACT: Real-time Instance Segmentation, 2019, section 3.2.
"""

from __future__ import annotations

import torch
from torch import Tensor


def coefficients(channels: int) -> int:
    """Number of coefficients of an object: one for each prototype, and a constant."""
    return channels + 1


def logits_of(code: Tensor, values: Tensor) -> Tensor:
    """Logits (..., M) of places of objects.

    Args:
        code: (..., channels + 1), coefficients of each object.
        values: (..., channels, M), the map at the places.
    """
    return (code[..., None, :-1] @ values).squeeze(-2) + code[..., -1:]


def reading_one(channel: Tensor, channels: int) -> Tensor:
    """Coefficients (N, channels + 1) for masks that are each shown in a channel (N,) of the map."""
    return torch.eye(channels, coefficients(channels))[channel]
