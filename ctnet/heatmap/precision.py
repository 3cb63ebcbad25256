"""The dtype that losses are computed in."""

from __future__ import annotations

import torch
from torch import Tensor


def full_precision(values: Tensor) -> Tensor:
    """float16 and bfloat16 become float32; float32 and float64 stay as they are.

    Args:
        values: tensor of any floating-point type and shape.
    """
    return values.to(torch.promote_types(values.dtype, torch.float32))
