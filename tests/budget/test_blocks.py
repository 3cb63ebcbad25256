"""The blocks that are found in a network are those that it consists of."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
from torch import nn

from ctnet.backbones import create_backbone
from ctnet.budget.blocks import blocks_of, multiply_adds, prepared_on_meta
from ctnet.core.heads import Heatmap, Regression
from ctnet.inference.prepare import prepare_for_inference
from ctnet.model import CenterNet, create_model
from ctnet.ops.deform_conv import DeformConv
from ctnet.ops.winograd_layers import InferenceWinograd

HEADS = {"heatmap": Heatmap(3), "size": Regression(2)}
SIZE = (96, 64)


@cache
def planned(name: str) -> CenterNet:
    return prepared_on_meta(lambda: create_model(HEADS, name))


def counted_by_hand(model: CenterNet) -> int:
    """Multiply-adds of every convolution of a plain network, from the shapes of what it reads and returns."""
    total = 0

    def count(module: Any, inputs: tuple[Any, ...], output: Any) -> None:
        nonlocal total
        places = inputs[0] if isinstance(module, nn.ConvTranspose2d) else output
        total += module.weight.numel() * places.shape[2] * places.shape[3]

    kinds = (nn.Conv2d, nn.ConvTranspose2d, DeformConv)
    for module in model.modules():
        if isinstance(module, kinds):
            module.register_forward_hook(count)
    with torch.no_grad():
        model.eval()(torch.rand(1, 3, SIZE[1], SIZE[0]))
    return total


@pytest.mark.parametrize("name", ["light16", "resdcn18", "resfpn18"])
def test_they_add_up_to_the_arithmetic_of_the_network(name: str) -> None:
    counts = blocks_of(planned(name), SIZE)
    assert multiply_adds(counts) == counted_by_hand(create_model(HEADS, name))


@pytest.mark.parametrize("name", ["light16", "resdcn18"])
def test_the_network_is_that_of_inference_without_its_weights(name: str) -> None:
    model = planned(name)
    assert all(parameter.is_meta for parameter in model.parameters())
    real = prepare_for_inference(create_model(HEADS, name).eval())
    assert str(model) == str(real)
    assert any(isinstance(module, InferenceWinograd) for module in model.modules())
    assert not any(isinstance(module, nn.BatchNorm2d) for module in model.modules())


@pytest.mark.parametrize("name", ["light16", "resdcn18"])
def test_every_block_can_be_called(name: str) -> None:
    counts = blocks_of(planned(name), SIZE)
    with torch.inference_mode():
        for block in counts:
            operation = block.on_cpu()
            operation.write_maps()
            operation()
            assert len(operation.maps) >= 1, block


def test_layers_of_the_same_shapes_are_one_block() -> None:
    heads = {name: Regression(2) for name in ("size", "offset", "depth")}
    counts = blocks_of(prepared_on_meta(lambda: create_model(heads, "light16")), SIZE)
    hidden = create_backbone("light16").hidden
    last = [count for block, count in counts.items() if f"size=(2, {hidden}, 1, 1)" in str(block.inputs)]
    assert last == [3]
    again = blocks_of(prepared_on_meta(lambda: create_model(heads, "light16")), SIZE)
    assert again == counts
    assert {hash(block) for block in again} == {hash(block) for block in counts}


def test_another_size_has_other_blocks_of_as_much_arithmetic_per_pixel() -> None:
    model = planned("light16")
    small, large = blocks_of(model, (64, 64)), blocks_of(model, (128, 192))
    assert multiply_adds(large) == 6 * multiply_adds(small)
    assert not small.keys() & large.keys()


def test_maps_lie_in_memory_as_they_do_in_the_network() -> None:
    """Else blocks would convert them first, and take longer than they do in the network."""
    real = prepare_for_inference(create_model(HEADS, "light16").eval())
    seen = set()

    def note(module: Any, inputs: tuple[Any, ...], output: Any) -> None:
        seen.add((tuple(inputs[0].shape), inputs[0].stride()))

    for module in real.backbone.modules():
        if isinstance(module, (nn.Conv2d, nn.ReLU, InferenceWinograd)):
            module.register_forward_hook(note)
    with torch.inference_mode():
        real(torch.rand(1, 3, SIZE[1], SIZE[0]))
        noted = {
            (tuple(each.shape), each.stride())
            for block in blocks_of(planned("light16"), SIZE)
            for each in block.on_cpu().maps
        }
    assert len(seen) > 5
    assert seen <= noted
