"""Lateral connections: coarse maps are upsampled and added to finer ones, down to stride 4.

Source:
    after Lin et al., Feature Pyramid Networks, 2017, section 3.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch.nn.functional as F
from torch import Tensor, nn

#: Channels of the output map at stride 4, unless others are asked for.
CHANNELS = 64
_STRIDE = 4


def pyramid_layers(
    channels: Mapping[int, int], width: int = CHANNELS
) -> tuple[nn.Module, nn.ModuleList, nn.ModuleList]:
    """Layers for ``merge``: the top, and for each finer stride (finest first) a lateral and a fusion.

    Args:
        channels: stride -> channels of the maps to merge. All strides are 4 times a power of two; strides
            between 4 and the coarsest may be missing, and then have no laterals.
        width: channels of the merged map at stride 4; it has twice as many at 8, four times from 16 on.
    """
    coarsest = max(channels)
    finer = _finer_strides(coarsest)
    widths = {s: width * max(1, min(4, s // _STRIDE)) for s in (_STRIDE // 2, _STRIDE, *finer)}
    top = convolution(channels[coarsest], widths[max(_STRIDE, coarsest // 2)], 1)
    laterals = nn.ModuleList(convolution(channels[s], widths[s], 1) for s in finer if s in channels)
    fusions = nn.ModuleList(
        nn.Sequential(convolution(widths[s], widths[s // 2], 3), nn.ReLU(inplace=True)) for s in finer
    )
    return top, laterals, fusions


def merge(
    maps: Mapping[int, Tensor], top: nn.Module, laterals: Iterable[nn.Module], fusions: Iterable[nn.Module]
) -> Tensor:
    """Merge maps (B, C, H / stride, W / stride), by stride, into one of (B, width, H / 4, W / 4)."""
    coarsest = max(maps)
    x: Tensor = top(maps[coarsest])
    finer = _finer_strides(coarsest)
    lateral_of = dict(zip([s for s in finer if s in maps], laterals, strict=True))
    for stride, fuse in list(zip(finer, fusions, strict=True))[::-1]:
        x = F.interpolate(x, scale_factor=2.0, mode="nearest")
        x = fuse(x + lateral_of[stride](maps[stride]) if stride in maps else x)
    return x


def _finer_strides(coarsest: int) -> list[int]:
    """4, 8, ... below the coarsest."""
    strides: list[int] = []
    while (stride := _STRIDE << len(strides)) < coarsest:
        strides.append(stride)
    return strides


def convolution(in_channels: int, out_channels: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """A convolution that keeps a map's size, but for its stride, and a batch norm."""
    layer = nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, bias=False)
    nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    return nn.Sequential(layer, nn.BatchNorm2d(out_channels))
