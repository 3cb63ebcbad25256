"""Layers that convolve in the Winograd domain: one for training, one for inference.

Both fall back to the layer that they replace wherever this is not faster: on other devices than the CPU, in
other dtypes than float32, on tiny maps, and with fast paths turned off.
"""

from __future__ import annotations

import math
import threading
from typing import Any, TypeGuard

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ctnet.ops.fast import fast_paths_enabled
from ctnet.ops.modules import replace_modules
from ctnet.ops.winograd import ALIGNMENT, Kind, convolve, fits, kernel_gradient, transform_kernel

Layer = nn.Conv2d | nn.ConvTranspose2d

# In narrower layers the transforms cost more than the multiplications that they save.
_FEWEST_IN_TRAINING = 64
_FEWEST_INPUTS = {"3x3": 64, "up": 128}
_FEWEST_OUTPUTS = 16


def winograd_kind(module: nn.Module) -> Kind | None:
    """The algorithm for a module; None if it is not a convolution with one."""
    if not isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)) or module.padding_mode != "zeros":
        return None
    settings = (module.kernel_size, module.stride, module.padding, module.dilation, module.groups)
    if type(module) in (nn.Conv2d, TrainingWinograd) and settings == ((3, 3), (1, 1), (1, 1), (1, 1), 1):
        return "3x3"
    if type(module) is nn.ConvTranspose2d and settings == ((4, 4), (2, 2), (1, 1), (1, 1), 1):
        return "up" if module.output_padding == (0, 0) else None
    return None


# --- training


class TrainingWinograd(nn.Conv2d):
    """A 3x3 convolution that runs in the Winograd domain, forward and backward, where that is faster.

    Its parameters and its state dict are those of the ``nn.Conv2d`` that it replaces. Rounding errors are a
    few times those of the direct convolution.
    """

    @classmethod
    def of(cls, convolution: nn.Conv2d) -> TrainingWinograd:
        """Replace a 3x3 convolution with padding 1, sharing its parameters."""
        channels = (convolution.in_channels, convolution.out_channels)
        layer = cls(*channels, 3, padding=1, bias=convolution.bias is not None, device="meta")
        layer.weight, layer.bias = convolution.weight, convolution.bias
        return layer.train(convolution.training)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, O, H, W)."""
        if not (fast_paths_enabled() and fits(x)):
            return super().forward(x)
        out: Tensor = _Convolution.apply(x, self.weight)
        return out if self.bias is None else out + self.bias[:, None, None]


def use_winograd(model: nn.Module) -> None:
    """Train the wide 3x3 convolutions of a network in the Winograd domain.

    Parameters, their order and their names are kept; layers with hooks are left alone.
    """
    wide = [module for module in model.modules() if type(module) is nn.Conv2d and _is_wide(module)]
    replace_modules(model, {module: TrainingWinograd.of(module) for module in wide})


def _is_wide(layer: nn.Conv2d) -> bool:
    channels = (layer.in_channels, layer.out_channels)
    wide = min(channels) >= _FEWEST_IN_TRAINING and not any(count % ALIGNMENT for count in channels)
    hooks = layer._forward_hooks or layer._forward_pre_hooks or layer._backward_hooks
    return wide and winograd_kind(layer) == "3x3" and not hooks


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
    """(O, C, 3, 3) -> (36, O, C), in this thread's workspace."""
    return transform_kernel("3x3", weight.permute(2, 3, 0, 1), out=_workspace(weight))


_of_thread = threading.local()


def _workspace(weight: Tensor) -> Tensor:
    """Memory for one transformed kernel (36, O, C), valid until the next call.

    It is reused, since allocating memory of this size page by page takes longer than filling it.
    """
    shape = (36, *weight.shape[:2])
    room: Tensor | None = getattr(_of_thread, "room", None)
    if room is None or len(room) < math.prod(shape):
        room = _of_thread.room = torch.empty(math.prod(shape))
    return room[: math.prod(shape)].view(shape)


# --- inference


class InferenceWinograd(nn.Module):
    """A convolution in the Winograd domain with a kernel that is transformed once.

    Rounding errors are a few times those of the direct convolution, which is also used when gradients are
    recorded. The transformed kernel (4 times as large as the kernel, 6 times for an up-convolution) is
    computed on first use.

    Args:
        convolution: the layer to replace; its kernel must not change afterwards.
        tail: a 1x1 convolution that follows after a ReLU; it reads the intermediate map while that is in the
            cache.

    Raises:
        ValueError: if there is no algorithm for the layer.
    """

    def __init__(self, convolution: Layer, tail: nn.Conv2d | None = None) -> None:
        super().__init__()
        kind = winograd_kind(convolution)
        if kind is None:
            raise ValueError(
                f"{convolution} is neither a 3x3 convolution with padding 1 nor one that doubles a map"
            )
        self.kind, self.convolution, self.tail = kind, convolution, tail
        self.out_channels = (convolution if tail is None else tail).out_channels
        self._constants: _Constants | None = None

    @property
    def weight(self) -> Tensor:
        """The convolution's weight."""
        return self.convolution.weight

    @property
    def bias(self) -> Tensor | None:
        """The convolution's bias."""
        return self.convolution.bias

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, O, H', W'), channels-last in memory."""
        if fast_paths_enabled() and self._fits(x):
            return self._winograd(x)
        out: Tensor = self.convolution(x)
        return out if self.tail is None else self.tail(out.relu())

    def _fits(self, x: Tensor) -> bool:
        recording = torch.is_grad_enabled() and (x.requires_grad or self.convolution.weight.requires_grad)
        return not recording and fits(x)

    def _winograd(self, x: Tensor) -> Tensor:
        if self._constants is None:
            self._constants = _constants(self.kind, self.convolution, self.tail)
        return convolve(self.kind, x, *self._constants)[:, : self.out_channels]


def helps_inference(module: nn.Module) -> TypeGuard[Layer]:
    """Whether ``InferenceWinograd`` is faster than this module, judging by its kind and width."""
    kind = winograd_kind(module)
    if kind is None:
        return False
    assert isinstance(module, (nn.Conv2d, nn.ConvTranspose2d))
    return module.in_channels >= _FEWEST_INPUTS[kind] and module.out_channels >= _FEWEST_OUTPUTS


_Constants = tuple[Tensor, Tensor, tuple[Tensor, Tensor] | None]


def _constants(kind: Kind, layer: Layer, tail: nn.Conv2d | None) -> _Constants:
    """The transformed kernel (P*P, C, O), the bias (O,), the tail's kernel (O, T) and bias (T,)."""
    taps = layer.weight.detach().double()
    taps = taps.permute(2, 3, 0, 1) if kind == "up" else taps.permute(2, 3, 1, 0)
    kernel, bias = _filled_up(transform_kernel(kind, taps), layer.bias)
    if tail is None:
        return kernel, bias, None
    mixing = tail.weight.detach()[:, :, 0, 0].t()
    return kernel, bias, _filled_up(F.pad(mixing, (0, 0, 0, len(bias) - len(mixing))), tail.bias)


def _filled_up(kernel: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
    """Kernel (..., O) and bias (O,) with zeros up to an aligned number of outputs."""
    outputs = kernel.shape[-1]
    bias = kernel.new_zeros(outputs) if bias is None else bias.detach()
    kernel, bias = (F.pad(t, (0, -outputs % ALIGNMENT)) for t in (kernel, bias))
    return kernel.float().contiguous(), bias.float()
