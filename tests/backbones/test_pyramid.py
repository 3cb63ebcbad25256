from __future__ import annotations

import torch
from torch import Tensor

from ctnet.backbones.pyramid import CHANNELS, merge, pyramid_layers


def maps_of(channels: dict[int, int], side: int = 64) -> dict[int, Tensor]:
    return {
        stride: torch.rand(2, width, side // stride, 2 * side // stride) for stride, width in channels.items()
    }


def test_maps_of_any_strides_become_one_at_stride_4() -> None:
    for channels in ({4: 8, 8: 12, 16: 20, 32: 24}, {16: 20}, {8: 9, 32: 7, 64: 5}, {4: 6}):
        layers = pyramid_layers(channels)
        assert merge(maps_of(channels), *layers).shape == (2, CHANNELS, 16, 32)


def test_the_width_is_that_of_the_merged_map() -> None:
    channels = {4: 8, 8: 12, 16: 20, 32: 24, 64: 28}
    top, laterals, fusions = pyramid_layers(channels, 5)
    assert merge(maps_of(channels), top, laterals, fusions).shape == (2, 5, 16, 32)
    assert [lateral[0].out_channels for lateral in laterals] == [5, 10, 20, 20]


def test_every_map_counts() -> None:
    channels = {4: 8, 8: 12, 16: 20, 32: 24}
    layers = pyramid_layers(channels)
    maps = maps_of(channels)
    for one in maps.values():
        one.requires_grad_()
    merge(maps, *layers).square().sum().backward()
    for stride, one in maps.items():
        assert one.grad is not None, stride
        assert one.grad.any(), stride


def test_a_missing_stride_is_passed_over() -> None:
    torch.manual_seed(0)
    top, laterals, fusions = (module.eval() for module in pyramid_layers({4: 8, 16: 20}))
    assert (len(laterals), len(fusions)) == (1, 2)
    maps = maps_of({4: 8, 16: 20})
    with torch.no_grad():
        x = fusions[1](top(maps[16]).repeat_interleave(2, 2).repeat_interleave(2, 3))
        expected = fusions[0](x.repeat_interleave(2, 2).repeat_interleave(2, 3) + laterals[0](maps[4]))
        torch.testing.assert_close(merge(maps, top, laterals, fusions), expected)
