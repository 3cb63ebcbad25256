"""CenterNet: a backbone and one small convolutional branch per head."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from ctnet.backbones import Backbone, create_backbone
from ctnet.base.errors import CtnetError
from ctnet.core.frames import Frames
from ctnet.core.heads import Head, Heatmap
from ctnet.core.targets import CellTargets, Target
from ctnet.core.task import Task
from ctnet.ops.modules import replace_modules

#: Cells are computed one by one up to this fraction of the map; above it the whole map is as fast.
_FEW = 1 / 4

#: The network that reads the earlier frame.
_EARLIER = "light16"

#: Side of the largest input, pixels: OpenCV does not resample larger images.
LARGEST_INPUT = 32766


class CenterNet(nn.Module):
    """A backbone whose features every head reads through a 3x3 convolution, ReLU and a 1x1 convolution.

    Attributes:
        backbone: images -> one stride-4 feature map per stack.
        heads: the head of each branch.
        branches: one module per stack; its children have the heads' names.
        earlier: what adds the earlier frame to the features, for tasks that see two; None for others.

    Source: section 3 and appendix A.
    """

    def __init__(
        self,
        backbone: Backbone,
        heads: Mapping[str, Head],
        small_heads: bool = True,
        frames: Frames | None = None,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.earlier = None if frames is None or frames.count == 1 else Earlier(backbone, frames.inputs)
        self.heads = dict(heads)
        std = backbone.head_std if small_heads else None
        self.branches = nn.ModuleList(
            nn.ModuleDict({name: _branch(backbone, head, std) for name, head in heads.items()})
            for _ in range(backbone.stacks)
        )

    @property
    def inputs(self) -> int:
        """Channels of the images: 3, or those of ``Frames.inputs``."""
        return 3 if self.earlier is None else self.earlier.inputs

    def features(self, images: Tensor) -> list[Tensor]:
        """The feature map of every stack, which the heads read; arguments as ``forward``."""
        if self.earlier is None:
            return self.backbone(images)  # type: ignore[no-any-return]
        more = self.earlier(images)
        return [features + more for features in self.backbone(images[:, :3])]

    def forward(self, images: Tensor, targets: Mapping[str, Target] | None = None) -> list[dict[str, Tensor]]:
        """Raw predictions of every stack, for each head in the form that its target needs.

        A head with targets at single cells is computed only there, so training computes little more than one
        of the paper's three branches.

        Args:
            images: (B, 3, H, W), normalised RGB; H and W divisible by ``backbone.divisor``. More channels for
                tasks that see two frames, see ``Frames``.
            targets: in training, every head's targets, joined over the batch, on the images' device.

        Returns:
            One {head name: raw values} per stack; the last is the one to decode. Values are the whole map
            (B, channels, H / 4, W / 4), but (M, channels) where targets are ``CellTargets`` of M rows.
        """
        targets = targets or {}
        return [
            {name: _as_read(branch, feature, targets.get(name)) for name, branch in branches.items()}  # type: ignore[operator]
            for feature, branches in zip(self.features(images), self.branches, strict=True)
        ]

    def activated(self, images: Tensor) -> dict[str, Tensor]:
        """The last stack's activated maps, as ``Task.decode`` reads them.

        The heads of earlier stacks are only used in training and are not computed here.
        """
        features, branches = self.features(images)[-1], self.branches[-1]
        return {
            name: head.activate(branches[name](features).float())  # type: ignore[index]
            for name, head in self.heads.items()
        }


class Earlier(nn.Module):
    """What a frame shows together with the one before it, added to the features of the frame alone.

    A small backbone of its own reads both frames and the earlier objects; its last convolution starts at
    zero, so that a network begins with the features, and the weights, of one that sees single images.

    Args:
        backbone: whose features it adds to; its ``divisor`` grows, where that is needed, to one that suits
            both.
        inputs: channels of the images, see ``Frames``.

    Source: Zhou, Koltun, Krähenbühl, "Tracking Objects as Points", 2020, section 4.1, where the sum is taken
    after the first layer of one backbone; there it would need a backbone whose first layer is known.
    """

    def __init__(self, backbone: Backbone, inputs: int) -> None:
        super().__init__()
        self.inputs = inputs
        self.network = create_backbone(_EARLIER)
        first = next(module for module in self.network.modules() if isinstance(module, nn.Conv2d))
        wide = nn.Conv2d(
            inputs,
            first.out_channels,
            first.kernel_size,  # type: ignore[arg-type]
            first.stride,  # type: ignore[arg-type]
            first.padding,  # type: ignore[arg-type]
            bias=first.bias is not None,
        )
        replace_modules(self.network, {first: wide})
        self.join = nn.Conv2d(self.network.channels, backbone.channels, 1)
        nn.init.zeros_(self.join.weight)
        assert self.join.bias is not None
        nn.init.zeros_(self.join.bias)
        self._step = backbone.stride // self.network.stride
        if backbone.stride % self.network.stride:
            raise CtnetError(
                f"{type(backbone).__name__} has stride {backbone.stride}, and tasks that see two frames need "
                f"a multiple of {self.network.stride}; choose another backbone"
            )
        backbone.divisor = math.lcm(backbone.divisor, self.network.divisor)

    def forward(self, images: Tensor) -> Tensor:
        """(B, inputs, H, W) -> (B, channels, H / stride, W / stride) of the backbone."""
        joined = self.join(self.network(images)[-1])
        return joined if self._step == 1 else functional.avg_pool2d(joined, self._step)


def create_model(
    task: Task | Mapping[str, Head], backbone: str, pretrained: bool = False, small_heads: bool = True
) -> CenterNet:
    """Build the network of a task.

    Args:
        task: the task, or just its heads by name.
        backbone: see ``list_backbones``.
        pretrained: start from ImageNet weights (channels in RGB order).
        small_heads: initialise regression heads with small weights; see ``Recipe``.

    Raises:
        CtnetError: for an unknown backbone, or weights that cannot be loaded.
    """
    network = create_backbone(backbone, pretrained=pretrained)
    if isinstance(task, Task):
        return CenterNet(network, task.heads, small_heads, task.frames)
    return CenterNet(network, task, small_heads)


def check_input_size(size: tuple[int, int], divisor: int, backbone: str) -> None:
    """Refuse an input size that does not suit the backbone.

    Args:
        size: (width, height), pixels.
        divisor: both sides must be multiples of it.
        backbone: its name, for the message.

    Raises:
        CtnetError: naming the next size that fits.
    """
    width, height = size
    if width <= 0 or height <= 0 or width % divisor or height % divisor:
        fit_width, fit_height = (max(divisor, -(-side // divisor) * divisor) for side in size)
        raise CtnetError(
            f"size {width}x{height} does not fit {backbone}: sides must be multiples of {divisor}; "
            f"the next size that fits is {fit_width}x{fit_height}"
        )
    if max(size) > LARGEST_INPUT:
        raise CtnetError(
            f"size {width}x{height} has a side above {LARGEST_INPUT} pixels; choose a smaller one"
        )


def _as_read(branch: nn.Module, features: Tensor, target: Target | None) -> Tensor:
    """The branch's raw map (B, C, H, W), or its values (M, C) at the cells of ``CellTargets``."""
    if not isinstance(target, CellTargets):
        return branch(features)  # type: ignore[no-any-return]
    cells = features.shape[0] * features.shape[2] * features.shape[3]
    few = len(target) <= _FEW * cells
    return _at_cells(branch, features, target) if few else target.gather(branch(features))


def _at_cells(branch: nn.Module, features: Tensor, target: CellTargets) -> Tensor:
    """The output of ``_branch`` at the target's cells only: (M, C)."""
    assert isinstance(branch, nn.Sequential)
    first, last = branch[0], branch[2]
    assert isinstance(first, nn.Conv2d)
    assert isinstance(last, nn.Conv2d)
    depth, height, width = features.shape[1:]
    step = torch.arange(-1, 2, device=features.device)
    y = (target.y[:, None] + step)[:, :, None]
    x = (target.x[:, None] + step)[:, None, :]
    inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
    y, x = y.clamp(0, height - 1), x.clamp(0, width - 1)
    row = (target.batch[:, None, None] * height + y) * width + x
    # index_select, because its gradient is summed in a fixed order (see CellTargets.gather).
    patches = features.permute(0, 2, 3, 1).reshape(-1, depth).index_select(0, row.flatten())
    patches = (patches * inside.flatten()[:, None]).view(len(target), 9 * depth)
    weight = first.weight.permute(0, 2, 3, 1).flatten(1)
    hidden = functional.linear(patches, weight, first.bias).relu()
    return functional.linear(hidden, last.weight.flatten(1), last.bias)


def _branch(backbone: Backbone, head: Head, std: float | None) -> nn.Sequential:
    branch = nn.Sequential(
        nn.Conv2d(backbone.channels, backbone.hidden, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(backbone.hidden, head.channels, 1),
    )
    first, last = branch[0], branch[2]
    assert isinstance(first, nn.Conv2d)
    assert isinstance(last, nn.Conv2d)
    assert first.bias is not None
    assert last.bias is not None
    with torch.no_grad():
        if std is not None and not isinstance(head, Heatmap):
            for layer in (first, last):
                layer.weight.normal_(std=std)
        first.bias.zero_()
        last.bias.fill_(head.bias)
    return branch
