from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch

from ctnet.backbones import MEAN, STD, create_backbone, describe_backbone, list_backbones, list_families
from ctnet.backbones.timm_models import TimmPyramid
from ctnet.base.errors import CtnetError

timm = pytest.importorskip("timm")

#: Convolutional; maps as (B, H, W, C); all maps at one stride.
MODELS = ["mobilenetv3_small_050", "swin_tiny_patch4_window7_224", "vit_tiny_patch16_224"]


@pytest.mark.parametrize("model", MODELS)
def test_a_model_becomes_a_backbone(model: str) -> None:
    torch.manual_seed(0)
    network = create_backbone(f"timm/{model}").train()
    height, width = 2 * network.divisor, 3 * network.divisor
    images = torch.rand(2, 3, height, width)
    (features,) = network(images)
    assert features.shape == (2, network.channels, height // 4, width // 4)
    features.square().sum().backward()
    reached = [value.grad is not None and bool(value.grad.isfinite().all()) for value in network.parameters()]
    assert sum(reached) > 0.9 * len(reached)
    again = create_backbone(f"timm/{model}")
    again.load_state_dict(network.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(network.eval()(images), again.eval()(images))
    with pytest.raises(CtnetError, match=f"the next size that fits is {height + network.divisor}x{width}"):
        network(torch.rand(1, 3, height + 1, width))


def test_the_description() -> None:
    info = describe_backbone("timm/mobilenetv3_small_050")
    assert (info.channels, info.stride, info.divisor, info.source) == (64, 4, 32, f"timm {timm.__version__}")
    network = create_backbone("timm/mobilenetv3_small_050")
    assert info.parameters == sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize("model", MODELS)
def test_images_are_normalised_as_for_the_models_own_weights(model: str) -> None:
    network = create_backbone(f"timm/{model}")
    theirs = timm.get_pretrained_cfg(model)
    assert (network.mean, network.std) == (theirs.mean, theirs.std) != (MEAN, STD)


def test_listing() -> None:
    names = list_backbones("timm/resnet1*")
    assert "timm/resnet18" in names
    assert all(name.startswith("timm/resnet1") for name in names)
    assert not any("/" in name for name in list_backbones())
    assert [family.name for family in list_families()] == ["timm"]


@pytest.mark.thorough
def test_listing_and_our_own_backbones_do_without_timm() -> None:
    code = (
        "import sys; from ctnet.backbones import create_backbone, list_backbones, list_families\n"
        "list_backbones(); create_backbone('resfpn18'); [family.source() for family in list_families()]\n"
        "print('timm' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("resnte18", r"no backbone called 'timm/resnte18'; did you mean .*timm/resnet18"),
        (
            "maxvit_tiny_tf_224",
            r"timm/maxvit_tiny_tf_224 does not accept images of any size \(AssertionError",
        ),
        ("vit_small_patch14_dinov2", r"maps at strides 14, 14, 14; a backbone needs powers of two"),
    ],
)
def test_models_that_cannot_be_backbones(model: str, message: str) -> None:
    with pytest.raises(CtnetError, match=message) as raised:
        create_backbone(f"timm/{model}")
    assert "\n" not in str(raised.value)


def test_a_model_that_cannot_be_one_is_described_by_its_error() -> None:
    info = describe_backbone("timm/maxvit_tiny_tf_224")
    assert "does not accept images of any size" in info.error
    assert info.channels == 0


def test_without_timm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    for ask in (lambda: create_backbone("timm/resnet18"), lambda: list_backbones("timm/*")):
        with pytest.raises(
            CtnetError, match=r"need timm, which does not import here \(.*\): pip install timm$"
        ):
            ask()
    assert "resfpn18" in list_backbones()


def test_weights_that_are_not_available(monkeypatch: pytest.MonkeyPatch) -> None:
    create = timm.create_model

    def offline(model: str, pretrained: bool = False, **options: Any) -> Any:
        if pretrained:
            raise OSError("we are offline")
        return create(model, **options)

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(
        CtnetError, match=r"weights of resnet18 \(OSError: we are offline\): they come from hugg"
    ):
        TimmPyramid("resnet18", pretrained=True)
