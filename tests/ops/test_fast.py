"""The switch for the fast paths, and what a captured graph sees of them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from ctnet.base.errors import CtnetError
from ctnet.core.heads import Heatmap, Regression
from ctnet.model import create_model
from ctnet.ops import deform_conv, winograd_layers
from ctnet.ops.deform_conv import DeformConv
from ctnet.ops.fast import VARIABLE, fast_paths, fast_paths_enabled
from ctnet.ops.winograd_layers import InferenceWinograd, TrainingWinograd, use_winograd


@pytest.fixture(autouse=True)
def _unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)


class Layers(nn.Module):
    """One layer with each fast path."""

    def __init__(self) -> None:
        super().__init__()
        self.deformable = DeformConv(64, 64)
        self.trained = TrainingWinograd(64, 64, 3, padding=1)
        self.ready = InferenceWinograd(nn.Conv2d(64, 8, 3, padding=1).requires_grad_(False))

    def forward(self, x: Tensor) -> Tensor:
        x = self.trained(self.deformable(x))
        return self.ready(x.detach())  # type: ignore[no-any-return]


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the fast paths that are taken from here on, in order."""
    names: list[str] = []

    def note(module: object, name: str) -> None:
        real: Callable[..., object] = getattr(module, name)

        def noted(*arguments: object) -> object:
            names.append(name)
            return real(*arguments)

        monkeypatch.setattr(module, name, noted)

    note(deform_conv, "_gather")
    note(winograd_layers, "convolve")
    return names


def picture() -> Tensor:
    return torch.randn(1, 64, 20, 20, generator=torch.Generator().manual_seed(0))


def test_on_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    assert fast_paths_enabled()
    for value, enabled in [("", True), ("1", True), ("0", False)]:
        monkeypatch.setenv(VARIABLE, value)
        assert fast_paths_enabled() == enabled


def test_another_value_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "off")
    with pytest.raises(CtnetError, match="CTNET_FAST is 'off'; set it to 0 to turn all fast paths off, or"):
        fast_paths_enabled()


def test_a_block_is_stronger_than_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "0")
    with fast_paths(True):
        assert fast_paths_enabled()
        with fast_paths(False):
            assert not fast_paths_enabled()
        assert fast_paths_enabled()
    assert not fast_paths_enabled()


def test_a_block_ends_with_an_error() -> None:
    with pytest.raises(ZeroDivisionError), fast_paths(False):
        raise ZeroDivisionError
    assert fast_paths_enabled()


def test_the_variable_turns_every_fast_path_off(monkeypatch: pytest.MonkeyPatch, taken: list[str]) -> None:
    torch.manual_seed(0)
    layers, x = Layers(), picture()
    fast = layers(x)
    assert taken == ["_gather", "convolve", "convolve"]
    monkeypatch.setenv(VARIABLE, "0")
    torch.testing.assert_close(layers(x), fast, rtol=0, atol=2e-5)
    assert len(taken) == 3


def compiled(layers: nn.Module, x: Tensor) -> Tensor:
    torch._dynamo.reset()
    return torch.compile(layers, backend="eager", fullgraph=True)(x)  # type: ignore[no-any-return]


def exported(layers: nn.Module, x: Tensor) -> Tensor:
    program = torch.export.export(layers, (x,), strict=False)
    assert "torchvision.deform_conv2d" in str(program.graph)
    return program.module()(x)  # type: ignore[no-any-return]


def traced(layers: nn.Module, x: Tensor) -> Tensor:
    graph = torch.jit.trace(layers, x, check_trace=False)
    assert "torchvision::deform_conv2d" in str(graph.inlined_graph)
    return graph(x)  # type: ignore[no-any-return]


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize("capture", [compiled, exported, traced])
def test_a_captured_graph_is_the_plain_network(
    capture: Callable[[nn.Module, Tensor], Tensor], taken: list[str]
) -> None:
    torch.manual_seed(0)
    layers, x = Layers().eval(), picture()
    with fast_paths(True):
        found = capture(layers, x)
    assert taken == []
    with fast_paths(False):
        torch.testing.assert_close(found, layers(x), rtol=0, atol=1e-5)


@pytest.mark.thorough
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("backbone", ["resdcn18", "resfpn18"])
def test_whole_networks_compile_without_a_graph_break(backbone: str, training: bool) -> None:
    model = create_model({"heatmap": Heatmap(3), "size": Regression(2)}, backbone).train(training)
    use_winograd(model)
    torch._dynamo.reset()
    found = torch._dynamo.explain(model)(torch.zeros(1, 3, 64, 64))
    assert (found.graph_count, found.graph_break_count) == (1, 0), found.break_reasons
