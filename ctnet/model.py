"""CenterNet: a backbone and one small convolutional branch per head."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ctnet.backbones import Backbone, create_backbone
from ctnet.errors import CtnetError
from ctnet.heads import Head, Heatmap
from ctnet.task import Task


class CenterNet(nn.Module):
    """A backbone whose features every head reads through a 3x3 convolution, ReLU and a 1x1 convolution.

    Attributes:
        backbone: images -> one stride-4 feature map per stack.
        heads: what each branch means.
        branches: one module per stack; its children carry the heads' names.

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

    def forward(self, images: Tensor) -> list[dict[str, Tensor]]:
        """Raw maps of every stack.

        Args:
            images: (B, 3, H, W), normalised RGB; H and W divisible by ``backbone.divisor``.

        Returns:
            One {head name: (B, channels, H / 4, W / 4)} per stack; the last is the one to decode.
        """
        features = self.backbone(images)
        return [
            {name: branch(feature) for name, branch in branches.items()}  # type: ignore[operator]
            for feature, branches in zip(features, self.branches, strict=True)
        ]

    def activated(self, images: Tensor) -> dict[str, Tensor]:
        """The last stack's maps with each head's activation: what ``Task.decode`` reads."""
        raw = self(images)[-1]
        return {name: head.activate(raw[name].float()) for name, head in self.heads.items()}


def create_model(
    task: Task | Mapping[str, Head], backbone: str, pretrained: bool = False, small_heads: bool = True
) -> CenterNet:
    """Build the network of a task.

    Args:
        task: the task, or just its heads by name.
        backbone: see ``list_backbones``.
        pretrained: start from ImageNet weights (channels in RGB order).
        small_heads: start regression heads as small as the backbone asks; see ``Recipe``.

    Raises:
        CtnetError: for an unknown backbone, or weights that cannot be had.
    """
    heads = task.heads if isinstance(task, Task) else task
    return CenterNet(create_backbone(backbone, pretrained=pretrained), heads, small_heads)


def check_input_size(size: tuple[int, int], divisor: int, backbone: str) -> None:
    """Refuse an input whose sides the backbone cannot halve as often as it must.

    Args:
        size: (width, height), pixels.
        divisor: what both must be multiples of.
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
