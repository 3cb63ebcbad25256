from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from ctnet.backbones import create_backbone
from ctnet.backbones.dla import DLA
from ctnet.base.errors import CtnetError
from ctnet.ops.deform_conv import DeformConv


@pytest.fixture(scope="module")
def network() -> DLA:
    torch.manual_seed(0)
    backbone = create_backbone("dla34")
    assert isinstance(backbone, DLA)
    return backbone


def test_deformable_convolutions_surround_every_up_sampling(network: DLA) -> None:
    """1 + 2 + 3 up-samplings up to the pyramid and 2 to the output, each with a projection and a node."""
    ups = [layer for layer in network.modules() if isinstance(layer, nn.ConvTranspose2d)]
    deformable = [layer for layer in network.modules() if isinstance(layer, DeformConv)]
    assert (len(ups), len(deformable)) == (8, 16)


def test_up_convolutions_start_as_bilinear_interpolation(network: DLA) -> None:
    for up in (layer for layer in network.modules() if isinstance(layer, nn.ConvTranspose2d)):
        image = torch.rand(1, up.in_channels, 5, 6)
        factor = up.stride[0]
        expected = nn.functional.interpolate(image, scale_factor=factor, mode="bilinear")
        with torch.no_grad():
            inside = up(image)[..., factor:-factor, factor:-factor]  # at the border zero padding is mixed in
        torch.testing.assert_close(inside, expected[..., factor:-factor, factor:-factor])


def test_what_nothing_reads_is_frozen(network: DLA) -> None:
    """So that distributed training does not wait for gradients that never come."""
    frozen = {name for name, value in network.named_parameters() if not value.requires_grad}
    assert frozen == {
        f"base.level{level}.project.{entry}"
        for level in (3, 4)
        for entry in ("0.weight", "1.weight", "1.bias")
    }


def test_imagenet_weights_fill_the_trunk(monkeypatch: pytest.MonkeyPatch) -> None:
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    classifier = timm.create_model("dla34")
    monkeypatch.setattr(timm, "create_model", lambda name, pretrained: classifier)
    trunk = create_backbone("dla34", pretrained=True).base.state_dict()  # type: ignore[union-attr]
    theirs = {name: value for name, value in classifier.state_dict().items() if not name.startswith("fc.")}
    assert all(torch.equal(trunk[name], value) for name, value in theirs.items())
    assert {name.split(".project")[0] for name in trunk.keys() - theirs.keys()} == {"level3", "level4"}
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        ours = create_backbone("dla34", pretrained=True).eval().base(images)[-1]  # type: ignore[operator, union-attr]
        torch.testing.assert_close(ours, classifier.eval().forward_features(images))


def test_weights_that_are_not_available(monkeypatch: pytest.MonkeyPatch) -> None:
    timm = pytest.importorskip("timm")

    def fail(*_: Any, **__: Any) -> None:
        raise OSError("no route to host\nand a long story")

    monkeypatch.setattr(timm, "create_model", fail)
    with pytest.raises(
        CtnetError, match=r"timm's weights of dla34 \(OSError: no route to host\): they come from"
    ):
        create_backbone("dla34", pretrained=True)
