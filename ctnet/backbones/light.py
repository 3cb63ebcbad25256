"""``light*``: narrow residual networks for CPUs, which learn from scratch on small data sets.

Plain 3x3 convolutions of few channels: on a CPU they run near the speed of its arithmetic, where depthwise
ones wait for memory. The number in a name is the width of the trunk at stride 4.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from ctnet.backbones._registry import Backbone, register_backbone
from ctnet.backbones.pyramid import convolution, merge, pyramid_layers
from ctnet.base.errors import CtnetError

#: By stride of a stage's map: its channels, as a multiple of the trunk's width, and its residual blocks.
_STAGES = {4: (1, 1), 8: (2, 2), 16: (4, 3), 32: (6, 2)}
#: Hidden channels of the heads beyond the trunk's width, since each head has only these to itself.
_EXTRA = 16


class Block(nn.Module):
    """Two 3x3 convolutions, added to what they read."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = _layer(width, width)
        self.second = convolution(width, width, 3)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """(B, width, H, W) -> the same shape."""
        return self.relu(x + self.second(self.first(x)))  # type: ignore[no-any-return]


def _layer(in_channels: int, out_channels: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(*convolution(in_channels, out_channels, 3, stride), nn.ReLU(inplace=True))


class Light(Backbone):
    """Four stages of residual blocks, each begun by a convolution of stride 2, and a pyramid on top.

    Args:
        width: channels at stride 4; 2, 4 and 6 times as many at 8, 16 and 32.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.channels, self.hidden = width, width + _EXTRA
        self.stem = _layer(3, width // 2, stride=2)
        self.stages = nn.ModuleDict()
        channels: dict[int, int] = {}
        before = width // 2
        for stride, (multiple, blocks) in _STAGES.items():
            after = channels[stride] = multiple * width
            layers = [_layer(before, after, stride=2), *(Block(after) for _ in range(blocks))]
            self.stages[f"stride{stride}"] = nn.Sequential(*layers)
            before = after
        self.top, self.laterals, self.fusions = pyramid_layers(channels, width)

    def freezable_stages(self) -> Mapping[str, Sequence[nn.Module]]:
        return {"stem": (self.stem,), **{name: (stage,) for name, stage in self.stages.items()}}

    def forward(self, images: Tensor) -> list[Tensor]:
        self.check_size(images)
        x = self.stem(images)
        maps: dict[int, Tensor] = {}
        for stride, stage in zip(_STAGES, self.stages.values(), strict=True):
            x = maps[stride] = stage(x)
        return [merge(maps, self.top, self.laterals, self.fusions)]


def _light(width: int, pretrained: bool) -> Backbone:
    if pretrained:
        raise CtnetError(
            f"light{width} has no ImageNet weights; train it from scratch (leave out --pretrained), which is "
            "what it is made for, or start from a checkpoint (--init RUN)"
        )
    return Light(width)


@register_backbone
def light16(pretrained: bool = False) -> Backbone:
    return _light(16, pretrained)


@register_backbone
def light32(pretrained: bool = False) -> Backbone:
    return _light(32, pretrained)


@register_backbone
def light48(pretrained: bool = False) -> Backbone:
    return _light(48, pretrained)
