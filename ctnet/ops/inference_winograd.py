"""Winograd's convolutions for networks that no longer train: the kernel is transformed once."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ctnet.ops.trainable_winograd import winograd_kind
from ctnet.ops.winograd import ALIGNMENT, Kind, convolve, fits, transform_kernel

Layer = nn.Conv2d | nn.ConvTranspose2d


class WinogradConv2d(nn.Module):
    """A convolution that multiplies in Winograd's transformed domain.

    Rounding errors are a few times those of the direct sum. Small maps, other types than float32, other
    devices and recorded gradients take the direct way. The transformed kernel (4 times as large as the
    kernel, 6 times for an up-convolution) is made when it is first wanted.

    Args:
        convolution: the layer to stand in for; its kernel must not change afterwards.
        tail: a 1x1 convolution that follows after a ReLU: it reads the map between while that is at hand.

    Raises:
        ValueError: if there is no algorithm for the layer.
    """

    def __init__(self, convolution: Layer, tail: nn.Conv2d | None = None) -> None:
        super().__init__()
        kind = winograd_kind(convolution)
        if kind is None:
            raise ValueError(
                f"{convolution} is no 3x3 convolution with padding 1, nor one that doubles a map"
            )
        self.kind, self.convolution, self.tail = kind, convolution, tail
        self.out_channels = (convolution if tail is None else tail).out_channels
        self._constants: _Constants | None = None

    @property
    def weight(self) -> Tensor:
        """The convolution's, for whoever reads it."""
        return self.convolution.weight

    @property
    def bias(self) -> Tensor | None:
        """The convolution's, likewise."""
        return self.convolution.bias

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, O, H', W'), channels-last in memory."""
        if self._fits(x):
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
    """Kernel (..., O) and bias (O,) with zeros up to a good number of outputs."""
    outputs = kernel.shape[-1]
    bias = kernel.new_zeros(outputs) if bias is None else bias.detach()
    kernel, bias = (F.pad(t, (0, -outputs % ALIGNMENT)) for t in (kernel, bias))
    return kernel.float().contiguous(), bias.float()
