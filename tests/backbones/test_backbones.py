"""Every registered backbone keeps the contract: a new one is tested from the moment it exists."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ctnet.backbones import Backbone, create_backbone, describe_backbone, list_backbones
from ctnet.errors import CtnetError

NAMES = list_backbones()
SMALL = [name for name in NAMES if describe_backbone(name).parameters < 20e6]


def images_for(backbone: Backbone, batch: int = 1) -> Tensor:
    side = max(64, backbone.divisor)
    return torch.rand(batch, 3, side, 2 * side, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", NAMES)
def test_forward_gives_maps_of_the_promised_shape(name: str) -> None:
    torch.manual_seed(0)
    backbone = create_backbone(name).eval()
    images = images_for(backbone)
    with torch.no_grad():
        maps = backbone(images)
    assert isinstance(maps, list)
    for one in maps:
        height, width = images.shape[2] // backbone.stride, images.shape[3] // backbone.stride
        assert one.shape == (1, backbone.channels, height, width)
        assert one.isfinite().all()
    assert backbone.hidden >= 1


@pytest.mark.parametrize("name", NAMES)
def test_wrong_sizes_are_refused(name: str) -> None:
    with torch.device("meta"):
        backbone = create_backbone(name)
        side = backbone.divisor
        with pytest.raises(CtnetError, match=f"the next size that fits is {2 * side}x{side}$"):
            backbone(torch.zeros(1, 3, side + 1, side))


@pytest.mark.parametrize("name", SMALL)
def test_every_weight_gets_a_finite_gradient(name: str) -> None:
    torch.manual_seed(0)
    backbone = create_backbone(name).train()
    maps = backbone(images_for(backbone, batch=2))
    torch.stack([(one * torch.randn_like(one)).sum() for one in maps]).sum().backward()
    for parameter_name, parameter in backbone.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.isfinite().all(), parameter_name
        assert parameter.grad.any() or _starts_without_gradient(parameter_name), parameter_name


def _starts_without_gradient(name: str) -> bool:
    """A bias right before a batch norm never moves the output."""
    return name.endswith(".bias")


@pytest.mark.parametrize("name", SMALL)
def test_training_updates_batch_norm_and_evaluation_does_not(name: str) -> None:
    backbone = create_backbone(name)
    images = images_for(backbone, batch=2)
    before = {key: value.clone() for key, value in backbone.named_buffers()}
    with torch.no_grad():
        backbone.eval()(images)
        assert all(torch.equal(value, before[key]) for key, value in backbone.named_buffers())
        backbone.train()(images)
    assert not any(torch.equal(value, before[key]) for key, value in backbone.named_buffers())


@pytest.mark.parametrize("name", SMALL)
def test_state_dict_round_trip_and_channels_last(name: str) -> None:
    torch.manual_seed(0)
    first, second = create_backbone(name).eval(), create_backbone(name).eval()
    second.load_state_dict(first.state_dict())
    second.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    images = images_for(first)
    with torch.no_grad():
        for one, other in zip(first(images), second(images), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3 * one.std().item())
