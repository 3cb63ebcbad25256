"""A time per image, and what was found for it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch

from ctnet.base.output import counted
from ctnet.budget.clock import NETWORK_ROUNDS

#: Multiply-adds per pixel and side of the input of a balanced network: light32 at 256x256.
_BALANCED = (13_000, 256)
#: Trunk and input grow together: the side of a balanced input grows with this power of the arithmetic per
#: pixel. So of a longer time three parts (of its logarithm) go to the trunk, and two to pixels.
_GROWTH = 1 / 3


@dataclass(frozen=True)
class Budget:
    """A time per image, from the network's input to activated maps.

    Attributes:
        milliseconds: the time.
        threads: with which the network computes.
    """

    milliseconds: float
    threads: int

    @classmethod
    def of(cls, milliseconds: float, threads: int | None = None) -> Budget:
        """A time, for the number of threads that torch uses here unless another one is given."""
        return cls(milliseconds, threads or torch.get_num_threads())

    def __str__(self) -> str:
        return f"{self.milliseconds:g} ms on {counted(self.threads, 'thread')}"


@dataclass(frozen=True)
class Candidate:
    """A backbone with an input size.

    Attributes:
        backbone: its name.
        size: (width, height) of the input, pixels: the largest that fits, or the one that was asked for.
        predicted: milliseconds, the sum of its building blocks.
        fits: whether the prediction is within the budget; if not, the size is the smallest.
        multiply_adds: the number that convolutions and products take, per image.
        measured: milliseconds of the whole network, a median; None where it was not measured.
    """

    backbone: str
    size: tuple[int, int]
    predicted: float
    fits: bool
    multiply_adds: int
    measured: float | None = None

    @property
    def side(self) -> float:
        """Side of a square of as many pixels as the input."""
        return math.sqrt(self.size[0] * self.size[1])

    @property
    def per_pixel(self) -> float:
        """Multiply-adds per pixel of the input: how much trunk there is."""
        return self.multiply_adds / (self.size[0] * self.size[1])

    @property
    def imbalance(self) -> float:
        """How far input and trunk are from growing together: 0 on the line, else the logarithm of a factor.

        Source: after Tan and Le, EfficientNet, 2019, section 3.3 (compound scaling; 0.43 of it for pixels).
        """
        per_pixel, side = _BALANCED
        return abs(math.log(self.side / side) - _GROWTH * math.log(max(self.per_pixel, 1) / per_pixel))

    def __str__(self) -> str:
        return f"{self.backbone} at {self.size[0]}x{self.size[1]}"


@dataclass(frozen=True)
class Proposal:
    """What was found for a budget.

    Attributes:
        budget: what was asked for.
        chosen: with its measured time.
        candidates: all that were looked at, in the order of their arithmetic per pixel.
        refused: candidates that were chosen before, but took longer than predicted and than the budget.
        skipped: by backbone, why it was not looked at.
    """

    budget: Budget
    chosen: Candidate
    candidates: tuple[Candidate, ...]
    refused: tuple[Candidate, ...]
    skipped: Mapping[str, str]

    def lines(self) -> Iterator[str]:
        """What was chosen, in words, line by line."""
        for name, reason in self.skipped.items():
            yield f"{name} is left out: {reason}"
        how = f"median of {NETWORK_ROUNDS}, {counted(self.budget.threads, 'thread')}"
        for one in self.refused:
            yield (
                f"{one} was predicted to take {one.predicted:.1f} ms and takes {one.measured:.1f} ms: "
                "the next smaller one instead"
            )
        chosen = self.chosen
        yield f"{chosen}: predicted {chosen.predicted:.1f} ms, measured {chosen.measured:.1f} ms ({how})"
