"""Where the reference numbers and the real data are found (without them their tests skip and say so), and a
tiny backbone."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
from torch import Tensor, nn

from ctnet.backbones import Backbone, _registry, register_backbone

SHARED = Path(os.environ.get("CTNET_SHARED", Path(__file__).parents[1].parent / "shared"))


def shared_folder(name: str) -> Path:
    folder = SHARED / name
    if not folder.is_dir():
        pytest.skip(f"no {name} folder in {SHARED}; set CTNET_SHARED to the folder that holds it")
    return folder


@pytest.fixture(scope="session")
def golden() -> Path:
    """The folder of reference numbers."""
    return shared_folder("golden")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data sets."""
    return shared_folder("data")


class Tiny(Backbone):
    """Two convolutions."""

    channels, divisor, hidden = 8, 32, 8

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, stride=2, padding=1)
        )

    def forward(self, images: Tensor) -> list[Tensor]:
        return [self.layers(images)]


def tiny(pretrained: bool = False) -> Backbone:
    return Tiny()


@contextmanager
def registered_tiny() -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_registry, "_factories", {**_registry._factories})
        register_backbone(tiny)
        yield "tiny"


@pytest.fixture(scope="session")
def tiny_backbone() -> Callable[[], AbstractContextManager[str]]:
    """Registers a backbone of two convolutions for a while: other tests count those of the registry."""
    return registered_tiny
