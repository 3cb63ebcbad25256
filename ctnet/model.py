"""CenterNet: a backbone and one small convolutional branch per head."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from ctnet.backbones import Backbone, create_backbone, widen_input
from ctnet.base.errors import CtnetError
from ctnet.core.heads import Head, Heatmap
from ctnet.core.targets import CellTargets, Target
from ctnet.core.task import Task

#: Cells are computed one by one up to this fraction of the map; above it the whole map is as fast.
_FEW = 1 / 4

#: Side of the largest input, pixels: OpenCV does not resample larger images.
LARGEST_INPUT = 32766


class CenterNet(nn.Module):
    """A backbone whose features every head reads through a 3x3 convolution, ReLU and a 1x1 convolution.

    Attributes:
        backbone: images -> one stride-4 feature map per stack.
        heads: the head of each branch.
        branches: one module per stack; its children have the heads' names.

    Source: section 3 and appendix A.
    """

    def __init__(self, backbone: Backbone, heads: Mapping[str, Head], small_heads: bool = True) -> None:
        super().__init__()
        self.backbone = backbone
        self.heads = dict(heads)
        std = backbone.head_std if small_heads else None
        self.branches = nn.ModuleList(
            nn.ModuleDict({name: _branch(backbone, head, std) for name, head in heads.items()})
            for _ in range(backbone.stacks)
        )

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
            for feature, branches in zip(self.backbone(images), self.branches, strict=True)
        ]

    def activated(self, images: Tensor) -> dict[str, Tensor]:
        """The last stack's activated maps, as ``Task.decode`` reads them.

        The heads of earlier stacks are only used in training and are not computed here.
        """
        features, branches = self.backbone(images)[-1], self.branches[-1]
        return {
            name: head.activate(branches[name](features).float())  # type: ignore[index]
            for name, head in self.heads.items()
        }


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
        CtnetError: for an unknown backbone, weights that cannot be loaded, or a backbone that cannot see the
            task's two frames.
    """
    heads = task.heads if isinstance(task, Task) else task
    network = create_backbone(backbone, pretrained=pretrained)
    if isinstance(task, Task):
        widen_input(network, task.frames.inputs)
    return CenterNet(network, heads, small_heads)


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
