from __future__ import annotations

import copy
import dataclasses
import math

import pytest
import torch
from torch import nn

from ctnet.core.recipe import SMALL, Recipe
from ctnet.core.task import create_task
from ctnet.ops.deform_conv import DeformConv
from ctnet.training.config import scaled_rate
from ctnet.training.optimization import (
    MovingAverage,
    make_optimizer,
    peak_factor,
    rate_factor,
    set_rate,
    warmup_steps,
)

STEP = Recipe(epochs=140, batch_size=128, learning_rate=5e-4, milestones=(90, 120))


@pytest.mark.parametrize(
    ("epoch", "factor"), [(0, 1), (89, 1), (90, 0.1), (119, 0.1), (120, 0.01), (139, 0.01)]
)
def test_the_rate_drops_after_the_named_epochs(epoch, factor):
    assert rate_factor(STEP, epoch * 10, 10) == pytest.approx(factor)
    assert rate_factor(STEP, epoch * 10 + 9, 10) == pytest.approx(factor)


def test_cosine_falls_from_one_to_zero():
    recipe = dataclasses.replace(STEP, schedule="cosine", epochs=10)
    factors = [rate_factor(recipe, step, 5) for step in range(51)]
    assert factors[0] == 1
    assert factors[25] == pytest.approx(0.5)
    assert factors[50] == pytest.approx(0)
    assert factors == sorted(factors, reverse=True)


def test_cosine_may_end_above_zero():
    recipe = dataclasses.replace(STEP, schedule="cosine", epochs=10, final_rate=0.2)
    assert [rate_factor(recipe, step, 5) for step in (0, 25, 50)] == pytest.approx([1, 0.6, 0.2])


def test_warm_up_rises_linearly_to_the_schedule():
    recipe = dataclasses.replace(STEP, warmup=4)
    assert [rate_factor(recipe, step, 10) for step in range(5)] == pytest.approx([0.25, 0.5, 0.75, 1, 1])


def test_warm_up_is_at_most_a_fifth_of_the_run():
    small = dataclasses.replace(SMALL, epochs=13)
    assert warmup_steps(small, 3) == 7
    assert max(rate_factor(small, step, 3) for step in range(39)) == peak_factor(small, 3) > 0.95
    assert warmup_steps(SMALL, 30) == SMALL.warmup == 60
    assert warmup_steps(STEP, 1) == 0
    assert peak_factor(STEP, 1) == 1
    assert rate_factor(dataclasses.replace(small, epochs=1), 0, 3) == 1


def test_linear_scaling():
    assert scaled_rate(STEP, 128) == 5e-4
    assert scaled_rate(STEP, 32) == pytest.approx(1.25e-4)


def test_recipes_are_the_papers():
    task = create_task("ctdet", [{"id": 1, "name": "a"}])
    recipes = task.recipes("dla34")
    assert next(iter(recipes)) == "paper"
    assert recipes["paper"] == STEP
    assert (recipes["paper-2x"].epochs, recipes["paper-2x"].milestones) == (230, (180, 210))
    hourglass = task.recipes("hourglass104")["paper"]
    assert (hourglass.epochs, hourglass.milestones) == (50, (40,))
    assert scaled_rate(hourglass, 29) == 2.5e-4
    assert scaled_rate(recipes["voc"], 32) == 1.25e-4
    assert (recipes["voc"].epochs, recipes["voc"].milestones) == (70, (45, 60))


def test_moving_average_equals_a_plain_recursion():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    average = MovingAverage(model, 0.9)
    expected = copy.deepcopy(model.state_dict())
    for update in range(1, 30):
        with torch.no_grad():
            for tensor in model.state_dict().values():
                tensor += 1 if not tensor.is_floating_point() else torch.randn_like(tensor)
        average.update(model)
        decay = min(0.9, (1 + update) / (10 + update))
        for name, tensor in model.state_dict().items():
            if tensor.is_floating_point():
                expected[name] = decay * expected[name] + (1 - decay) * tensor
            else:
                expected[name] = tensor.clone()
    for name, tensor in average.weights.items():
        torch.testing.assert_close(tensor, expected[name])


def test_weight_decay_leaves_biases_and_norms_alone():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    groups = make_optimizer(model, SMALL, 1e-3).param_groups
    assert [tuple(p.ndim for p in group["params"]) for group in groups] == [(4,), (1, 1, 1)]
    assert [group["weight_decay"] for group in groups] == [SMALL.weight_decay, 0.0]
    assert math.isclose(groups[0]["lr"], 1e-3)


def test_the_layers_that_place_samples_learn_at_their_own_rate():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), DeformConv(4, 2))
    recipe = dataclasses.replace(SMALL, offset_rate=0.25)
    optimizer = make_optimizer(model, recipe, 1e-3)
    set_rate(optimizer, 2e-3)
    rates = {p: group["lr"] for group in optimizer.param_groups for p in group["params"]}
    decays = {p: group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert len(rates) == len(list(model.parameters()))
    for name, parameter in model.named_parameters():
        assert rates[parameter] == pytest.approx(5e-4 if "offset_mask" in name else 2e-3)
        assert decays[parameter] == (SMALL.weight_decay if parameter.ndim > 1 else 0)
    assert len(make_optimizer(model, STEP, 1e-3).param_groups) == 2, "the paper's: one rate for all"


def test_moving_average_is_bit_for_bit_that_of_single_calls():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 7, 3), nn.BatchNorm2d(7))
    average = MovingAverage(model, 0.9)
    expected = copy.deepcopy(model.state_dict())
    for update in range(1, 30):
        model(torch.randn(2, 3, 8, 8))
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += torch.randn_like(parameter)
        average.update(model)
        decay = min(0.9, (1 + update) / (10 + update))
        for name, tensor in model.state_dict().items():
            if tensor.is_floating_point():
                expected[name].lerp_(tensor, 1 - decay)
            else:
                expected[name].copy_(tensor)
    assert all(torch.equal(tensor, expected[name]) for name, tensor in average.weights.items())


def test_a_cpu_has_torchs_own_optimizer():
    optimizer = make_optimizer(nn.Linear(2, 2), STEP, 1e-3)
    assert {group["fused"] for group in optimizer.param_groups} == {None}
