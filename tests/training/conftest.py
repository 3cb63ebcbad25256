"""A tiny network and a tiny data set, so that trainings take a second."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from ctnet.backbones import Backbone
from ctnet.base.errors import CtnetError
from ctnet.core.task import create_task
from ctnet.data.shape_scenes import SHAPES
from ctnet.data.synthetic import write_dataset
from ctnet.training.display import Quiet
from ctnet.training.request import Machine, Network, RecipeChoice, TrainingData
from ctnet.training.session import Session, new_session, resumed_session


class Tiny(Backbone):
    channels, divisor, hidden = 8, 4, 8

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=2, padding=1),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Conv2d(8, 8, 3, stride=2, padding=1),
            nn.Dropout2d(0.1),  # draws from the global random stream, which must be restored too
        )

    def forward(self, images: Tensor) -> list[Tensor]:
        return [self.layers(images)]


def with_dropout(pretrained: bool = False) -> Backbone:
    return Tiny()


def broken(pretrained: bool = False) -> Backbone:
    if pretrained:
        raise CtnetError("weights cannot be loaded")
    return Tiny()


@pytest.fixture(scope="package", autouse=True)
def backbones(registered_backbones: Callable[..., AbstractContextManager[str]]) -> Iterator[None]:
    with registered_backbones(with_dropout, broken):
        yield


@pytest.fixture(scope="package", autouse=True)
def one_thread():
    """Sums depend on how they are split over threads; compared runs must split them in the same way."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def scenes(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("scenes")
    write_dataset(create_task("ctdet", SHAPES), folder, {"train": 10, "val": 4}, (64, 64))
    return folder


class Recorder(Quiet):
    """Keeps the lines that were printed."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


def start(scenes: Path, output: Path, **changes) -> Session:
    """A new session; changes are fields of the requests, and `fields` those of the recipe."""
    fields = {"epochs": 3, "batch_size": 4, "size": (64, 64), **changes.pop("fields", {})}
    fields |= {
        name: changes.pop(name)
        for name in ("accumulate", "save_every", "batch_norm", "amp")
        if name in changes
    }
    task = changes.pop("task", "ctdet")
    settings = {"backbone": "with_dropout", "recipe": "small", "workers": 0, "device": "cpu", **changes}

    def group(cls, *names: str, **fixed):
        return cls(**fixed, **{name: settings.pop(name) for name in names if name in settings})

    made = new_session(
        task,
        group(TrainingData, "train_split", "val_split", "overfit", "strict", directory=scenes),
        group(Network, "options", "backbone", "pretrained", "init"),
        RecipeChoice(
            settings.pop("recipe"), fields, settings.pop("rate", None), settings.pop("largest_batch", False)
        ),
        settings.pop("seed", 0),
        Machine(
            settings.pop("device"),
            settings.pop("workers"),
            settings.pop("display", None) or Recorder(),
            cache=settings.pop("cache", "none"),
            observers=settings.pop("observers", ()),
        ),
        output,
    )
    assert not settings
    return made


@pytest.fixture(scope="session")
def session() -> Callable[..., Session]:
    """``session(scenes, output, **changes)`` prepares a new run of three short epochs."""
    return start


@pytest.fixture(scope="session")
def resumed() -> Callable[..., Session]:
    """``resumed(run, **changes)`` continues a run."""

    def resume(run: Path, **changes) -> Session:
        machine = Machine("cpu", 0, Recorder(), observers=changes.pop("observers", ()))
        return resumed_session(run, machine=machine, **changes)

    return resume
