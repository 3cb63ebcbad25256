from __future__ import annotations

import pytest
import torch

from ctnet.backbones import create_backbone
from ctnet.backbones.hourglass import Hourglass, Residual, StackedHourglass
from ctnet.base.errors import CtnetError
from ctnet.core.heads import Heatmap
from ctnet.model import create_model


def test_an_hourglass_adds_what_it_saw_at_half_the_size() -> None:
    torch.manual_seed(0)
    hourglass = Hourglass((4, 6, 8), (1, 2, 3)).eval()
    x = torch.rand(1, 4, 8, 12)
    with torch.no_grad():
        inner = hourglass.low1(x)
        assert inner.shape == (1, 6, 4, 6)
        below = hourglass.low3(hourglass.low2(inner))
        assert below.shape == (1, 4, 4, 6)
        expected = hourglass.up1(x) + below.repeat_interleave(2, 2).repeat_interleave(2, 3)
        torch.testing.assert_close(hourglass(x), expected)
    blocks = [len(layer) for layer in (hourglass.up1, hourglass.low1, hourglass.low3, hourglass.low2.low2)]
    assert blocks == [1, 1, 1, 3]


def test_a_residual_block_projects_its_shortcut_only_where_it_must() -> None:
    assert len(Residual(4, 4).skip) == 0
    assert len(Residual(4, 6).skip) == len(Residual(4, 4, stride=2).skip) == 2
    block = Residual(4, 4).eval()
    x = torch.rand(1, 4, 5, 5)
    with torch.no_grad():
        for value in (block.bn2.weight, block.bn2.bias):
            value.zero_()
        torch.testing.assert_close(block(x), x)


def test_both_stacks_are_supervised_and_the_second_reads_the_first() -> None:
    with torch.device("meta"):
        network = create_model({"heatmap": Heatmap(3)}, "hourglass104")
        stacks = network(torch.zeros(2, 3, 128, 256))
    assert [stack["heatmap"].shape for stack in stacks] == [(2, 3, 32, 64)] * 2
    backbone = network.backbone
    assert isinstance(backbone, StackedHourglass)
    assert (backbone.hidden, backbone.divisor, backbone.stacks) == (256, 128, 2)


def test_there_are_104_layers_of_weights_on_the_longest_way() -> None:
    """The depth in the name: successive convolutions from the image to the first stack's features, and on."""
    with torch.device("meta"):
        backbone = create_backbone("hourglass104")
    assert isinstance(backbone, StackedHourglass)

    def depth(hourglass: Hourglass) -> int:
        inner = depth(hourglass.low2) if isinstance(hourglass.low2, Hourglass) else 2 * len(hourglass.low2)
        return 2 * len(hourglass.low1) + inner + 2 * len(hourglass.low3)

    stem = 1 + 2
    between = 1 + 2  # the parallel projections, a residual block
    assert stem + 2 * (depth(backbone.kps[0]) + 1) + between == 104  # type: ignore[arg-type]


def test_there_are_no_imagenet_weights() -> None:
    with pytest.raises(CtnetError, match=r"no ImageNet weights; start from a converted checkpoint"):
        create_backbone("hourglass104", pretrained=True)
