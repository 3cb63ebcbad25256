"""Hourglass-104: two stacked hourglasses, each of which feeds the heads (intermediate supervision).

Modules carry the names of the authors' release, so that its checkpoints map entry for entry.

Source:
    appendix A and figure 6a of the paper; Law and Deng, CornerNet, 2018, section 4.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from ctnet.backbones._registry import Backbone, register_backbone
from ctnet.base.errors import CtnetError

_WIDTHS = (256, 256, 384, 384, 384, 512)  # at strides 4, 8, 16, 32, 64, 128
_BLOCKS = (2, 2, 2, 2, 2, 4)


class Convolution(nn.Module):
    """A convolution, batch norm and ReLU."""

    def __init__(self, kernel: int, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, bias=False)
        self.bn = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.bn(self.conv(x)))  # type: ignore[no-any-return]


class Residual(nn.Module):
    """Two 3x3 convolutions with a shortcut, projected where width or size change."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.relu1 = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.skip = nn.Sequential()
        if stride != 1 or in_channels != out_channels:
            self.skip = _projection(in_channels, out_channels, stride)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn2(self.conv2(self.relu1(self.bn1(self.conv1(x)))))
        return self.relu(out + self.skip(x))  # type: ignore[no-any-return]


def _projection(in_channels: int, out_channels: int, stride: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(out_channels))


def _residuals(*widths: int, stride: int = 1) -> nn.Sequential:
    """A chain of residual blocks from each width to the next, the first with a stride."""
    steps = pairwise(widths)
    return nn.Sequential(*(Residual(a, b, stride if i == 0 else 1) for i, (a, b) in enumerate(steps)))


class Hourglass(nn.Module):
    """Halves the map, processes it (with an hourglass one level deeper), doubles it and adds the original.

    Args:
        widths: channels here and at each coarser level.
        blocks: residual blocks here and at each coarser level.
    """

    def __init__(self, widths: Sequence[int], blocks: Sequence[int]) -> None:
        super().__init__()
        here, below = widths[:2]
        self.up1 = _residuals(*[here] * (blocks[0] + 1))
        self.low1 = _residuals(here, *[below] * blocks[0], stride=2)
        self.low2 = (
            Hourglass(widths[1:], blocks[1:]) if len(widths) > 2 else _residuals(*[below] * (blocks[1] + 1))
        )
        self.low3 = _residuals(*[below] * blocks[0], here)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        below = self.low3(self.low2(self.low1(x)))
        return self.up1(x) + F.interpolate(below, scale_factor=2.0, mode="nearest")  # type: ignore[no-any-return]


class StackedHourglass(Backbone):
    """Two hourglasses; the second one reads the features of the stem and of the first."""

    channels = 256
    divisor = 128
    hidden = 256
    stacks = 2

    def __init__(self) -> None:
        super().__init__()
        width = _WIDTHS[0]
        self.pre = nn.Sequential(Convolution(7, 3, 128, stride=2), Residual(128, width, stride=2))
        self.kps = nn.ModuleList(Hourglass(_WIDTHS, _BLOCKS) for _ in range(self.stacks))
        self.cnvs = nn.ModuleList(Convolution(3, width, self.channels) for _ in range(self.stacks))
        between = range(self.stacks - 1)
        self.inters = nn.ModuleList(Residual(width, width) for _ in between)
        self.inters_ = nn.ModuleList(_projection(width, width) for _ in between)
        self.cnvs_ = nn.ModuleList(_projection(self.channels, width) for _ in between)

    def freezable_stages(self) -> Mapping[str, Sequence[nn.Module]]:
        found: dict[str, Sequence[nn.Module]] = {"stem": (self.pre,)}
        for stack in range(self.stacks):
            between = (self.inters_, self.cnvs_, self.inters) if stack else ()
            entry = [modules[stack - 1] for modules in between]
            found[f"hourglass{stack + 1}"] = (*entry, self.kps[stack], self.cnvs[stack])
        return found

    def forward(self, images: Tensor) -> list[Tensor]:
        self.check_size(images)
        x = self.pre(images)
        maps = []
        for stack in range(self.stacks):
            maps.append(self.cnvs[stack](self.kps[stack](x)))
            if stack < self.stacks - 1:
                x = F.relu(self.inters_[stack](x) + self.cnvs_[stack](maps[-1]))
                x = self.inters[stack](x)
        return maps


@register_backbone
def hourglass104(pretrained: bool = False) -> Backbone:
    if pretrained:
        raise CtnetError(
            "hourglass104 has no ImageNet weights; start from a converted checkpoint of the authors' release "
            "(ctnet convert checkpoint), or train from scratch"
        )
    return StackedHourglass()
