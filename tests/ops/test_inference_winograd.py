"""Convolution in Winograd's domain against torch's."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from ctnet.ops.inference_winograd import Layer, WinogradConv2d
from ctnet.ops.trainable_winograd import TrainableWinograd, winograd_kind
from ctnet.ops.winograd import Kind


def make_layer(kind: Kind, in_channels: int, out_channels: int, bias: bool = True) -> Layer:
    torch.manual_seed(1)
    if kind == "up":
        return nn.ConvTranspose2d(in_channels, out_channels, 4, stride=2, padding=1, bias=bias)
    return nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=bias)


@pytest.mark.parametrize("kind", ["3x3", "up"])
@pytest.mark.parametrize(
    "shape", [(1, 1, 1, 1), (5, 3, 7, 9), (2, 4, 40, 21), (1, 5, 3, 300), (40, 2, 8, 8), (3, 8, 17, 16)]
)
@torch.no_grad()
def test_equals_the_convolution(kind: Kind, shape: tuple[int, ...]) -> None:
    assert_equal(make_layer(kind, shape[1], 5), torch.randn(shape))


@given(
    kind=st.sampled_from(["3x3", "up"]),
    batch=st.integers(1, 5),
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    channels=st.integers(1, 5),
    outputs=st.integers(1, 9),
    bias=st.booleans(),
)
@settings(max_examples=40, deadline=None)
@torch.no_grad()
def test_equals_the_convolution_at_any_size(
    kind: Kind, batch: int, height: int, width: int, channels: int, outputs: int, bias: bool
) -> None:
    assert_equal(make_layer(kind, channels, outputs, bias), torch.randn(batch, channels, height, width))


def assert_equal(convolution: Layer, x: Tensor) -> None:
    for layout in (torch.contiguous_format, torch.channels_last):
        out = WinogradConv2d(convolution)._winograd(x.contiguous(memory_format=layout))
        torch.testing.assert_close(out, convolution(x), rtol=0, atol=2e-5)
        assert out.permute(0, 2, 3, 1).stride(-1) == 1


@pytest.mark.parametrize("bias", [True, False])
@torch.no_grad()
def test_tail(bias: bool) -> None:
    """A head: what is between its convolutions has a number of channels that is filled up."""
    convolution, tail = make_layer("3x3", 6, 10, bias), nn.Conv2d(10, 3, 1, bias=bias)
    layer = WinogradConv2d(convolution, tail)
    for side, batch in ((4, 1), (30, 2)):
        x = torch.randn(batch, 6, side, side)
        torch.testing.assert_close(layer(x), tail(convolution(x).relu()), rtol=0, atol=2e-5)
    assert layer._constants is not None


@torch.no_grad()
def test_takes_over_from_training() -> None:
    trained = TrainableWinograd(6, 8, 3, padding=1)
    x = torch.randn(1, 6, 20, 20)
    torch.testing.assert_close(WinogradConv2d(trained)(x), trained(x), rtol=0, atol=2e-5)


@pytest.mark.parametrize("kind", ["3x3", "up"])
@torch.no_grad()
def test_rounding_errors_stay_small(kind: Kind) -> None:
    convolution = make_layer(kind, 256, 128)
    x = torch.randn(2, 256, 32, 32)
    exact = copy.deepcopy(convolution).double()(x.double())
    layer = WinogradConv2d(convolution)
    error = (layer(x) - exact).abs().max()
    assert layer._constants is not None
    assert error < 2e-5 * exact.abs().max()


@torch.inference_mode()
def test_copies_after_use() -> None:
    layer, x = WinogradConv2d(make_layer("3x3", 8, 8)), torch.randn(1, 8, 20, 20)
    out = layer(x)
    for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert torch.equal(twin(x), out)


@pytest.mark.parametrize("case", ["small map", "gradient", "autocast", "float64", "other device"])
def test_takes_the_direct_way(case: str) -> None:
    layer = WinogradConv2d(make_layer("3x3", 4, 4))
    side = 8 if case == "small map" else 40
    x = torch.randn(1, 4, side, side, requires_grad=case == "gradient")
    if case == "float64":
        layer, x = layer.double(), x.double()
    if case == "other device":
        layer, x = layer.to("meta"), x.to("meta")
    with torch.set_grad_enabled(case == "gradient"), torch.autocast("cpu", enabled=case == "autocast"):
        out = layer(x)
    assert layer._constants is None
    assert out.requires_grad == (case == "gradient")


@pytest.mark.parametrize(
    "change", [{"kernel_size": 1}, {"stride": 2}, {"padding": 0}, {"dilation": 2}, {"groups": 2}]
)
def test_refuses_other_convolutions(change: dict[str, Any]) -> None:
    convolution = nn.Conv2d(4, 4, **{"kernel_size": 3, "padding": 1, **change})
    assert winograd_kind(convolution) is None
    with pytest.raises(ValueError, match="no 3x3 convolution with padding 1"):
        WinogradConv2d(convolution)


@pytest.mark.parametrize(
    "change", [{"kernel_size": 3}, {"stride": 1}, {"padding": 0}, {"groups": 2}, {"output_padding": 1}]
)
def test_refuses_other_up_convolutions(change: dict[str, Any]) -> None:
    convolution = nn.ConvTranspose2d(4, 4, **{"kernel_size": 4, "stride": 2, "padding": 1, **change})
    assert winograd_kind(convolution) is None
    with pytest.raises(ValueError, match="nor one that doubles a map"):
        WinogradConv2d(convolution)
