"""More channels for a backbone's input, without effect at the start."""

from __future__ import annotations

import torch
from torch import nn

from ctnet.backbones._registry import Backbone
from ctnet.base.errors import CtnetError
from ctnet.ops.modules import replace_modules


def widen_input(backbone: Backbone, inputs: int) -> None:
    """Let a backbone take images of more channels: its first convolution gets zero weights for the new ones.

    A convolution of all channels is the sum of one of the image and one of the others, so the features stay
    those of the image until training changes the new weights.

    Args:
        backbone: changed in place; its ``inputs`` become these.
        inputs: channels, at least as many as now.

    Raises:
        CtnetError: when no convolution reads the image.
    """
    if inputs == backbone.inputs:
        return
    for module in backbone.modules():
        if isinstance(module, nn.Conv2d) and module.in_channels == backbone.inputs and module.groups == 1:
            replace_modules(backbone, {module: _widened(module, inputs)})
            backbone.inputs = inputs
            return
    raise CtnetError(
        f"{type(backbone).__name__} has no convolution that reads the {backbone.inputs} channels of an image, "
        "so it cannot see an earlier frame; choose a backbone whose first layer is a convolution"
    )


def _widened(layer: nn.Conv2d, inputs: int) -> nn.Conv2d:
    wide = nn.Conv2d(
        inputs,
        layer.out_channels,
        layer.kernel_size,  # type: ignore[arg-type]
        layer.stride,  # type: ignore[arg-type]
        layer.padding,  # type: ignore[arg-type]
        layer.dilation,  # type: ignore[arg-type]
        bias=layer.bias is not None,
        padding_mode=layer.padding_mode,
        device=layer.weight.device,
        dtype=layer.weight.dtype,
    )
    with torch.no_grad():
        wide.weight.zero_()
        wide.weight[:, : layer.in_channels] = layer.weight
        if layer.bias is not None:
            assert wide.bias is not None
            wide.bias.copy_(layer.bias)
    return wide
