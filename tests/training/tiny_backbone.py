"""A network of two convolutions, which processes of their own can import as well."""

from __future__ import annotations

from torch import Tensor, nn

from ctnet.backbones import Backbone


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
