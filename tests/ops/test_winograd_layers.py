"""Layers in the Winograd domain, and their gradients, against torch's."""

from __future__ import annotations

import copy
import pickle
import threading
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from ctnet.ops.fast import fast_paths
from ctnet.ops.winograd import Kind
from ctnet.ops.winograd_layers import (
    InferenceWinograd,
    Layer,
    TrainingWinograd,
    use_winograd,
    winograd_kind,
)

# --- inference


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
        out = InferenceWinograd(convolution)._winograd(x.contiguous(memory_format=layout))
        torch.testing.assert_close(out, convolution(x), rtol=0, atol=2e-5)
        assert out.permute(0, 2, 3, 1).stride(-1) == 1


@pytest.mark.parametrize("bias", [True, False])
@torch.no_grad()
def test_tail(bias: bool) -> None:
    """A head: the number of channels between its convolutions is padded."""
    convolution, tail = make_layer("3x3", 6, 10, bias), nn.Conv2d(10, 3, 1, bias=bias)
    layer = InferenceWinograd(convolution, tail)
    for side, batch in ((4, 1), (30, 2)):
        x = torch.randn(batch, 6, side, side)
        torch.testing.assert_close(layer(x), tail(convolution(x).relu()), rtol=0, atol=2e-5)
    assert layer._constants is not None


@torch.no_grad()
def test_takes_over_from_training() -> None:
    trained = TrainingWinograd(6, 8, 3, padding=1)
    x = torch.randn(1, 6, 20, 20)
    torch.testing.assert_close(InferenceWinograd(trained)(x), trained(x), rtol=0, atol=2e-5)


@pytest.mark.parametrize("kind", ["3x3", "up"])
@torch.no_grad()
def test_rounding_errors_stay_small(kind: Kind) -> None:
    convolution = make_layer(kind, 256, 128)
    x = torch.randn(2, 256, 32, 32)
    exact = copy.deepcopy(convolution).double()(x.double())
    layer = InferenceWinograd(convolution)
    error = (layer(x) - exact).abs().max()
    assert layer._constants is not None
    assert error < 2e-5 * exact.abs().max()


@torch.inference_mode()
def test_copies_after_use() -> None:
    layer, x = InferenceWinograd(make_layer("3x3", 8, 8)), torch.randn(1, 8, 20, 20)
    out = layer(x)
    for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert torch.equal(twin(x), out)


@pytest.mark.parametrize(
    "case", ["small map", "gradient", "autocast", "float64", "other device", "turned off"]
)
def test_inference_takes_the_direct_way(case: str) -> None:
    layer = InferenceWinograd(make_layer("3x3", 4, 4))
    side = 8 if case == "small map" else 40
    x = torch.randn(1, 4, side, side, requires_grad=case == "gradient")
    if case == "float64":
        layer, x = layer.double(), x.double()
    if case == "other device":
        layer, x = layer.to("meta"), x.to("meta")
    off = fast_paths(case != "turned off")
    with torch.set_grad_enabled(case == "gradient"), torch.autocast("cpu", enabled=case == "autocast"), off:
        out = layer(x)
    assert layer._constants is None
    assert out.requires_grad == (case == "gradient")


@pytest.mark.parametrize(
    "change", [{"kernel_size": 1}, {"stride": 2}, {"padding": 0}, {"dilation": 2}, {"groups": 2}]
)
def test_refuses_other_convolutions(change: dict[str, Any]) -> None:
    convolution = nn.Conv2d(4, 4, **{"kernel_size": 3, "padding": 1, **change})
    assert winograd_kind(convolution) is None
    with pytest.raises(ValueError, match="neither a 3x3 convolution with padding 1"):
        InferenceWinograd(convolution)


@pytest.mark.parametrize(
    "change", [{"kernel_size": 3}, {"stride": 1}, {"padding": 0}, {"groups": 2}, {"output_padding": 1}]
)
def test_refuses_other_up_convolutions(change: dict[str, Any]) -> None:
    convolution = nn.ConvTranspose2d(4, 4, **{"kernel_size": 4, "stride": 2, "padding": 1, **change})
    assert winograd_kind(convolution) is None
    with pytest.raises(ValueError, match="nor one that doubles a map"):
        InferenceWinograd(convolution)


# --- training


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
    """64 tiles from each of two images, and more than one strip per image."""
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
    quick.bias.requires_grad_(False)
    assert not quick(x.detach()).requires_grad


def test_parameters_stay_where_they_are() -> None:
    model = nn.Sequential(nn.Conv2d(8, 64, 1), nn.Conv2d(64, 64, 3, padding=1), nn.BatchNorm2d(64)).eval()
    model[1].bias.requires_grad_(False)
    before, names, random = [*model.parameters()], [*model.state_dict()], torch.get_rng_state()
    use_winograd(model)
    assert type(model[1]) is TrainingWinograd
    assert all(new is old for new, old in zip(model.parameters(), before, strict=True))
    assert [*model.state_dict()] == names
    assert not model[1].training
    assert torch.equal(torch.get_rng_state(), random)
    assert type(copy.deepcopy(model)[1]) is TrainingWinograd


def test_no_object_changes_its_class() -> None:
    convolution = nn.Conv2d(64, 64, 3, padding=1)
    model = nn.Sequential(convolution)
    use_winograd(model)
    assert type(convolution) is nn.Conv2d
    assert model[0] is not convolution


def test_a_layer_with_two_names_stays_one_layer() -> None:
    convolution = nn.Conv2d(64, 64, 3, padding=1)
    model = nn.Sequential(convolution, nn.Sequential(convolution, nn.ReLU()), convolution)
    use_winograd(model)
    assert type(model[0]) is TrainingWinograd
    assert model[0] is model[1][0] is model[2]


def test_hooks_are_not_lost() -> None:
    model, seen = nn.Sequential(nn.Conv2d(64, 64, 3, padding=1)), []
    model[0].register_forward_hook(lambda *_: seen.append(1))
    use_winograd(model)
    model(torch.randn(1, 64, 20, 20))
    assert seen == [1]


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


@pytest.mark.parametrize("case", ["small map", "autocast", "float64", "turned off"])
def test_training_takes_the_direct_way(case: str) -> None:
    plain, quick = layers()
    x = torch.randn(1, 64, 8 if case == "small map" else 40, 40 if case != "small map" else 8)
    if case == "float64":
        plain, quick, x = plain.double(), quick.double(), x.double()
    off = fast_paths(case != "turned off")
    with torch.autocast("cpu", torch.bfloat16, enabled=case == "autocast"), off:
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
