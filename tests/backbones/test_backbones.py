"""Every registered backbone keeps the contract: a new one is tested from the moment it exists."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from ctnet.backbones import Backbone, create_backbone, describe_backbone, list_backbones
from ctnet.base.errors import CtnetError

NAMES = list_backbones()
PARAMETERS = {name: describe_backbone(name).parameters for name in NAMES}
DEPTHS: dict[str, list[str]] = {}
for _name in sorted(NAMES, key=PARAMETERS.__getitem__):
    DEPTHS.setdefault(_name.rstrip("0123456789"), []).append(_name)
#: Slow tests run on the smallest of each kind; the others differ from it only in the number of blocks.
SMALLEST = [names[0] for names in DEPTHS.values()]
#: Networks of more weights are left to the thorough tests.
LARGE = 40_000_000


def large_are_thorough(names: list[str]) -> list[Any]:
    return [
        pytest.param(name, marks=pytest.mark.thorough) if PARAMETERS[name] > LARGE else name for name in names
    ]


@pytest.fixture(scope="module", params=large_are_thorough(NAMES))
def backbone(request: pytest.FixtureRequest) -> Backbone:
    return build(request.param)


@pytest.fixture(scope="module", params=large_are_thorough(SMALLEST))
def smallest(request: pytest.FixtureRequest) -> Backbone:
    return build(request.param)


_built: dict[str, Backbone] = {}


def build(name: str) -> Backbone:
    if name in _built:
        return _built[name]
    torch.manual_seed(0)
    backbone = create_backbone(name)
    if name in SMALLEST:
        _built[name] = backbone
    return backbone


def images_for(backbone: Backbone, batch: int = 1) -> Tensor:
    side = max(64, backbone.divisor)
    shape = (batch, 3, side, 2 * side if batch == 1 else side)
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


def is_frozen(backbone: Backbone, entry: str) -> bool:
    """Whether an entry belongs to a layer whose output nothing reads (DLA has two)."""
    parameters = list(backbone.get_submodule(entry.rpartition(".")[0]).parameters(recurse=False))
    return not any(parameter.requires_grad for parameter in parameters)


def test_forward_gives_maps_of_the_promised_shape(backbone: Backbone) -> None:
    images = images_for(backbone)
    with torch.no_grad():
        maps = backbone.eval()(images)
    assert isinstance(maps, list)
    assert len(maps) == backbone.stacks
    for one in maps:
        height, width = images.shape[2] // backbone.stride, images.shape[3] // backbone.stride
        assert one.shape == (1, backbone.channels, height, width)
        assert one.isfinite().all()
    assert backbone.hidden >= 1


def test_wrong_sizes_are_refused(backbone: Backbone) -> None:
    side = backbone.divisor
    with pytest.raises(CtnetError, match=f"the next size that fits is {2 * side}x{side}$"):
        backbone(torch.zeros(1, 3, side + 1, side))
    with pytest.raises(CtnetError, match=f"the next size that fits is {side}x{3 * side}$"):
        backbone(torch.zeros(1, 3, side // 2, 3 * side - 1))


def test_every_weight_gets_a_finite_gradient(smallest: Backbone) -> None:
    smallest.train().zero_grad()
    maps = smallest(images_for(smallest, batch=2))
    torch.stack([(one * torch.randn_like(one)).sum() for one in maps]).sum().backward()
    for name, parameter in smallest.named_parameters():
        if is_frozen(smallest, name):
            continue
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any() or _starts_without_gradient(name), name
    smallest.zero_grad()


def _starts_without_gradient(name: str) -> bool:
    """A bias directly before a batch norm never changes the output."""
    return name.endswith(".bias")


def test_training_uses_and_updates_the_batch_and_evaluation_does_not(smallest: Backbone) -> None:
    images = images_for(smallest, batch=2)
    before = {key: value.clone() for key, value in smallest.named_buffers()}
    with torch.no_grad():
        evaluated = smallest.eval()(images)[-1]
        assert all(torch.equal(value, before[key]) for key, value in smallest.named_buffers())
        trained = smallest.train()(images)[-1]
    for key, value in smallest.named_buffers():
        assert torch.equal(value, before[key]) == is_frozen(smallest, key), key
    assert not torch.allclose(trained, evaluated)


def test_state_dict_round_trip_and_channels_last(smallest: Backbone) -> None:
    with torch.device("meta"):
        other = create_backbone(next(name for name in NAMES if PARAMETERS[name] == count(smallest)))
    other = other.to_empty(device="cpu").eval()
    other.load_state_dict(smallest.state_dict())
    other.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    images = images_for(smallest)
    with torch.no_grad():
        for one, again in zip(smallest.eval()(images), other(images), strict=True):
            torch.testing.assert_close(one, again, rtol=1e-3, atol=1e-3 * one.std().item())


def count(backbone: Backbone) -> int:
    return sum(parameter.numel() for parameter in backbone.parameters())
