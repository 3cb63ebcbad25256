"""Backbones of two convolutions: a slim one, one of four times its arithmetic, one of far too much."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from torch import Tensor, nn

from ctnet.backbones import Backbone


class Plain(Backbone):
    """Two convolutions of stride 2, with a batch norm between them."""

    def __init__(self, width: int, divisor: int = 32) -> None:
        super().__init__()
        self.divisor = divisor
        self.channels = self.hidden = width
        self.layers = nn.Sequential(
            nn.Conv2d(3, width, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, stride=2, padding=1),
        )

    def forward(self, images: Tensor) -> list[Tensor]:
        self.check_size(images)
        return [self.layers(images)]


def slim(pretrained: bool = False) -> Backbone:
    return Plain(8)


def broad(pretrained: bool = False) -> Backbone:
    return Plain(16)


def huge(pretrained: bool = False) -> Backbone:
    return Plain(256, divisor=128)


@pytest.fixture(scope="package")
def slim_and_broad(registered_backbones) -> Iterator[tuple[str, str]]:
    """The names of two; "huge" is registered as well."""
    with registered_backbones(slim, broad, huge):
        yield "slim", "broad"
