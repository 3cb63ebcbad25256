"""A job of one or more processes: the gradients and weights of a few steps, for every task.

    torchrun --nproc-per-node 3 tests/training/one_job.py DATA OUT [BACKBONE TASK]
    python tests/training/one_job.py DATA OUT [BACKBONE TASK]

DATA holds a data directory by task. OUT.<number of processes>.pt holds, by case, the gradients of every step
before clipping, the final weights, and how many images and objects each process had; and, by task, the
losses of 30 steps as they are trained, in float32 with AdamW. With a BACKBONE, it is trained instead of two
small ones.
"""

from __future__ import annotations

import itertools
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ctnet.backbones import Backbone, register_backbone
from ctnet.base.ranks import Ranks, launched_ranks
from ctnet.core.task import create_task, list_tasks, load_task_class, scenes_of
from ctnet.training.display import Silent
from ctnet.training.gradients import Step
from ctnet.training.optimization import MovingAverage
from ctnet.training.request import Machine, Network, RecipeChoice, TrainingData
from ctnet.training.session import new_session
from ctnet.training.trainer import Trainer

STEPS, STEPS_OF_ADAMW = 5, 30

#: Those that see one image: the network for the frame before has batch norms, which see their own process's.
TASKS = [
    name
    for name in list_tasks()
    if create_task(name, scenes_of(load_task_class(name)).categories).frames.count == 1
]


class OneStack(Backbone):
    """Two convolutions."""

    channels, divisor, hidden = 6, 4, 6

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 6, 3, 2, 1), nn.ReLU(), nn.Conv2d(6, 6, 3, 2, 1))

    def forward(self, images: Tensor) -> list[Tensor]:
        return [self.layers(images)]


class TwoStacks(Backbone):
    """With intermediate supervision, batch norms, and a layer without influence on the output."""

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


def trainer_of(
    task: str, case: dict[str, Any], data: Path, ranks: Ranks, folder: Path, exact: bool = True
) -> Trainer:
    """A trainer; if ``exact``, in float64 with SGD, else as every other."""
    fields = {"epochs": 20, "batch_size": 4, "size": (64, 64), "amp": "off"}
    made = new_session(
        task,
        TrainingData(data / task, overfit=9),
        Network(backbone=case["backbone"]),
        RecipeChoice(
            "small", fields | {name: case[name] for name in ("accumulate", "clip_norm", "batch_norm")}
        ),
        0,
        Machine("cpu", 0, Silent(), ranks),
        Path(tempfile.mkdtemp(dir=folder)) if ranks.is_first else folder,
    )
    trainer = made.trainer
    if not exact:
        trainer._connect()
        trainer._train_mode()
        return trainer
    trainer.model.double()
    trainer.model.register_forward_pre_hook(lambda _, inputs: (inputs[0].double(), *inputs[1:]))
    trainer.optimizer = torch.optim.SGD(trainer.model.parameters(), 0.01)
    trainer.average = MovingAverage(trainer.model, 0.9)
    trainer._connect()
    trainer._train_mode()
    return trainer


def share_of(step: Step) -> list[tuple[int, int]]:
    """(images, objects) of this process in each batch; objects are the cells that are trained."""
    taught = []
    for batch in step.batches:
        cells = [len(target) for target in batch.targets.values() if hasattr(target, "value")]
        taught.append((len(batch), max(cells, default=0)))
    return taught


def steps_of(trainer: Trainer, count: int) -> Iterator[Step]:
    """This many steps, over as many epochs as needed."""
    batches = itertools.chain.from_iterable(trainer.loader.epoch(epoch) for epoch in itertools.count())
    return itertools.islice(trainer.gradients.steps(batches, trainer.config.accumulate), count)


def losses_of(trainer: Trainer) -> list[float]:
    """The total losses of steps with the recipe's own optimizer."""
    losses = []
    for step in steps_of(trainer, STEPS_OF_ADAMW):
        _, terms = trainer._losses_and_gradients(step)
        if terms:  # else no image of the batch could be read
            losses.append(terms["loss"])
        trainer._step()
    return losses


def learn(trainer: Trainer) -> dict[str, Any]:
    gradients, shares, losses = [], [], []
    for step in steps_of(trainer, STEPS):
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
    tasks, cases = TASKS, CASES
    if len(sys.argv) > 3:
        cases, tasks = tuple({**case, "backbone": sys.argv[3]} for case in CASES[1:]), [sys.argv[4]]
    with launched_ranks() as ranks:
        # The folders of the runs must be visible to all processes.
        folder = Path(ranks.broadcast(tempfile.mkdtemp(dir=out.parent)))
        learnt: dict[str, Any] = {
            f"{task} {number}": learn(trainer_of(task, case, data, ranks, folder))
            for task in tasks
            for number, case in enumerate(cases)
        }
        learnt |= {
            f"{task} AdamW": losses_of(trainer_of(task, cases[-2], data, ranks, folder, exact=False))
            for task in tasks
        }
        if ranks.is_first:
            torch.save(learnt, f"{out}.{ranks.count}.pt")


if __name__ == "__main__":
    main()
