"""From totals and counts to gradients: a split batch, real networks, a task that combines heads."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ctnet.backbones import Backbone, hourglass
from ctnet.core.fields import move_record
from ctnet.core.geometry import Affine
from ctnet.core.heads import Heatmap, Regression
from ctnet.core.losses import Loss
from ctnet.core.targets import CellTargets, Grid, Peaks, Target, collate_targets
from ctnet.core.task import Task, create_task, example_of, list_tasks, load_task_class, scenes_of
from ctnet.heatmap import full_precision
from ctnet.model import CenterNet
from ctnet.tasks.ctdet import CenterDetection
from ctnet.testing import task_checks
from ctnet.training.losses import add_counts, counts_of, losses_of_stacks, mean_losses, weighted_sum

SIDE = 128
#: Three scenes, one scene, one image without objects.
PARTS = [slice(0, 3), slice(3, 4), slice(4, 5)]
WHOLE = [slice(0, 5)]


class TwoStacks(Backbone):
    channels, divisor, hidden, stacks = 6, 4, 5, 2

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 6, 4, stride=4), nn.BatchNorm2d(6), nn.ReLU())
        self.second = nn.Conv2d(6, 6, 3, padding=1)

    def forward(self, images: Tensor) -> list[Tensor]:
        features = self.first(images)
        return [features, self.second(features)]


class NarrowHourglass(hourglass.StackedHourglass):
    channels, hidden = 8, 8


class Boxes(CenterDetection):
    """ctdet whose size and offset are trained as one box; an object whose box is far off does not count yet.

    Heads: ``heatmap`` [C], ``size`` [2], ``offset`` [2].
    """

    name = "wholeboxes"

    def losses(self, predicted: Mapping[str, Tensor], targets: Mapping[str, Target]) -> dict[str, Loss]:
        size, offset, peaks = (targets[name] for name in ("size", "offset", "heatmap"))
        assert isinstance(size, CellTargets)
        assert isinstance(offset, CellTargets)
        assert isinstance(peaks, Peaks)
        found, true = (
            torch.cat([shift - extent / 2, shift + extent / 2], dim=1)
            for extent, shift in ((predicted["size"], predicted["offset"]), (size.value, offset.value))
        )
        error = (full_precision(found) - true).square().mean(dim=1)
        weight = size.weight[:, 0] * offset.weight[:, 0]
        far = error.detach() * weight > 16
        near = dataclasses.replace(peaks, positive=peaks.positive & ~far)
        heatmap = self.heads["heatmap"]
        return {
            "heatmap": Loss(
                heatmap.loss(predicted["heatmap"], near).total,
                heatmap.loss(predicted["heatmap"], peaks).count,
            ),
            "box": Loss((error * weight).sum(), weight.sum()),
        }


@task_checks(Boxes)
def test_a_task_may_combine_heads_and_change_positives(task, check) -> None:
    if check.name == "decode_exports":
        pytest.skip("decodes as ctdet does")
    check(task)


def test_what_was_predicted_changes_its_positives_and_not_its_counts() -> None:
    task = Boxes(scenes_of(Boxes).categories)
    _, scenes = drawn_scenes(task, (SIDE, SIDE))
    targets = {name: collate_targets([scene[name] for scene in scenes]) for name in task.heads}
    size, offset = targets["size"], targets["offset"]
    exact = {"heatmap": torch.zeros(5, 3, SIDE // 4, SIDE // 4), "size": size.value, "offset": offset.value}
    good = task.losses(exact, targets)
    bad = task.losses({**exact, "size": size.value + 100}, targets)
    assert good["box"].total == 0
    assert bad["box"].total > 0
    assert good["heatmap"].total != bad["heatmap"].total
    assert (good["heatmap"].count, good["box"].count) == (bad["heatmap"].count, bad["box"].count)
    assert good["box"].count == len(size)


def drawn_scenes(task: Task, size: tuple[int, int]) -> tuple[Tensor, list[dict[str, Target]]]:
    """Five images (5, 3, H, W) float64 with their targets; the last has no objects."""
    width, height = size
    grid = Grid(height // 4, width // 4)
    images, targets = [], []
    for seed in range(5):
        sample = example_of(task, np.random.default_rng(seed), size)
        instances = sample.instances if seed < 4 else sample.instances[:0]
        targets.append(task.encode(move_record(instances, Affine.scaling(1 / 4), task.fields), grid))
        images.append(torch.from_numpy(sample.image).permute(2, 0, 1).double() / 255 - 0.5)
    return torch.stack(images), targets


def gradients(
    model: CenterNet,
    task: Task,
    images: Tensor,
    scenes: Sequence[Mapping[str, Target]],
    parts: Sequence[slice],
) -> dict[str, Tensor]:
    """Those of all weights, accumulated over the parts."""
    batches = [
        {name: collate_targets([scene[name] for scene in scenes[part]]) for name in task.heads}
        for part in parts
    ]
    height, width = (side // 4 for side in images.shape[2:])
    counts = add_counts(
        [
            counts_of(task, batch, Grid(height, width, len(images[part])), images.dtype)
            for part, batch in zip(parts, batches, strict=True)
        ]
    )
    model.zero_grad()
    for part, batch in zip(parts, batches, strict=True):
        losses = losses_of_stacks(task, model(images[part], batch), batch)
        weighted_sum(mean_losses(losses, counts), task.heads).backward()
    return {name: weight.grad.clone() for name, weight in model.named_parameters()}


TASKS = [
    ("ctdet", {}),
    ("ctdet", {"dense_size": True, "dense_offset": True}),
    ("pose", {}),
    ("ddd", {}),
    ("ddd", {"loss": "released"}),
    ("exdet", {}),
    ("obb", {}),
]


def check_split(task: Task, backbone: Backbone, size: tuple[int, int]) -> None:
    model = CenterNet(backbone, task.heads, small_heads=False).double().eval()
    images, scenes = drawn_scenes(task, size)
    whole = gradients(model, task, images, scenes, WHOLE)
    parts = gradients(model, task, images, scenes, PARTS)
    assert all(gradient.any() for gradient in whole.values())
    for name, wanted in whole.items():
        error = (parts[name] - wanted).abs().max().item()
        assert error <= 1e-9 * wanted.abs().max().item(), f"{name}: {error:.3g}"


@pytest.mark.parametrize(("name", "options"), TASKS)
def test_a_split_batch_has_the_gradients_of_the_whole(name: str, options: dict[str, object]) -> None:
    if name not in list_tasks():
        pytest.skip(f"the plugin of task {name} is not installed")
    torch.manual_seed(0)
    cls = load_task_class(name)
    check_split(create_task(name, scenes_of(cls).categories, **options), TwoStacks(), scenes_of(cls).size)


def test_a_split_batch_has_the_gradients_of_the_whole_through_an_hourglass(monkeypatch) -> None:
    torch.manual_seed(0)
    monkeypatch.setattr(hourglass, "_WIDTHS", [8] * len(hourglass._WIDTHS))
    check_split(CenterDetection(scenes_of(CenterDetection).categories), NarrowHourglass(), (SIDE, SIDE))


def test_counts_are_known_before_anything_is_predicted() -> None:
    task = create_task("ddd", scenes_of(load_task_class("ddd")).categories, loss="released")
    _, scenes = drawn_scenes(task, (384, 128))
    targets = {name: collate_targets([scene[name] for scene in scenes]) for name in task.heads}
    counts = counts_of(task, targets, Grid(32, 96, 5))
    model = CenterNet(TwoStacks(), task.heads)
    losses = losses_of_stacks(task, model(torch.rand(5, 3, 128, 384), targets), targets)
    assert {name: loss.count for name, loss in losses.items()} == counts
    assert counts["rotation_bins"] == 50 * 5
    assert counts["dimensions"] == 50 * 5 * 3
    assert not any(count.requires_grad for count in counts.values())


def test_stacks_are_averaged_and_counted_once() -> None:
    heads = {"size": Regression(1)}
    target = CellTargets.of(np.zeros((2, 2)), np.array([[1.0], [2.0]]))

    class Sizes(CenterDetection):
        def __init__(self) -> None:
            super().__init__(scenes_of(CenterDetection).categories)
            self.heads = heads

    stacks = [{"size": torch.zeros(2, 1)}, {"size": torch.full((2, 1), 2.0)}]
    loss = losses_of_stacks(Sizes(), stacks, {"size": target})["size"]
    assert (loss.total.item(), loss.count.item()) == (2.0, 2.0)  # (3 + 1) / 2
    assert mean_losses({"size": loss}, {"size": torch.tensor(8.0)})["size"] == 0.25
    assert mean_losses({"size": loss}, {"size": torch.tensor(0.0)})["size"] == 2


def test_a_heads_weight_counts_for_its_name_alone() -> None:
    terms = {"heatmap": torch.tensor(2.0), "box": torch.tensor(3.0)}
    assert weighted_sum(terms, {"heatmap": Heatmap(1, weight=0.5), "size": Regression(2, weight=9)}) == 4
