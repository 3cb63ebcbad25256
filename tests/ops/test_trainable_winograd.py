"""Strips of tiles, and the gradients of Winograd's convolution against torch's."""

from __future__ import annotations

import copy
import threading
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from ctnet.ops import winograd
from ctnet.ops.trainable_winograd import TrainableWinograd, use_winograd
from ctnet.ops.winograd import Kind


@pytest.mark.parametrize("kind", ["3x3", "up"])
def test_strips_cover_every_pixel_once(kind: Kind) -> None:
    scale = 2 if kind == "up" else 1
    for batch, height, width in [(1, 128, 128), (5, 11, 27), (3, 1, 1), (200, 8, 4), (2, 17, 1200)]:
        read, written = torch.zeros(batch * height * width), torch.zeros(batch * height * width * scale**2)
        for reads, writes, (images, above, rows, _, own) in winograd._strips(kind, batch, height, width):
            read[reads] += 1
            written[writes] += 1
            assert above in (0, 1)
            assert images * -(-own // 4) * -(-width // 4) <= max(winograd._STRIP, -(-width // 4))
            assert len(read[reads]) == images * rows * width
        assert read.min() == 1
        assert (written == 1).all()


def layers(
    channels: int = 64, outputs: int = 64, bias: bool = True, **settings: Any
) -> tuple[nn.Conv2d, nn.Conv2d]:
    """torch's convolution, and the same after ``use_winograd``."""
    torch.manual_seed(0)
    plain = nn.Conv2d(channels, outputs, 3, **{"padding": 1, "bias": bias, **settings})
    quick = nn.Sequential(copy.deepcopy(plain))
    use_winograd(quick)
    return plain, quick[0]  # type: ignore[return-value]


def gradients(layer: nn.Conv2d, x: Tensor) -> dict[str, Tensor]:
    """The output, and the gradients of a weighted sum of it."""
    x = x.detach().requires_grad_()
    out = layer(x)
    slopes = torch.randn(out.shape, generator=torch.Generator().manual_seed(1)).to(out)
    (out * slopes).sum().backward()
    assert x.grad is not None
    own = {name: parameter.grad for name, parameter in layer.named_parameters()}
    return {"out": out.detach(), "x": x.grad} | {name: grad for name, grad in own.items() if grad is not None}


def assert_same(layer: nn.Conv2d, plain: nn.Conv2d, x: Tensor) -> None:
    for name, expected in gradients(copy.deepcopy(plain).double(), x.double()).items():
        found = gradients(layer, x)[name]
        layer.zero_grad()
        assert found.dtype == torch.float32
        assert (found - expected).abs().max() < 2e-5 * expected.abs().max(), name


@given(
    batch=st.integers(1, 5),
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    channels=st.sampled_from([64, 72]),
    outputs=st.sampled_from([64, 96]),
    bias=st.booleans(),
    layout=st.sampled_from([torch.contiguous_format, torch.channels_last]),
)
@settings(max_examples=25, deadline=None)
def test_gradients_are_those_of_the_convolution(
    batch: int, height: int, width: int, channels: int, outputs: int, bias: bool, layout: torch.memory_format
) -> None:
    plain, quick = layers(channels, outputs, bias)
    x = torch.randn(batch, channels, height, width).contiguous(memory_format=layout)
    assert_same(quick.to(memory_format=layout), plain, x)


def test_gradients_of_many_strips() -> None:
    """64 tiles of two images each, and more than one strip of an image."""
    plain, quick = layers()
    for shape in [(5, 64, 16, 32), (2, 64, 80, 64)]:
        assert_same(quick, plain, torch.randn(shape))


def test_only_what_is_asked_for() -> None:
    _, quick = layers()
    x = torch.randn(1, 64, 20, 20)
    quick(x).sum().backward()
    assert quick.weight.grad is not None
    quick.weight.requires_grad_(False)
    x.requires_grad_()
    quick(x).sum().backward()
    assert x.grad is not None
    assert not quick(x.detach()).requires_grad or quick.bias is not None


def test_parameters_stay_where_they_are() -> None:
    model = nn.Sequential(nn.Conv2d(64, 64, 3, padding=1), nn.BatchNorm2d(64))
    weight, state = model[0].weight, copy.deepcopy(model.state_dict())
    use_winograd(model)
    assert type(model[0]) is TrainableWinograd
    assert model[0].weight is weight
    assert [*model.state_dict()] == [*state]
    assert type(copy.deepcopy(model)[0]) is TrainableWinograd


@pytest.mark.parametrize(
    "change",
    [
        {"channels": 32},
        {"outputs": 32},
        {"outputs": 68},
        {"stride": 2},
        {"padding": 0},
        {"dilation": 2},
        {"groups": 2},
        {"padding_mode": "reflect"},
    ],
    ids=str,
)
def test_leaves_other_convolutions_alone(change: dict[str, Any]) -> None:
    assert type(layers(**change)[1]) is nn.Conv2d


@pytest.mark.parametrize("case", ["small map", "autocast", "float64"])
def test_takes_the_direct_way(case: str) -> None:
    plain, quick = layers()
    x = torch.randn(1, 64, 8 if case == "small map" else 40, 40 if case != "small map" else 8)
    if case == "float64":
        plain, quick, x = plain.double(), quick.double(), x.double()
    with torch.autocast("cpu", torch.bfloat16, enabled=case == "autocast"):
        found, expected = gradients(quick, x), gradients(plain, x)
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_threads_do_not_share_their_workspace() -> None:
    _, quick = layers()
    x = torch.randn(4, 64, 40, 40)
    expected = gradients(copy.deepcopy(quick), x)
    results: list[dict[str, Tensor]] = []

    def work() -> None:
        layer = copy.deepcopy(quick)
        for _ in range(5):
            layer.zero_grad()
            results.append(gradients(layer, x))

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 15
    for result in results:
        for name, value in expected.items():
            torch.testing.assert_close(result[name], value)
