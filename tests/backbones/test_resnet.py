from __future__ import annotations

import pickle
from typing import Any
from urllib.error import URLError

import pytest
import torch
from torch import nn

from ctnet.backbones import create_backbone, list_backbones
from ctnet.backbones.resnet import ResNetDCN
from ctnet.base.errors import CtnetError


def test_up_convolutions_start_bilinear() -> None:
    network = create_backbone("resdcn18")
    assert isinstance(network, ResNetDCN)
    ups = [layer for layer in network.deconv_layers if isinstance(layer, nn.ConvTranspose2d)]
    assert len(ups) == 3
    for up in ups:
        with torch.no_grad():
            ones = up(torch.ones(1, up.in_channels, 6, 6))[0, 0]
        torch.testing.assert_close(ones[2:-2, 2:-2], torch.full((8, 8), float(up.in_channels)))


@pytest.mark.parametrize("name", ["resnet18", "resdcn18", "resfpn18"])
def test_pretrained_fills_the_trunk(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision.models import resnet18

    torch.manual_seed(0)
    classifier = resnet18()
    monkeypatch.setattr(
        "torchvision.models._api.load_state_dict_from_url", lambda *_, **__: classifier.state_dict()
    )
    network = create_backbone(name, pretrained=True)
    trunk = {key: value for key, value in classifier.state_dict().items() if not key.startswith("fc.")}
    ours = network.state_dict()
    assert all(torch.equal(ours[key], value) for key, value in trunk.items())


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            URLError("no route to host"),
            r"cannot fetch .* \(no route to host\): put https://.* at .*, or train resfpn18",
        ),
        (PermissionError(13, "Permission denied"), r"cannot fetch .*Permission denied"),
        (RuntimeError("invalid hash value"), r"does not hold the ImageNet weights of resnet18; delete it"),
        (pickle.UnpicklingError("code in it"), r"does not hold the ImageNet weights of resnet18; delete it"),
    ],
)
def test_missing_weights_say_what_to_do(
    error: Exception, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", fail)
    with pytest.raises(CtnetError, match=message) as raised:
        create_backbone("resnet18", pretrained=True)
    assert "\n" not in str(raised.value)


def test_all_depths_are_there() -> None:
    assert len(list_backbones("resnet*")) == len(list_backbones("resdcn*")) == 5
    assert len(list_backbones("resfpn*")) == 4
