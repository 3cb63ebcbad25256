"""The penalty-reduced focal loss of the paper's equation 1."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from ctnet.heatmap.precision import full_precision

#: The released code clamps probabilities to [1e-4, 1 - 1e-4]; the same limit on logits.
_LOGIT_LIMIT = math.log((1 - 1e-4) / 1e-4)


def focal_loss(
    logits: Tensor, target: Tensor, alpha: float = 2.0, beta: float = 4.0
) -> tuple[Tensor, Tensor]:
    """Penalty-reduced pixel-wise logistic regression with focal weights.

    Computed in the logits' dtype, or float32 for half precision, so it stays finite under autocast. Logits
    beyond the clamp get no gradient, as in the released code. A cell is positive when its target is
    exactly 1.

    Args:
        logits: (B, C, H, W), before the sigmoid.
        target: (B, C, H, W) in [0, 1], as ``draw_gaussians`` draws it.
        alpha: focusing exponent.
        beta: exponent of the penalty reduction around peaks.

    Returns:
        Two scalars: the sum over cells, and the number of positives, which it is divided by if there are any.

    Source: equation 1; the clamp and the case without positives as in the released code.
    """
    logits = full_precision(logits).clamp(-_LOGIT_LIMIT, _LOGIT_LIMIT)
    target = target.to(logits.dtype)
    positive = target == 1
    # sigmoid(-x), not 1 - sigmoid(x): the difference loses precision where p is near 1.
    cells = torch.where(
        positive,
        functional.logsigmoid(logits) * (-logits).sigmoid() ** alpha,
        functional.logsigmoid(-logits) * logits.sigmoid() ** alpha * (1 - target) ** beta,
    )
    return -cells.sum(), positive.sum().to(logits.dtype)
