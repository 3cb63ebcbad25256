"""A compiled training step: no graph break, few compilations, the losses of the eager one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch._dynamo.utils import counters

from ctnet.base import compiling
from ctnet.checkpoint import Description
from ctnet.core.recipe import Augmentation
from ctnet.core.task import Task, create_task, list_tasks, load_task_class, scenes_of
from ctnet.data.dataset import Dataset
from ctnet.data.loader import Batch, EncodedSample, TrainingSet, collate
from ctnet.data.shape_scenes import SHAPES
from ctnet.data.synthetic import write_dataset
from ctnet.model import create_model
from ctnet.training.gradients import StepLosses

STILL = Augmentation(flip=0.0, scale=None, shift=0.0, colour=0.0, lighting=0.0)
#: Scenes of each batch: more and fewer objects, once a single image, and a shorter batch at the end.
BATCHES = (
    (0, 1, 2),
    (3, 4, 5),
    (6, 7, 0),
    (1, 3, 5),
    (2, 4, 6),
    (5,),
    (7, 6, 5),
    (0, 2, 7),
    (1, 1, 4),
    (3, 6),
)


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Every graph that is captured, forward and backward; it then runs as it is."""

    seen: list[Any] = []

    def backend(graph: Any, inputs: Any) -> Callable[..., Any]:
        seen.append(graph)
        return graph.forward  # type: ignore[no-any-return]

    torch._dynamo.reset()
    counters.clear()
    monkeypatch.setattr(compiling, "BACKEND", backend)
    return seen


def batches_of(task: Task, folder: Path) -> list[Batch]:
    write_dataset(task, folder, {"train": 8}, (64, 64))
    samples = TrainingSet(Dataset.open(folder, "train", task), task, (64, 64), STILL)
    made = [samples[0, index] for index in range(8)]
    assert all(isinstance(sample, EncodedSample) for sample in made)
    return [collate([made[index] for index in chosen]) for chosen in BATCHES]  # type: ignore[misc]


def compare(task: Task, backbone: str, batches: Sequence[Batch]) -> None:
    """Compiled and eager losses and gradients of every batch."""
    torch.manual_seed(0)
    model = create_model(task, backbone)
    about = Description.of(task, backbone, (64, 64))
    eager, quick = StepLosses(task, model, about), StepLosses(task, model, about, compile=True)
    weight = next(model.parameters())
    for number, batch in enumerate(batches):
        found = []
        for losses in (quick, eager):
            model.zero_grad()
            terms = losses(batch.images, batch.targets, None)
            terms["total"].backward()
            assert weight.grad is not None
            found.append({"gradient": weight.grad.clone()} | {name: terms[name].detach() for name in terms})
        for name, value in found[1].items():
            torch.testing.assert_close(found[0][name], value, rtol=1e-4, atol=1e-5, msg=f"{name} of {number}")


#: Tracing takes seconds a task; the others' is left to the thorough tests.
QUICK = ("ctdet",)
EVERY = [name if name in QUICK else pytest.param(name, marks=pytest.mark.thorough) for name in list_tasks()]


@pytest.mark.parametrize("name", EVERY)
def test_few_compilations_whatever_the_number_of_objects(
    name: str, graphs: list[Any], tmp_path: Path, tiny_backbone
) -> None:
    task = create_task(name, scenes_of(load_task_class(name)).categories)
    batches = batches_of(task, tmp_path)
    assert len({len(target) for batch in batches for target in batch.targets.values()}) > 4
    with tiny_backbone() as backbone:
        compare(task, backbone, batches)
    assert not counters["graph_break"]
    assert len(graphs) == 2  # the second for the shorter batch


@pytest.mark.thorough
@pytest.mark.parametrize("backbone", ["resfpn18", "resdcn18"])
def test_networks_compile_with_their_losses(backbone: str, graphs: list[Any], tmp_path: Path) -> None:
    task = create_task("ctdet", SHAPES, size_loss="giou")
    compare(task, backbone, batches_of(task, tmp_path))
    assert not counters["graph_break"]
    assert len(graphs) == 2
