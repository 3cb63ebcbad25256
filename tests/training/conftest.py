"""A tiny network and a tiny data set, so that trainings take a second."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from ctnet.backbones import Backbone, _registry, register_backbone
from ctnet.base.errors import CtnetError
from ctnet.core.task import create_task
from ctnet.data.synthetic import SHAPES, write_dataset


class Tiny(Backbone):
    channels, divisor, hidden = 8, 4, 8

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=2, padding=1),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Conv2d(8, 8, 3, stride=2, padding=1),
            nn.Dropout2d(0.1),  # draws from the global random stream, which must be resumed too
        )

    def forward(self, images: Tensor) -> list[Tensor]:
        return [self.layers(images)]


def tiny(pretrained: bool = False) -> Backbone:
    return Tiny()


def broken(pretrained: bool = False) -> Backbone:
    if pretrained:
        raise CtnetError("weights cannot be loaded")
    return Tiny()


@pytest.fixture(scope="package", autouse=True)
def tiny_backbones():
    """Registered for these tests alone: others are parametrised over the registry."""
    before = dict(_registry._factories)
    register_backbone(tiny)
    register_backbone(broken)
    yield
    _registry._factories.clear()
    _registry._factories.update(before)


@pytest.fixture(scope="package", autouse=True)
def one_thread():
    """Sums depend on how they are split over threads; runs that are compared must agree on that."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def scenes(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("scenes")
    write_dataset(create_task("ctdet", SHAPES), folder, {"train": 10, "val": 4}, (64, 64))
    return folder
