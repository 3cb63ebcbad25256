"""A job of one or more processes: the gradients and weights of a few steps, for every task.

    torchrun --nproc-per-node 3 tests/training/one_job.py DATA OUT
    python tests/training/one_job.py DATA OUT

DATA holds a data directory by task. OUT.<number of processes>.pt holds, by case, the gradients of every step
before clipping, the weights in the end, and how many images and objects each process had.
"""

from __future__ import annotations

import itertools
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ctnet.backbones import Backbone, register_backbone
from ctnet.base.ranks import Ranks, launched_ranks
from ctnet.core.task import list_tasks
from ctnet.training.display import Silent
from ctnet.training.gradients import Step
from ctnet.training.optimization import MovingAverage
from ctnet.training.request import Loop, Machine, Network, RecipeChoice, TrainingData
from ctnet.training.session import new_session
from ctnet.training.trainer import Trainer

STEPS = 5


class OneStack(Backbone):
    """Two convolutions."""

    channels, divisor, hidden = 6, 4, 6

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 6, 3, 2, 1), nn.ReLU(), nn.Conv2d(6, 6, 3, 2, 1))

    def forward(self, images: Tensor) -> list[Tensor]:
        return [self.layers(images)]


class TwoStacks(Backbone):
    """With intermediate supervision, batch norms, and a layer that no output comes from."""

    channels, divisor, hidden, stacks = 6, 4, 6, 2

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(
            nn.Conv2d(3, 6, 3, 2, 1), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 6, 3, 2, 1)
        )
        self.second = nn.Sequential(nn.Conv2d(6, 6, 3, 1, 1), nn.BatchNorm2d(6))
        self.unused = nn.Conv2d(6, 6, 1)

    def forward(self, images: Tensor) -> list[Tensor]:
        first = self.first(images)
        return [first, first + self.second(first)]


def one_stack(pretrained: bool = False) -> Backbone:
    return OneStack()


def two_stacks(pretrained: bool = False) -> Backbone:
    return TwoStacks()


CASES: tuple[dict[str, Any], ...] = (
    {"backbone": "one_stack", "batch_norm": "own", "accumulate": 1, "clip_norm": None},
    {"backbone": "two_stacks", "batch_norm": "sync", "accumulate": 1, "clip_norm": 0.05},
    {"backbone": "two_stacks", "batch_norm": "sync", "accumulate": 2, "clip_norm": None},
)


def trainer_of(task: str, case: dict[str, Any], data: Path, ranks: Ranks, folder: Path) -> Trainer:
    fields = {"epochs": 9, "batch_size": 4, "size": (64, 64)}
    made = new_session(
        task,
        TrainingData(data / task, overfit=9),
        Network(backbone=case["backbone"]),
        RecipeChoice("small", {**fields, "accumulate": case["accumulate"], "clip_norm": case["clip_norm"]}),
        Loop(amp="off", batch_norm=case["batch_norm"]),
        Machine("cpu", 0, Silent(), ranks),
        folder / f"{task}-{CASES.index(case)}",
    )
    trainer = made.trainer
    trainer.model.double()
    trainer.model.backbone.register_forward_pre_hook(lambda _, inputs: inputs[0].double())
    trainer.optimizer = torch.optim.SGD(trainer.model.parameters(), 0.01)
    trainer.average = MovingAverage(trainer.model, 0.9)
    trainer._connect()
    trainer._train_mode()
    return trainer


def share_of(step: Step) -> list[tuple[int, int]]:
    """(images, objects) of this process in each batch; objects are the cells that are taught."""
    taught = []
    for batch in step.batches:
        cells = [len(target) for target in batch.targets.values() if hasattr(target, "value")]
        taught.append((len(batch), max(cells, default=0)))
    return taught


def learn(trainer: Trainer) -> dict[str, Any]:
    gradients, shares, losses = [], [], []
    batches = itertools.chain.from_iterable(trainer.loader.epoch(epoch) for epoch in itertools.count())
    steps = trainer.gradients.steps(batches, trainer.config.accumulate)
    for step in itertools.islice(steps, STEPS):
        _, terms = trainer._losses_and_gradients(step)
        shares.append(trainer.ranks.exchange(share_of(step)))
        losses.append(terms)
        named = trainer.model.named_parameters()
        gradients.append({name: p.grad.clone() for name, p in named if p.grad is not None})
        trainer._step()
    weights = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    assert trainer.average is not None
    weights |= {f"average.{name}": value.clone() for name, value in trainer.average.weights.items()}
    return {"gradients": gradients, "weights": weights, "shares": shares, "losses": losses}


def main() -> None:
    torch.set_num_threads(1)
    data, out = (Path(argument).absolute() for argument in sys.argv[1:3])
    register_backbone(one_stack)
    register_backbone(two_stacks)
    with launched_ranks() as ranks:
        # The folders of the runs must be seen by all processes.
        folder = Path(ranks.broadcast(tempfile.mkdtemp(dir=out.parent)))
        learnt = {
            f"{task} {number}": learn(trainer_of(task, case, data, ranks, folder))
            for task in list_tasks()
            for number, case in enumerate(CASES)
        }
        if ranks.is_first:
            torch.save(learnt, f"{out}.{ranks.count}.pt")


if __name__ == "__main__":
    main()
