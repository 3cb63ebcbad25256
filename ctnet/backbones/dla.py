"""DLA-34 with deformable convolutions around every upsampling step, to a quarter of the input.

Modules carry the names of the authors' release, so that its checkpoints map entry for entry.

Source:
    figure 6d of the paper; Yu et al., Deep Layer Aggregation, 2018.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from ctnet.backbones._registry import Backbone, register_backbone
from ctnet.ops.deform_conv import DeformConv

_WIDTHS = (16, 32, 64, 128, 256, 512)  # of levels 0 to 5, at strides 1, 2, 4, 8, 16, 32


def _convolution(in_channels: int, out_channels: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, kernel, stride, padding=kernel // 2, bias=False)


def _layer(in_channels: int, out_channels: int, kernel: int, stride: int = 1) -> nn.Sequential:
    convolution = _convolution(in_channels, out_channels, kernel, stride)
    return nn.Sequential(convolution, nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True))


# --- the trunk: trees of residual blocks


class Block(nn.Module):
    """Two 3x3 convolutions, to which the caller's residual is added."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = _convolution(in_channels, out_channels, 3, stride)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = _convolution(out_channels, out_channels, 3)
        self.bn2 = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor, residual: Tensor) -> Tensor:
        out: Tensor = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        out += residual
        return self.relu(out)  # type: ignore[no-any-return]


class Root(nn.Module):
    """Aggregation: a 1x1 convolution over the concatenated maps."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = _convolution(in_channels, out_channels, 1)
        self.bn = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        return self.relu(self.bn(self.conv(torch.cat(tuple(maps), dim=1))))  # type: ignore[no-any-return]


class Tree(nn.Module):
    """Hierarchical aggregation of 2**depth blocks.

    Args:
        depth: 1 for two blocks and a root, n for two trees of depth n - 1, the second of which has the root.
        in_channels, out_channels: channels of the tree's input and output.
        stride: the stride of the first block.
        keeps_input: whether the root also reads the tree's own (pooled) input.
        carried: channels that the root reads in addition, from enclosing trees.
    """

    def __init__(
        self,
        depth: int,
        in_channels: int,
        out_channels: int,
        stride: int = 1,
        keeps_input: bool = False,
        carried: int = 0,
    ) -> None:
        super().__init__()
        self.depth, self.keeps_input = depth, keeps_input
        carried += in_channels if keeps_input else 0
        self.downsample = nn.MaxPool2d(stride) if stride > 1 else nn.Identity()
        if depth == 1:
            self.tree1: nn.Module = Block(in_channels, out_channels, stride)
            self.tree2: nn.Module = Block(out_channels, out_channels, 1)
            self.root = Root(2 * out_channels + carried, out_channels)
        else:
            self.tree1 = Tree(depth - 1, in_channels, out_channels, stride)
            self.tree2 = Tree(depth - 1, out_channels, out_channels, carried=carried + out_channels)
        self.project: nn.Module = nn.Identity()
        if in_channels != out_channels:
            self.project = nn.Sequential(
                _convolution(in_channels, out_channels, 1), nn.BatchNorm2d(out_channels)
            )
        if depth > 1:
            # The published network has this projection and never reads its output. It is kept so that files
            # map entry for entry, and frozen so that distributed training does not wait for its gradient.
            self.project.requires_grad_(False)

    def forward(self, x: Tensor, carried: tuple[Tensor, ...] = ()) -> Tensor:
        """(B, in, H, W) -> (B, out, H / stride, W / stride)."""
        if self.keeps_input:
            carried = (*carried, self.downsample(x))
        if self.depth == 1:
            first = self.tree1(x, self.project(self.downsample(x)))
            second = self.tree2(first, first)
            return self.root((second, first, *carried))  # type: ignore[no-any-return]
        first = self.tree1(x)
        return self.tree2(first, (*carried, first))  # type: ignore[no-any-return]


class Trunk(nn.Module):
    """The convolutional part of DLA-34: six levels, each at half the resolution of the one before."""

    def __init__(self) -> None:
        super().__init__()
        self.base_layer = _layer(3, _WIDTHS[0], 7)
        self.level0 = _layer(_WIDTHS[0], _WIDTHS[0], 3)
        self.level1 = _layer(_WIDTHS[0], _WIDTHS[1], 3, stride=2)
        self.level2 = Tree(1, _WIDTHS[1], _WIDTHS[2], stride=2)
        self.level3 = Tree(2, _WIDTHS[2], _WIDTHS[3], stride=2, keeps_input=True)
        self.level4 = Tree(2, _WIDTHS[3], _WIDTHS[4], stride=2, keeps_input=True)
        self.level5 = Tree(1, _WIDTHS[4], _WIDTHS[5], stride=2, keeps_input=True)

    def forward(self, images: Tensor) -> list[Tensor]:
        """The maps of levels 2 to 5, at strides 4, 8, 16 and 32."""
        x = self.level1(self.level0(self.base_layer(images)))
        maps = []
        for level in (self.level2, self.level3, self.level4, self.level5):
            x = level(x)
            maps.append(x)
        return maps


# --- upsampling: iterative deep aggregation


class DeformableLayer(nn.Module):
    """A deformable convolution, batch norm and ReLU."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.actf = nn.Sequential(nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True))
        self.conv = DeformConv(in_channels, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.actf(self.conv(x))  # type: ignore[no-any-return]


class IterativeAggregation(nn.Module):
    """Resizes maps to the width and size of the first, merging each into the next.

    Args:
        out_channels: width of the outputs.
        channels: widths of the maps, finest first; the first is ``out_channels``.
        factors: how much coarser each map is than the first.
    """

    def __init__(self, out_channels: int, channels: Sequence[int], factors: Sequence[int]) -> None:
        super().__init__()
        for i in range(1, len(channels)):
            factor = factors[i]
            up = nn.ConvTranspose2d(
                out_channels,
                out_channels,
                2 * factor,
                stride=factor,
                padding=factor // 2,
                groups=out_channels,
                bias=False,
            )
            _start_bilinear(up)
            self.add_module(f"proj_{i}", DeformableLayer(channels[i], out_channels))
            self.add_module(f"up_{i}", up)
            self.add_module(f"node_{i}", DeformableLayer(out_channels, out_channels))

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Maps, finest first -> the first unchanged, and each of the others merged with all before it."""
        merged = [maps[0]]
        for i, coarser in enumerate(maps[1:], start=1):
            project, up, node = (self.get_submodule(f"{kind}_{i}") for kind in ("proj", "up", "node"))
            merged.append(node(up(project(coarser)) + merged[-1]))
        return merged


def _start_bilinear(up: nn.ConvTranspose2d) -> None:
    """Initialise every channel's kernel as bilinear interpolation by the layer's stride."""
    size = up.kernel_size[0]
    ramp = 1 - (torch.arange(size) - (size - 1) / 2).abs() / up.stride[0]
    with torch.no_grad():
        up.weight.copy_(torch.outer(ramp, ramp).expand_as(up.weight))


class PyramidAggregation(nn.Module):
    """Aggregates the coarsest two maps, then three, then all: one result per number of maps."""

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        self.steps = len(channels) - 1
        for step in range(self.steps):
            finest = len(channels) - 2 - step
            # The previous step has resized all coarser maps to the width and size of its finest.
            coarser = [channels[finest + 1]] * (step + 1)
            self.add_module(
                f"ida_{step}",
                IterativeAggregation(channels[finest], [channels[finest], *coarser], [1, *[2] * (step + 1)]),
            )

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Maps at strides 4, 8, 16, 32 -> aggregated maps at the same strides."""
        coarser = [maps[-1]]
        results = [maps[-1]]
        for step in range(self.steps):
            aggregate = self.get_submodule(f"ida_{step}")
            coarser = aggregate([maps[-2 - step], *coarser])
            results.insert(0, coarser[-1])
        return results


class DLA(Backbone):
    """DLA-34 with deformable upsampling to stride 4."""

    channels = 64
    hidden = 256

    def __init__(self) -> None:
        super().__init__()
        widths = _WIDTHS[2:]
        self.base = Trunk()
        self.dla_up = PyramidAggregation(widths)
        self.ida_up = IterativeAggregation(widths[0], widths[:3], (1, 2, 4))

    def freezable_stages(self) -> Mapping[str, Sequence[nn.Module]]:
        base = self.base
        return {
            "stem": (base.base_layer, base.level0, base.level1),
            **{name: (base.get_submodule(name),) for name in ("level2", "level3", "level4", "level5")},
        }

    def forward(self, images: Tensor) -> list[Tensor]:
        self.check_size(images)
        maps = self.dla_up(self.base(images))
        return [self.ida_up(maps[:3])[-1]]


@register_backbone
def dla34(pretrained: bool = False) -> Backbone:
    network = DLA()
    if pretrained:
        from ctnet.backbones.timm_models import imagenet_weights

        # timm omits the two unused projections, and has a classifier that this network does not.
        weights = imagenet_weights("dla34")
        network.base.load_state_dict(
            {
                **{name: value for name, value in network.base.state_dict().items() if _is_unread(name)},
                **{name: value for name, value in weights.items() if not name.startswith("fc.")},
            }
        )
    return network


def _is_unread(name: str) -> bool:
    return name.startswith(("level3.project.", "level4.project."))
