"""Choosing a backbone and an input size for a time per image."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from ctnet.backbones import describe_backbone, list_backbones
from ctnet.base.errors import CtnetError
from ctnet.base.output import counted
from ctnet.base.progress import track
from ctnet.budget.blocks import Block, blocks_of, multiply_adds, prepared_on_meta
from ctnet.budget.clock import NETWORK_ROUNDS, Clock, predicted, threads, time_blocks, time_network
from ctnet.core.heads import Head
from ctnet.model import check_input_size, create_model

#: Sides of a square input that are tried, pixels: the smallest, the largest, and the step between them.
SMALLEST, LARGEST, STEP = 128, 1024, 32
#: Multiply-adds per pixel and side of the input of a balanced network: light32 at 256x256.
_BALANCED = (13_000, 256)
#: Trunk and input grow together: the side of a balanced input grows with this power of the arithmetic per
#: pixel. So of a longer time three parts (of its logarithm) go to the trunk, and two to pixels.
_GROWTH = 1 / 3
#: A network is left out unmeasured where it would have to compute so many times as fast as others do.
_HOPELESS = 4.0


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
        return abs(math.log(self.side / side) - _GROWTH * math.log(self.per_pixel / per_pixel))

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
        skipped: backbones that were not measured, since their arithmetic alone takes far too long.
    """

    budget: Budget
    chosen: Candidate
    candidates: tuple[Candidate, ...]
    refused: tuple[Candidate, ...]
    skipped: tuple[str, ...]

    def lines(self) -> Iterator[str]:
        """What was chosen, in words, line by line."""
        how = f"median of {NETWORK_ROUNDS}, {counted(self.budget.threads, 'thread')}"
        for one in self.refused:
            yield (
                f"{one} was predicted to take {one.predicted:.1f} ms and takes {one.measured:.1f} ms: "
                "the next smaller one instead"
            )
        chosen = self.chosen
        yield f"{chosen}: predicted {chosen.predicted:.1f} ms, measured {chosen.measured:.1f} ms ({how})"


def trainable_backbones() -> list[str]:
    """Backbones that learn from scratch on small data sets; models of families are left out."""
    described = [describe_backbone(name) for name in list_backbones()]
    return [one.name for one in described if one.learns_from_scratch and not one.error]


def propose(
    names: Sequence[str],
    heads: Mapping[str, Head],
    budget: Budget,
    size: tuple[int, int] | None = None,
    clock: Clock = time.perf_counter,
) -> Proposal:
    """Choose a backbone and an input size for a time per image, and measure the choice.

    Blocks of the networks are measured on this machine's CPU (``ctnet.budget.clock``), from the network with
    the least arithmetic to that with the most. Where the size is open, each backbone gets the largest square
    input that its predicted time allows, and the one is chosen that is nearest to the line of balance
    (``Candidate.imbalance``); for a given size the one with the most arithmetic is. The choice is then built
    and measured; if it takes longer than the budget, the next smaller one is tried.

    Args:
        names: backbones to choose from.
        heads: the task's.
        budget: the time, and the threads that it is for.
        size: (width, height) of the input, pixels; chosen as well when None.
        clock: with which times are measured.

    Raises:
        CtnetError: when none is fast enough, naming the fastest; for a size that suits none of them, and an
            unknown backbone.
    """
    with threads(budget.threads):
        search = _Search(budget, size, clock)
        networks = [_Network(name, heads) for name in track(names, "building", unit="backbones")]
        _check_size(networks, size)
        networks = [network for network in networks if size is None or network.takes(size)]
        networks.sort(key=lambda network: network.per_pixel)
        found = [search.best(network) for network in track(networks, "measuring", unit="backbones")]
        candidates = [one for one in found if one is not None]
        chosen, refused = _verified(search, {network.name: network for network in networks}, candidates)
    skipped = tuple(network.name for network, one in zip(networks, found, strict=True) if one is None)
    return Proposal(budget, chosen, tuple(candidates), refused, skipped)


class _Network:
    """A backbone with heads, on the meta device.

    Attributes:
        name: the backbone's.
        heads: the task's.
        step: sides of inputs are multiples of it, pixels.
        smallest: the smallest side that is tried, pixels.
    """

    def __init__(self, name: str, heads: Mapping[str, Head]) -> None:
        self.name, self.heads = name, heads
        self._model = prepared_on_meta(lambda: create_model(heads, name))
        self.divisor = self._model.backbone.divisor
        self.step = math.lcm(STEP, self.divisor)
        self.smallest = -(-SMALLEST // self.step) * self.step
        self.per_pixel = multiply_adds(self.blocks((self.smallest, self.smallest))) / self.smallest**2

    def takes(self, size: tuple[int, int]) -> bool:
        """Whether both sides are multiples of the divisor."""
        return not any(side % self.divisor for side in size)

    def blocks(self, size: tuple[int, int]) -> Mapping[Block, int]:
        """See ``blocks_of``."""
        return blocks_of(self._model, size)


class _Search:
    """Candidates for one budget; every block is measured once.

    Args:
        budget: the time and the threads.
        size: (width, height) of the input; None where it is open.
        clock: with which times are measured.
    """

    def __init__(self, budget: Budget, size: tuple[int, int] | None, clock: Clock) -> None:
        self.budget, self.size, self.clock = budget, size, clock
        self._times: dict[Block, float] = {}
        self._rate = 0.0  # the most multiply-adds per millisecond of any network so far

    def at(self, network: _Network, size: tuple[int, int]) -> Candidate:
        """A backbone at one size."""
        counts = network.blocks(size)
        self._times |= time_blocks([block for block in counts if block not in self._times], self.clock)
        takes = predicted(counts, self._times)
        products = multiply_adds(counts)
        self._rate = max(self._rate, products / takes)
        return Candidate(network.name, size, takes, takes <= self.budget.milliseconds, products)

    def best(self, network: _Network) -> Candidate | None:
        """A backbone at the largest size that fits; None where its arithmetic alone takes far too long."""
        side = network.smallest
        size = self.size or (side, side)
        if network.per_pixel * size[0] * size[1] > _HOPELESS * self.budget.milliseconds * (
            self._rate or math.inf
        ):
            return None
        best = self.at(network, size)
        if self.size is not None or not best.fits:
            return best
        above = LARGEST + network.step
        while (next_side := best.size[0] + network.step) < above:
            guess = math.sqrt(self.budget.milliseconds / best.predicted) * best.size[0]
            side = min(max(int(guess // network.step * network.step), next_side), above - network.step)
            tried = self.at(network, (side, side))
            if tried.fits:
                best = tried
            else:
                above = side
        return best

    def smaller(self, network: _Network, candidate: Candidate) -> Candidate | None:
        """The next smaller size of a candidate's backbone; None where there is none, or the size is given."""
        side = candidate.size[0] - network.step
        return None if self.size is not None or side < network.smallest else self.at(network, (side, side))


def _check_size(networks: Sequence[_Network], size: tuple[int, int] | None) -> None:
    """Refuse a size that suits no backbone."""
    if size is None or any(network.takes(size) for network in networks):
        return
    least = min(networks, key=lambda network: network.divisor)
    check_input_size(size, least.divisor, least.name)


def _verified(
    search: _Search, networks: Mapping[str, _Network], candidates: Sequence[Candidate]
) -> tuple[Candidate, tuple[Candidate, ...]]:
    """The candidate that is chosen, measured, and those that were too slow when they were measured."""
    budget, refused = search.budget, list[Candidate]()
    left = {one.backbone: one for one in candidates if one.fits}
    while left:
        chosen = _preferred(list(left.values()), search.size)
        network = networks[chosen.backbone]
        model = create_model(network.heads, chosen.backbone)
        chosen = replace(chosen, measured=time_network(model, chosen.size, search.clock))
        assert chosen.measured is not None
        if chosen.measured <= budget.milliseconds:
            return chosen, tuple(refused)
        refused.append(chosen)
        smaller = search.smaller(network, chosen)
        if smaller is None:
            del left[chosen.backbone]
        else:
            left[chosen.backbone] = smaller
    fastest = min((*refused, *candidates), key=lambda one: one.measured or one.predicted)
    takes = fastest.measured or fastest.predicted
    raise CtnetError(
        f"no backbone takes {budget} or less: the fastest, {fastest}, takes {takes:.1f} ms; give "
        f"--budget {math.ceil(1.1 * takes)}ms"
        f"{' or more' if search.size is None else ', or a smaller --size'}"
    )


def _preferred(candidates: Sequence[Candidate], size: tuple[int, int] | None) -> Candidate:
    if size is not None:
        return max(candidates, key=lambda one: one.multiply_adds)
    return min(candidates, key=lambda one: one.imbalance)
