"""Batch norms whose statistics are those of the batch of all processes, on any device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ctnet.ops.modules import replace_modules

#: Adds a tensor up over all processes, in place; ``Ranks.add`` and torch's ``all_reduce`` are such.
Add = Callable[[Tensor], Any]


class SyncBatchNorm2d(nn.BatchNorm2d):
    """A batch norm over the joined batch of all processes, which need not hold as many images each.

    Exact in forward and backward pass, unlike the mean of the processes' own statistics. It takes two sums
    over the processes in either pass. torch's own ``SyncBatchNorm`` does the same on GPUs alone.

    Attributes:
        counts: whether this process's images are part of the batch; False for one that has none and goes
            through the network to take part in the sums.
    """

    def __init__(self, norm: nn.BatchNorm2d, add: Add) -> None:
        """Args:
        norm: whose parameters and statistics become this layer's.
        add: adds up over all processes.
        """
        super().__init__(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
        self.weight, self.bias = norm.weight, norm.bias
        self.running_mean, self.running_var = norm.running_mean, norm.running_var
        self.num_batches_tracked = norm.num_batches_tracked
        self.training = norm.training
        self.counts = True
        self._add = add

    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            plain: Tensor = super().forward(input)
            return plain
        own = float(self.counts)
        number = input.new_tensor([own * input.numel() / input.shape[1]])
        sums = _Sum.apply(torch.cat([own * input.sum((0, 2, 3)), number]), self._add)
        mean, number = sums[:-1] / sums[-1], sums[-1].detach()
        centred = input - mean[:, None, None]
        variance = _Sum.apply(own * centred.square().sum((0, 2, 3)), self._add) / number
        self._keep(mean.detach(), variance.detach(), number)
        normal = centred * torch.rsqrt(variance + self.eps)[:, None, None]
        if self.weight is None:
            return normal
        scaled: Tensor = normal * self.weight[:, None, None] + self.bias[:, None, None]
        return scaled

    @torch.no_grad()
    def _keep(self, mean: Tensor, variance: Tensor, number: Tensor) -> None:
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked += 1
        share = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        unbiased = variance * (number / (number - 1).clamp(min=1))
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), share)
        self.running_var.lerp_(unbiased.to(self.running_var.dtype), share)


class _Sum(torch.autograd.Function):
    """The sum over all processes; its gradient is that of all their losses."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor, add: Add) -> Tensor:
        ctx.add = add
        total = tensor.contiguous().clone()
        add(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        total = gradients[0].contiguous().clone()
        ctx.add(total)
        return total, None


def use_sync_batch_norm(model: nn.Module, add: Add, group: Any = None) -> None:
    """Let all batch norms of a network work on the batch of all processes.

    Args:
        model: is changed; its state dict stays the same.
        add: adds up over all processes, on the CPU.
        group: torch's process group, for its own layer on GPUs.
    """
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    if any(parameter.is_cuda for parameter in model.parameters()):
        convert = nn.SyncBatchNorm.convert_sync_batchnorm
        replace_modules(model, {norm: convert(norm, group) for norm in norms})  # type: ignore[no-untyped-call]
    else:
        replace_modules(model, {norm: SyncBatchNorm2d(norm, add) for norm in norms})


def freeze_batch_norm(model: nn.Module) -> None:
    """Keep statistics, weights and biases of all batch norms; to be repeated after ``train()``."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval().requires_grad_(False)


#: The batch norms of both kinds of devices that work on the batch of all processes.
SYNCHRONISED = (SyncBatchNorm2d, nn.SyncBatchNorm)
