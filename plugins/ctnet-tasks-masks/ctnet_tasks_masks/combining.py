"""How an object's coefficients and the map that all objects share make its mask."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

#: Cells per unit of the coordinates that convolutions see.
_UNIT = 16.0

_HIDDEN = 8


class Combination(Protocol):
    """Coefficients and map make logits.

    Attributes:
        channels: channels of the map.
        coefficients: coefficients of an object.
    """

    channels: int
    coefficients: int

    def logits(self, code: Tensor, values: Tensor, away: Tensor) -> Tensor:
        """Logits (..., M) of places of objects.

        Args:
            code: (..., coefficients) of each object.
            values: (..., channels, M), the map at the places.
            away: (..., 2, M), (x, y) of the places from the object's peak, cells.
        """
        ...

    def one_of(self, channel: Tensor) -> Tensor:
        """(N, coefficients) that read one channel (N,) of the map as logits."""
        ...


class Prototypes:
    """Logits are sums of the map's channels, the prototypes, weighted by the coefficients.

    Source: Bolya et al., YOLACT, 2019, section 3.2.
    """

    def __init__(self, channels: int) -> None:
        self.channels, self.coefficients = channels, channels + 1

    def logits(self, code: Tensor, values: Tensor, away: Tensor) -> Tensor:
        """See ``Combination``; the last coefficient is a constant."""
        return (code[..., None, :-1] @ values).squeeze(-2) + code[..., -1:]

    def one_of(self, channel: Tensor) -> Tensor:
        """See ``Combination``."""
        return torch.eye(self.channels, self.coefficients)[channel]


class Convolutions:
    """Coefficients are the weights of a small network that sees map and relative coordinates.

    Source: Tian et al., Conditional Convolutions for Instance Segmentation, 2020, section 2.2.
    """

    def __init__(self, channels: int) -> None:
        self.channels = channels
        self._shapes = ((channels + 2, _HIDDEN), (_HIDDEN, _HIDDEN), (_HIDDEN, 1))
        self.coefficients = sum(inputs * outputs + outputs for inputs, outputs in self._shapes)

    def logits(self, code: Tensor, values: Tensor, away: Tensor) -> Tensor:
        """See ``Combination``."""
        hidden = torch.cat([values, away / _UNIT], dim=-2)
        start = 0
        for number, (inputs, outputs) in enumerate(self._shapes):
            end = start + inputs * outputs
            weight = code[..., start:end].reshape(*code.shape[:-1], outputs, inputs)
            bias = code[..., end : end + outputs]
            hidden = weight @ (hidden.relu() if number else hidden) + bias[..., None]
            start = end + outputs
        return hidden.squeeze(-2)

    def one_of(self, channel: Tensor) -> Tensor:
        """See ``Combination``."""
        layers = [torch.zeros(len(channel), outputs, inputs) for inputs, outputs in self._shapes]
        rows = torch.arange(len(channel))
        layers[0][rows, 0, channel], layers[0][rows, 1, channel] = 1, -1  # both signs pass the ReLU
        layers[1][:, 0, 0] = layers[1][:, 1, 1] = 1
        layers[2][:, 0, 0], layers[2][:, 0, 1] = 1, -1
        return torch.cat([torch.cat([one.flatten(1), one.new_zeros(one.shape[:2])], 1) for one in layers], 1)
