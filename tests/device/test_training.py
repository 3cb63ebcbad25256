"""A training step on a GPU of fake tensors: one wait, no copy that blocks."""

from __future__ import annotations

from pathlib import Path
from unittest import mock

import pytest
import torch
from fake_gpu import Event, Stalls

from ctnet.base.ranks import Ranks
from ctnet.checkpoint import Description
from ctnet.core.recipe import Augmentation
from ctnet.core.task import Task, create_task, list_tasks, load_task_class, scenes_of
from ctnet.data.dataset import Dataset
from ctnet.data.loader import Batch, Loader, TrainingSet
from ctnet.data.shape_scenes import SHAPES
from ctnet.data.synthetic import write_dataset
from ctnet.model import CenterNet, create_model
from ctnet.ops.fast import fast_paths
from ctnet.training.gradients import Gradients, StepLosses
from ctnet.training.optimization import MovingAverage, make_optimizer


@pytest.fixture(scope="module")
def batches(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Task, Batch]]:
    """A batch of every task, made on the host."""
    made = {}
    for name in list_tasks():
        task = create_task(name, scenes_of(load_task_class(name)).categories)
        made[name] = task, batch_of(task, tmp_path_factory.mktemp(name))
    return made


def batch_of(task: Task, folder: Path) -> Batch:
    """Three of a task's scenes."""
    write_dataset(task, folder, {"train": 3}, (64, 64))
    dataset = Dataset.open(folder, "train", task)
    return next(Loader(TrainingSet(dataset, task, (64, 64), Augmentation()), 3).epoch(0))


def train_steps(
    task: Task, batch: Batch, amp: torch.dtype | None, backbone: str, accumulate: int, stalls: Stalls
) -> CenterNet:
    """Two steps; the stalls of the second are kept. The backward pass wants a driver, and is replaced."""
    device = torch.device("cuda")
    model = create_model(task, backbone).to(device).to(memory_format=torch.channels_last)
    recipe = scenes_of(type(task)).recipe
    optimizer, average = make_optimizer(model, recipe, 1e-3), MovingAverage(model, 0.99)
    scaler = torch.amp.GradScaler("cuda", enabled=amp == torch.float16)
    gradients = Gradients(
        StepLosses(task, model, Description.of(task, backbone, (64, 64))), scaler, amp, Ranks()
    )

    def backward(_: torch.Tensor) -> None:
        for parameter in model.parameters():
            parameter.grad = torch.zeros_like(parameter)

    for _ in range(2):
        stalls.waits.clear(), stalls.copies.clear(), stalls.free.clear()
        pinned = iter([batch.pin_memory()] * accumulate)
        with mock.patch("torch.Tensor.backward", backward):
            for step in gradients.steps(pinned, accumulate):
                gradients.accumulate(step)
        scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 10.0)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        average.update(model)
    return model


@pytest.mark.parametrize(
    ("name", "amp"),
    [*((name, torch.bfloat16) for name in list_tasks()), ("ctdet", None), ("ctdet", torch.float16)],
)
def test_a_step_waits_once(stalls: Stalls, batches, name: str, amp: torch.dtype | None) -> None:
    train_steps(*batches[name], amp, "resfpn18", 1, stalls)
    # With float16 too: the fused optimizer reads on the device whether the gradients are finite.
    assert (len(stalls.waits), len(stalls.copies)) == (1, 0), stalls.counted()
    assert len(stalls.free) == 2, stalls.free  # images, and all targets


@pytest.mark.parametrize("backbone", ["resdcn18", "dla34"])
def test_deformable_convolutions_add_no_wait(stalls: Stalls, batches, backbone: str) -> None:
    train_steps(*batches["ctdet"], torch.bfloat16, backbone, 1, stalls)
    assert (len(stalls.waits), len(stalls.copies)) == (1, 0), stalls.counted()


@pytest.fixture(params=[{"size_loss": "giou"}, {"box": "ciou"}], ids=str)
def other_boxes(request, tmp_path: Path) -> tuple[Task, Batch]:
    """A ctdet with other losses, and a batch."""
    task = create_task("ctdet", SHAPES, **request.param)
    return task, batch_of(task, tmp_path)


def test_other_losses_of_boxes_add_no_wait(other_boxes, stalls: Stalls) -> None:
    train_steps(*other_boxes, None, "resfpn18", 1, stalls)
    assert (len(stalls.waits), len(stalls.copies)) == (1, 0), stalls.counted()


@pytest.mark.parametrize(
    ("name", "backbone"),
    [*((name, "resfpn18") for name in list_tasks()), ("ctdet", "resdcn18"), ("ctdet", "dla34")],
)
def test_the_backward_pass_never_waits(stalls: Stalls, batches, name: str, backbone: str) -> None:
    """On fake tensors of the CPU, with the operators that a GPU would have."""
    with fast_paths(False):
        assert not waits_in_backward(stalls, *batches[name], backbone)


def test_a_backward_pass_that_waits_is_seen(stalls: Stalls, batches) -> None:
    """The CPU's own deformable convolution reads values."""
    with fast_paths(True):
        waits = waits_in_backward(stalls, *batches["ctdet"], "resdcn18")
    assert {event.where.split(":")[0] for event in waits} == {"ctnet/ops/deform_conv.py"}


def waits_in_backward(stalls: Stalls, task: Task, batch: Batch, backbone: str) -> list[Event]:
    model = create_model(task, backbone)
    description = Description.of(task, backbone, (64, 64))
    gradients = Gradients(
        StepLosses(task, model, description), torch.amp.GradScaler("cpu", enabled=False), None, Ranks()
    )
    real, done = torch.Tensor.backward, []

    def backward(loss: torch.Tensor) -> None:
        stalls.device = "cpu"
        real(loss)
        stalls.device = "cuda"
        done.append(loss)

    with mock.patch("torch.Tensor.backward", backward):
        for step in gradients.steps(iter([batch]), 1):
            gradients.accumulate(step)
    assert done
    assert next(model.parameters()).grad is not None  # it went through all layers
    return stalls.waits


def test_accumulation_waits_once(stalls: Stalls, batches) -> None:
    """The counts of the step go to the device before the first backward pass."""
    train_steps(*batches["ctdet"], None, "resfpn18", 2, stalls)
    assert len(stalls.free) == 2 * 2 + 1, stalls.free
    assert (len(stalls.waits), len(stalls.copies)) == (1, 0), stalls.counted()
