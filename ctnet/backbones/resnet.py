"""ResNets whose last map is upsampled to a quarter of the input, in three ways.

``resnet*`` (plain up-convolutions) and ``resdcn*`` (deformable convolutions between them) are the paper's;
they need ImageNet weights. ``resfpn*`` can be trained from scratch on small data sets.
"""

from __future__ import annotations

import pickle
import sys
from collections.abc import Mapping, Sequence
from urllib.error import URLError

import torch
from torch import Tensor, nn
from torchvision.models import get_model_weights
from torchvision.models import resnet as tv

from ctnet.backbones._registry import Backbone, register_backbone
from ctnet.backbones.pyramid import merge, pyramid_layers
from ctnet.base.errors import CtnetError
from ctnet.ops.deform_conv import DeformConv

_STAGES = {
    18: (tv.BasicBlock, (2, 2, 2, 2)),
    34: (tv.BasicBlock, (3, 4, 6, 3)),
    50: (tv.Bottleneck, (3, 4, 6, 3)),
    101: (tv.Bottleneck, (3, 4, 23, 3)),
    152: (tv.Bottleneck, (3, 8, 36, 3)),
}

_STRIDES = (4, 8, 16, 32)  # of the maps after each stage


class ResNetTrunk(Backbone):
    """The convolutional part of torchvision's ResNet, under the same names.

    Args:
        depth: 18, 34, 50, 101 or 152.
        pretrained: start from torchvision's ImageNet weights.

    Raises:
        CtnetError: when the ImageNet weights cannot be loaded.
    """

    def __init__(self, depth: int, pretrained: bool) -> None:
        super().__init__()
        block, layers = _STAGES[depth]
        classifier = tv.ResNet(block, list(layers))
        if pretrained:
            classifier.load_state_dict(_imagenet_weights(f"resnet{depth}"))
        self.conv1, self.bn1 = classifier.conv1, classifier.bn1
        self.relu, self.maxpool = classifier.relu, classifier.maxpool
        self.layer1, self.layer2 = classifier.layer1, classifier.layer2
        self.layer3, self.layer4 = classifier.layer3, classifier.layer4
        self.stage_channels = [width * block.expansion for width in (64, 128, 256, 512)]

    def freezable_stages(self) -> Mapping[str, Sequence[nn.Module]]:
        return {
            "stem": (self.conv1, self.bn1),
            **{name: (self.get_submodule(name),) for name in ("layer1", "layer2", "layer3", "layer4")},
        }

    def maps_of_stages(self, images: Tensor) -> list[Tensor]:
        """The maps after each of the four stages, at strides 4, 8, 16 and 32."""
        self.check_size(images)
        x = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        maps = []
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = stage(x)
            maps.append(x)
        return maps


def _imagenet_weights(name: str) -> Mapping[str, Tensor]:
    weights = get_model_weights(name).IMAGENET1K_V1
    target = f"{torch.hub.get_dir()}/checkpoints/{weights.url.rsplit('/', 1)[1]}"
    try:
        state: Mapping[str, Tensor] = weights.get_state_dict(
            progress=sys.stderr.isatty(), check_hash=True, weights_only=True
        )
    except (URLError, OSError) as error:
        reason = getattr(error, "reason", None) or error
        raise CtnetError(
            f"cannot fetch the ImageNet weights of {name} ({reason}): put {weights.url} at {target}, "
            "or train resfpn18, which does not need them"
        ) from error
    except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise CtnetError(
            f"{target} does not hold the ImageNet weights of {name}; delete it and try again"
        ) from error
    return state


def _up_convolution(in_channels: int, out_channels: int) -> nn.ConvTranspose2d:
    return nn.ConvTranspose2d(in_channels, out_channels, 4, stride=2, padding=1, bias=False)


class ResNet(ResNetTrunk):
    """ResNet with three plain up-convolutions (Xiao et al., Simple Baselines, 2018, section 2)."""

    channels = 256
    head_std = 0.001
    learns_from_scratch = False

    def __init__(self, depth: int, pretrained: bool) -> None:
        super().__init__(depth, pretrained)
        layers: list[nn.Module] = []
        for in_channels in (self.stage_channels[-1], 256, 256):
            up = _up_convolution(in_channels, 256)
            nn.init.normal_(up.weight, std=0.001)
            layers += [up, nn.BatchNorm2d(256), nn.ReLU(inplace=True)]
        self.deconv_layers = nn.Sequential(*layers)

    def forward(self, images: Tensor) -> list[Tensor]:
        return [self.deconv_layers(self.maps_of_stages(images)[-1])]


class ResNetDCN(ResNetTrunk):
    """ResNet with a deformable convolution before each of three up-convolutions (section 5 of the paper)."""

    channels = 64
    head_std = 0.001
    learns_from_scratch = False

    def __init__(self, depth: int, pretrained: bool) -> None:
        super().__init__(depth, pretrained)
        layers: list[nn.Module] = []
        in_channels = self.stage_channels[-1]
        for width in (256, 128, 64):
            up = _up_convolution(width, width)
            _start_bilinear(up)
            layers += [DeformConv(in_channels, width), nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
            layers += [up, nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
            in_channels = width
        self.deconv_layers = nn.Sequential(*layers)

    def forward(self, images: Tensor) -> list[Tensor]:
        return [self.deconv_layers(self.maps_of_stages(images)[-1])]


def _start_bilinear(up: nn.ConvTranspose2d) -> None:
    """As in the released code, only output channel 0 starts as bilinear upsampling (of all inputs)."""
    ramp = torch.tensor([0.25, 0.75, 0.75, 0.25])
    with torch.no_grad():
        up.weight[:, 0] = torch.outer(ramp, ramp)


class ResNetFPN(ResNetTrunk):
    """ResNet with lateral connections (``ctnet.backbones.pyramid``).

    Every stage of the trunk is only a few layers from the loss, so it can be trained without ImageNet
    weights.
    """

    channels = 64

    def __init__(self, depth: int, pretrained: bool) -> None:
        super().__init__(depth, pretrained)
        channels = dict(zip(_STRIDES, self.stage_channels, strict=True))
        self.top, self.laterals, self.fusions = pyramid_layers(channels)

    def forward(self, images: Tensor) -> list[Tensor]:
        maps = dict(zip(_STRIDES, self.maps_of_stages(images), strict=True))
        return [merge(maps, self.top, self.laterals, self.fusions)]


@register_backbone
def resnet18(pretrained: bool = False) -> Backbone:
    return ResNet(18, pretrained)


@register_backbone
def resnet34(pretrained: bool = False) -> Backbone:
    return ResNet(34, pretrained)


@register_backbone
def resnet50(pretrained: bool = False) -> Backbone:
    return ResNet(50, pretrained)


@register_backbone
def resnet101(pretrained: bool = False) -> Backbone:
    return ResNet(101, pretrained)


@register_backbone
def resnet152(pretrained: bool = False) -> Backbone:
    return ResNet(152, pretrained)


@register_backbone
def resdcn18(pretrained: bool = False) -> Backbone:
    return ResNetDCN(18, pretrained)


@register_backbone
def resdcn34(pretrained: bool = False) -> Backbone:
    return ResNetDCN(34, pretrained)


@register_backbone
def resdcn50(pretrained: bool = False) -> Backbone:
    return ResNetDCN(50, pretrained)


@register_backbone
def resdcn101(pretrained: bool = False) -> Backbone:
    return ResNetDCN(101, pretrained)


@register_backbone
def resdcn152(pretrained: bool = False) -> Backbone:
    return ResNetDCN(152, pretrained)


@register_backbone
def resfpn18(pretrained: bool = False) -> Backbone:
    return ResNetFPN(18, pretrained)


@register_backbone
def resfpn34(pretrained: bool = False) -> Backbone:
    return ResNetFPN(34, pretrained)


@register_backbone
def resfpn50(pretrained: bool = False) -> Backbone:
    return ResNetFPN(50, pretrained)


@register_backbone
def resfpn101(pretrained: bool = False) -> Backbone:
    return ResNetFPN(101, pretrained)
