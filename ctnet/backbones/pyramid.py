"""Lateral connections: coarse maps are upsampled and added to finer ones, down to stride 4.

Source:
    after Lin et al., Feature Pyramid Networks, 2017, section 3.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch.nn.functional as F
from torch import Tensor, nn

#: Width of the output map at stride 4.
CHANNELS = 64
_STRIDE = 4


def pyramid_layers(channels: Mapping[int, int]) -> tuple[nn.Module, nn.ModuleList, nn.ModuleList]:
    """Layers for ``merge``: the top, and for each finer stride (finest first) a lateral and a fusion.

    Args:
        channels: stride -> channels of the maps to merge. All strides are 4 times a power of two; strides
            between 4 and the coarsest may be missing, and then have no laterals.
    """
    coarsest = max(channels)
    top = _convolution(channels[coarsest], _width(max(_STRIDE, coarsest // 2)), 1)
    finer = _finer_strides(coarsest)
    laterals = nn.ModuleList(_convolution(channels[s], _width(s), 1) for s in finer if s in channels)
    fusions = nn.ModuleList(
        nn.Sequential(_convolution(_width(s), _width(s // 2), 3), nn.ReLU(inplace=True)) for s in finer
    )
    return top, laterals, fusions


def merge(
    maps: Mapping[int, Tensor], top: nn.Module, laterals: Iterable[nn.Module], fusions: Iterable[nn.Module]
) -> Tensor:
    """Merge maps (B, C, H / stride, W / stride), by stride, into one of (B, 64, H / 4, W / 4)."""
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


def _width(stride: int) -> int:
    return max(CHANNELS, min(256, 16 * stride))


def _convolution(in_channels: int, out_channels: int, kernel: int) -> nn.Sequential:
    convolution = nn.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2, bias=False)
    nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
    return nn.Sequential(convolution, nn.BatchNorm2d(out_channels))
