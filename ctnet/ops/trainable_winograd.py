"""Winograd's convolutions for networks that train: forward, and both gradients."""

from __future__ import annotations

import math
import threading
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import Conv2d

from ctnet.ops.winograd import ALIGNMENT, Kind, convolve, fits, kernel_gradient, transform_kernel

#: In narrower layers the transforms cost more than the products that they save.
_FEWEST_CHANNELS = 64


class TrainableWinograd(nn.Conv2d):
    """A 3x3 convolution that multiplies in Winograd's domain, forward and backward, where that is quicker.

    It is so on a CPU in float32, on maps that are not tiny; elsewhere it is ``nn.Conv2d``, whose parameters
    and state dict it shares. Rounding errors are a few times those of the direct sums.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, O, H, W)."""
        if not fits(x):
            return super().forward(x)
        out: Tensor = _Convolution.apply(x, self.weight)
        return out if self.bias is None else out + self.bias[:, None, None]


def use_winograd(model: nn.Module) -> None:
    """Let the wide 3x3 convolutions of a network train in Winograd's domain; parameters stay in place."""
    for module in model.modules():
        if type(module) is Conv2d and _is_wide(module):
            module.__class__ = TrainableWinograd


def _is_wide(layer: nn.Conv2d) -> bool:
    channels = (layer.in_channels, layer.out_channels)
    wide = min(channels) >= _FEWEST_CHANNELS and not any(count % ALIGNMENT for count in channels)
    return wide and winograd_kind(layer) == "3x3"


def winograd_kind(module: nn.Module) -> Kind | None:
    """The algorithm for a module, or None if it is no convolution that has one."""
    if not isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)) or module.padding_mode != "zeros":
        return None
    settings = (module.kernel_size, module.stride, module.padding, module.dilation, module.groups)
    if type(module) in (nn.Conv2d, TrainableWinograd) and settings == ((3, 3), (1, 1), (1, 1), (1, 1), 1):
        return "3x3"
    if type(module) is nn.ConvTranspose2d and settings == ((4, 4), (2, 2), (1, 1), (1, 1), 1):
        return "up" if module.output_padding == (0, 0) else None
    return None


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return convolve("3x3", x, _transformed(weight).transpose(1, 2))

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        of_x = of_weight = None
        if ctx.needs_input_grad[0]:
            of_x = convolve("3x3", gradient, _transformed(weight.flip(2, 3)))
        if ctx.needs_input_grad[1]:
            of_weight = kernel_gradient(x, gradient, _workspace(weight)).permute(2, 3, 0, 1)
        return of_x, of_weight


def _transformed(weight: Tensor) -> Tensor:
    """(O, C, 3, 3) -> (36, O, C), in the thread's workspace."""
    return transform_kernel("3x3", weight.permute(2, 3, 0, 1), out=_workspace(weight))


_of_thread = threading.local()


def _workspace(weight: Tensor) -> Tensor:
    """Room for one transformed kernel (36, O, C) until the next is asked for.

    It is kept, since new memory of this size comes page by page, which takes longer than to fill it.
    """
    shape = (36, *weight.shape[:2])
    room: Tensor | None = getattr(_of_thread, "room", None)
    if room is None or len(room) < math.prod(shape):
        room = _of_thread.room = torch.empty(math.prod(shape))
    return room[: math.prod(shape)].view(shape)
