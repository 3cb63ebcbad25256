"""A loss as a total and the count to divide it by."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Loss:
    """A sum over what one batch teaches, and how much that is.

    The engine divides: by the counts of everything that makes one optimizer step, so a batch that is split
    gives the gradients of the whole.

    Attributes:
        total: scalar, the sum; differentiable.
        count: scalar, what the sum is divided by (1, where it is less). It depends on the target alone, never
            on what was predicted.
    """

    total: Tensor
    count: Tensor
