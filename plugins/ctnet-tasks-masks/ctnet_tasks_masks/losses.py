"""The loss of masks, over the shared map and the coefficients together."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from ctnet.plugin import CellTargets, Loss, full_precision
from ctnet_tasks_masks.prototypes import logits_of
from ctnet_tasks_masks.targets import MaskTargets


def mask_loss(shared: Tensor, code: Tensor, masks: MaskTargets, objects: CellTargets) -> Loss:
    """Cross entropy, the mean over an object's window, and dice loss, both summed over objects.

    Args:
        shared: (B, C, H, W), the raw map.
        code: (N, D), raw coefficients at the objects' peaks.
        masks: targets of the same N objects.
        objects: their peaks.

    Source: Milletari et al., V-Net, 2016, equation 3, for the dice loss.
    """
    shared, code = full_precision(shared), full_precision(code)
    cells = masks.unpacked()
    values = cells.gather(shared).to(code.dtype)
    # Each cell is a place of its own: (M, C, 1).
    own = code.index_select(0, cells.row)
    logits = logits_of(own, values[..., None]).squeeze(-1)
    wanted = cells.value.mean(dim=1).to(code.dtype)
    count = (masks.width * masks.height).to(code.dtype)

    def per_object(values: Tensor) -> Tensor:
        return torch.zeros_like(count).index_add(0, cells.row, values)

    entropy = functional.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
    seen = logits.sigmoid()
    both, all_of = per_object(seen * wanted), per_object(seen**2 + wanted**2)
    dice = 1 - 2 * both / all_of.clamp(min=1e-3)
    weight = masks.weight.to(code.dtype) * (objects.weight > 0).any(dim=1)
    return Loss((weight * (per_object(entropy) / count + dice)).sum(), weight.sum())
