"""Tensors of several shapes and dtypes as the bytes of one, which a GPU is sent in one copy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod

import torch
from torch import Tensor
from typing_extensions import Self

#: Every tensor begins at a multiple of this many bytes, as compiled code expects.
_ALIGNMENT = 16


@dataclass(frozen=True)
class Joined:
    """Tensors in one.

    Attributes:
        data: (N,) uint8, their bytes.
        parts: position of the first byte, dtype and shape of every tensor.
    """

    data: Tensor
    parts: Sequence[tuple[int, torch.dtype, tuple[int, ...]]]

    @classmethod
    def of(cls, tensors: Sequence[Tensor]) -> Joined:
        """Copy tensors of one device into one."""
        parts, end = [], 0
        for tensor in tensors:
            parts.append((end, tensor.dtype, tuple(tensor.shape)))
            end += -(-tensor.numel() * tensor.element_size() // _ALIGNMENT) * _ALIGNMENT
        joined = cls(
            torch.zeros(end, dtype=torch.uint8, device=tensors[0].device if tensors else None), parts
        )
        for place, tensor in zip(joined.tensors(), tensors, strict=True):
            place.copy_(tensor)
        return joined

    def pin_memory(self) -> Self:
        """The same in page-locked memory, from which a GPU copies asynchronously."""
        return replace(self, data=self.data.pin_memory())

    def to(self, device: torch.device) -> Self:
        """The same on another device, copied asynchronously from page-locked memory."""
        return replace(self, data=self.data.to(device, non_blocking=True))

    def tensors(self) -> list[Tensor]:
        """The tensors again, as views of ``data``."""
        return [
            self.data[start : start + prod(shape) * dtype.itemsize].view(dtype).view(shape)
            for start, dtype, shape in self.parts
        ]
