from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ctnet.backbones import Backbone
from ctnet.base.errors import CtnetError
from ctnet.core.heads import Heatmap, Regression
from ctnet.core.targets import CellTargets, Peaks, Target
from ctnet.core.task import create_task
from ctnet.model import CenterNet, check_input_size, create_model


class TwoStacks(Backbone):
    channels, divisor, hidden, stacks = 6, 8, 5, 2

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 6, 4, stride=4)
        self.second = nn.Conv2d(6, 6, 1)

    def forward(self, images: Tensor) -> list[Tensor]:
        features = self.first(images)
        return [features, self.second(features)]


HEADS = {"heatmap": Heatmap(3), "size": Regression(2, bias=1.5)}


def test_every_stack_gives_every_head_a_map() -> None:
    stacks = CenterNet(TwoStacks(), HEADS)(torch.rand(2, 3, 32, 24))
    assert [{name: tuple(raw.shape) for name, raw in stack.items()} for stack in stacks] == [
        {"heatmap": (2, 3, 8, 6), "size": (2, 2, 8, 6)}
    ] * 2


def test_a_branch_is_a_3x3_convolution_relu_and_a_1x1_convolution() -> None:
    model = CenterNet(TwoStacks(), HEADS)
    images = torch.rand(1, 3, 16, 16)
    features = model.backbone(images)[1]
    branch = model.branches[1]["size"]
    hidden = nn.functional.conv2d(features, branch[0].weight, branch[0].bias, padding=1).relu()
    assert hidden.shape[1] == 5
    expected = nn.functional.conv2d(hidden, branch[2].weight, branch[2].bias)
    torch.testing.assert_close(model(images)[1]["size"], expected)


def test_stacks_share_no_weights() -> None:
    model = CenterNet(TwoStacks(), HEADS)
    model(torch.rand(1, 3, 16, 16))[0]["heatmap"].sum().backward()
    assert model.branches[0]["heatmap"][2].weight.grad is not None
    assert model.branches[1]["heatmap"][2].weight.grad is None


def test_biases_begin_as_the_heads_say() -> None:
    model = CenterNet(TwoStacks(), HEADS)
    for branches in model.branches:
        assert (branches["heatmap"][2].bias == -2.19).all()
        assert (branches["size"][2].bias == 1.5).all()
        assert (branches["size"][0].bias == 0).all()


def test_head_std_is_for_regression_alone() -> None:
    class Narrow(TwoStacks):
        head_std = 1e-3

    model = CenterNet(Narrow(), HEADS)
    assert model.branches[0]["size"][0].weight.std() < 2e-3
    assert model.branches[0]["heatmap"][0].weight.std() > 1e-2
    wide = CenterNet(Narrow(), HEADS, small_heads=False)
    assert wide.branches[0]["size"][0].weight.std() > 1e-2


def random_samples(count: int, batch: int, height: int, width: int) -> CellTargets:
    """Targets at any cells, often at the border and several in one cell."""
    generator = torch.Generator().manual_seed(count)
    image, y, x = (torch.randint(0, n, (count,), generator=generator) for n in (batch, height, width))
    value = torch.randn(count, 2, generator=generator)
    weight = torch.randint(0, 2, (count, 2), generator=generator).float()
    return CellTargets(image.sort().values, x, y, value, weight, batch)


def mean_losses(stacks: list[dict[str, Tensor]], targets: Mapping[str, Target]) -> dict[str, Tensor]:
    """Each head's total divided by its count, the mean over stacks."""
    losses = [
        {name: head.loss(predicted[name], targets[name]) for name, head in HEADS.items()}
        for predicted in stacks
    ]
    return {
        name: torch.stack([each[name].total / each[name].count.clamp(min=1) for each in losses]).mean()
        for name in HEADS
    }


@pytest.mark.parametrize("count", [0, 1, 7, 60, 72, 300])
def test_values_at_cells_are_those_of_the_whole_maps(count: int) -> None:
    """What is trained at few of the 288 cells (at most a quarter) is computed at those alone."""
    batch, height, width = 6, 8, 6
    model = CenterNet(TwoStacks(), HEADS)
    images = torch.rand(batch, 3, 4 * height, 4 * width)
    peaks = Peaks.of(np.array([[2.5, 3.0]]), np.array([1]), np.array([2]))
    targets: dict[str, Target] = {
        "heatmap": peaks,
        "size": random_samples(count, batch, height, width),
    }
    size = targets["size"]
    assert isinstance(size, CellTargets)
    stacks = model(images, targets)
    whole_stacks = [{**maps, "size": size.gather(maps["size"])} for maps in model(images)]
    torch.testing.assert_close(stacks, whole_stacks)
    found, whole = mean_losses(stacks, targets), mean_losses(whole_stacks, targets)
    parameters = list(model.parameters())
    for one, other in zip(
        torch.autograd.grad(sum(found.values()), parameters),  # type: ignore[arg-type]
        torch.autograd.grad(sum(whole.values()), parameters),  # type: ignore[arg-type]
        strict=True,
    ):
        torch.testing.assert_close(one, other)


def test_a_branch_is_computed_at_few_cells_only() -> None:
    model = CenterNet(TwoStacks(), HEADS)
    seen: list[torch.Size] = []
    model.branches[0]["size"].register_forward_hook(lambda module, args, out: seen.append(out.shape))
    peaks = Peaks.of(np.zeros((0, 2)), np.zeros(0), np.zeros(0))
    for count in (3, 60):
        model(torch.rand(2, 3, 32, 24), {"heatmap": peaks, "size": random_samples(count, 2, 8, 6)})
    assert seen == [(2, 2, 8, 6)]  # the few of the first call did not need the whole map


def test_losses_under_autocast_are_finite() -> None:
    model = CenterNet(TwoStacks(), HEADS)
    peaks = Peaks.of(np.array([[2.5, 3.0]]), np.array([1]), np.array([2]))
    targets: dict[str, Target] = {"heatmap": peaks, "size": random_samples(9, 2, 8, 6)}
    with torch.autocast("cpu", torch.bfloat16):
        losses = mean_losses(model(torch.rand(2, 3, 32, 24), targets), targets)
    torch.stack(list(losses.values())).sum().backward()
    assert all(loss.isfinite() and loss.dtype == torch.float32 for loss in losses.values())


def test_activated_is_the_last_stack_with_activations() -> None:
    model = CenterNet(TwoStacks(), HEADS)
    images = torch.rand(1, 3, 16, 16)
    raw, maps = model(images)[-1], model.activated(images)
    torch.testing.assert_close(maps["heatmap"], raw["heatmap"].sigmoid())
    assert torch.equal(maps["size"], raw["size"])


def test_the_heads_of_earlier_stacks_do_not_run_in_inference() -> None:
    model = CenterNet(TwoStacks(), HEADS)
    called = []
    for stack, branches in enumerate(model.branches):
        for name, branch in branches.items():
            branch.register_forward_hook(lambda *_, at=(stack, name): called.append(at))
    model.activated(torch.rand(1, 3, 16, 16))
    assert called == [(1, name) for name in HEADS]
    called.clear()
    model(torch.rand(1, 3, 16, 16))
    assert called == [(stack, name) for stack in (0, 1) for name in HEADS]


def test_activated_maps_are_full_precision_under_autocast() -> None:
    model = CenterNet(TwoStacks(), HEADS)
    with torch.autocast("cpu", torch.bfloat16):
        maps = model.activated(torch.rand(1, 3, 16, 16))
    assert {values.dtype for values in maps.values()} == {torch.float32}


def test_create_model_takes_a_task_or_its_heads() -> None:
    task = create_task("ctdet", [{"id": 1, "name": "a"}])
    with torch.device("meta"):
        models = [create_model(task, "resnet18"), create_model(task.heads, "resnet18")]
    first, second = ({name: value.shape for name, value in model.state_dict().items()} for model in models)
    assert first == second
    assert first["branches.0.heatmap.2.weight"] == (1, 64, 1, 1)


def test_unknown_backbone_offers_the_nearest() -> None:
    with pytest.raises(CtnetError, match="no backbone called 'resnet19'; did you mean resnet18"):
        create_model(HEADS, "resnet19")


@pytest.mark.parametrize(
    ("size", "fit"),
    [
        ((65, 32), "96x32"),
        ((64, 1), "64x32"),
        ((0, 64), "32x64"),
        ((-32, 64), "32x64"),
        ((100, 100), "128x128"),
    ],
)
def test_sizes_that_do_not_fit(size: tuple[int, int], fit: str) -> None:
    with pytest.raises(CtnetError, match=f"size {size[0]}x{size[1]} does not fit b: .* of 32; .* is {fit}"):
        check_input_size(size, 32, "b")


def test_sizes_that_fit() -> None:
    check_input_size((96, 32), 32, "b")
