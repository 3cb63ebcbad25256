from __future__ import annotations

import pytest
import torch
from torch import nn

from ctnet.backbones import create_backbone
from ctnet.backbones.light import Block, Light
from ctnet.base.errors import CtnetError
from ctnet.budget.blocks import blocks_of, multiply_adds, prepared_on_meta
from ctnet.core.heads import Heatmap, Regression
from ctnet.model import create_model


def test_a_block_adds_to_what_it_reads() -> None:
    torch.manual_seed(0)
    block = Block(4).eval()
    x = torch.rand(2, 4, 6, 5)
    with torch.no_grad():
        before = x.clone()
        expected = (x + block.second(block.first(x))).relu()
        torch.testing.assert_close(block(x), expected)
        torch.testing.assert_close(x, before)  # in-place layers stay within the block
        for weight in (block.second[1].weight, block.second[1].bias):
            weight.zero_()
        torch.testing.assert_close(block(x), x)


@pytest.mark.parametrize("width", [16, 32, 48])
def test_the_number_in_the_name_is_the_width(width: int) -> None:
    with torch.device("meta"):
        backbone = create_backbone(f"light{width}")
    assert isinstance(backbone, Light)
    assert (backbone.channels, backbone.hidden) == (width, width + 16)
    assert list(backbone.freezable_stages()) == ["stem", "stride4", "stride8", "stride16", "stride32"]
    last = [list(stage.modules())[-2] for stage in backbone.stages.values()]
    assert all(isinstance(norm, nn.BatchNorm2d) for norm in last)
    assert [norm.num_features for norm in last] == [width, 2 * width, 4 * width, 6 * width]


def test_less_than_a_third_of_the_arithmetic_of_resfpn18() -> None:
    """What this is worth in time is measured by benchmarks/budget.py."""
    heads = {"heatmap": Heatmap(3), "size": Regression(2), "offset": Regression(2)}
    arithmetic = {
        name: multiply_adds(blocks_of(prepared_on_meta(lambda: create_model(heads, name)), (256, 256)))  # noqa: B023
        for name in ("light16", "light32", "light48", "resfpn18")
    }
    assert list(arithmetic) == sorted(arithmetic, key=arithmetic.__getitem__)
    assert 3 * arithmetic["light32"] < arithmetic["resfpn18"]


def test_pretrained_weights_are_refused_in_one_line() -> None:
    with pytest.raises(CtnetError, match="light32 has no ImageNet weights; train it from scratch"):
        create_backbone("light32", pretrained=True)
