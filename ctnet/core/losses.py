"""A loss as a total and the count to divide it by."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Loss:
    """The sum of a loss over one batch, and the count to divide it by.

    The engine divides by the counts of all micro-batches and ranks of an optimizer step, so a batch that is
    split gives the gradients of the whole.

    Attributes:
        total: scalar, the sum; differentiable.
        count: scalar, what the sum is divided by (at least 1). It depends on the target alone, never on the
            prediction.
    """

    total: Tensor
    count: Tensor
