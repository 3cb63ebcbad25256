"""Convolution in Winograd's domain against torch's."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from ctnet.inference import winograd
from ctnet.inference.winograd import WinogradConv2d, fits_winograd


def make_layer(in_channels: int, out_channels: int, bias: bool = True) -> nn.Conv2d:
    torch.manual_seed(1)
    return nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=bias)


@given(
    batch=st.integers(1, 5),
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    in_channels=st.integers(1, 5),
    out_channels=st.integers(1, 5),
    bias=st.booleans(),
)
@settings(max_examples=40, deadline=None)
def test_equals_the_convolution(
    batch: int, height: int, width: int, in_channels: int, out_channels: int, bias: bool
) -> None:
    convolution = make_layer(in_channels, out_channels, bias)
    x = torch.randn(batch, in_channels, height, width)
    with torch.no_grad():
        out = WinogradConv2d(convolution)._winograd(x)
        torch.testing.assert_close(out, convolution(x), rtol=0, atol=2e-5)
    assert out.is_contiguous(memory_format=torch.channels_last)


@torch.no_grad()
def test_rounding_errors_stay_small() -> None:
    convolution = make_layer(256, 128)
    x = torch.randn(2, 256, 32, 32)
    exact = nn.functional.conv2d(
        x.double(), convolution.weight.double(), convolution.bias.double(), padding=1
    )
    layer = WinogradConv2d(convolution)
    error = (layer(x) - exact).abs().max()
    assert layer._constants is not None
    assert error < 1e-5


def test_bands_cover_every_tile_once() -> None:
    for batch, rows, columns in [(1, 32, 32), (5, 3, 7), (3, 1, 1), (200, 2, 1), (2, 5, 300)]:
        seen = torch.zeros(batch, rows, columns)
        for images, band in winograd._bands(batch, rows, columns):
            seen[images, band] += 1
            assert seen[images, band].numel() <= max(winograd._BAND, columns)
        assert (seen == 1).all()


@pytest.mark.parametrize("case", ["small map", "gradient", "autocast", "float64"])
def test_takes_the_direct_way(case: str) -> None:
    layer = WinogradConv2d(make_layer(4, 4))
    side = 8 if case == "small map" else 40
    x = torch.randn(1, 4, side, side, requires_grad=case == "gradient")
    if case == "float64":
        layer, x = layer.double(), x.double()
    with torch.set_grad_enabled(case == "gradient"), torch.autocast("cpu", enabled=case == "autocast"):
        out = layer(x)
    assert layer._constants is None
    assert out.requires_grad == (case == "gradient")


@pytest.mark.parametrize(
    "change", [{"kernel_size": 1}, {"stride": 2}, {"padding": 0}, {"dilation": 2}, {"groups": 2}]
)
def test_refuses_other_convolutions(change: dict[str, Any]) -> None:
    convolution = nn.Conv2d(4, 4, **{"kernel_size": 3, "padding": 1, **change})
    assert not fits_winograd(convolution)
    with pytest.raises(ValueError, match="no plain 3x3 convolution"):
        WinogradConv2d(convolution)
