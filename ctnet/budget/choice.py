"""Choosing a backbone and an input size for a time per image."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

from ctnet.backbones import describe_backbone, list_backbones
from ctnet.base.errors import CtnetError
from ctnet.base.progress import track
from ctnet.budget.blocks import Block, blocks_of, multiply_adds, prepared_on_meta
from ctnet.budget.clock import Clock, predicted, threads, time_blocks, time_network
from ctnet.budget.proposal import Budget, Candidate, Proposal
from ctnet.core.heads import Head
from ctnet.model import check_input_size, create_model

#: Sides of a square input that are tried, pixels: the smallest, the largest, and the step between them.
SMALLEST, LARGEST, STEP = 128, 1024, 32
#: A network is left out unmeasured where it would have to compute so many times as fast as others do.
_HOPELESS = 4.0


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
        networks, skipped = _planned(names, heads)
        _check_size(networks, size)
        networks = [network for network in networks if size is None or network.takes(size)]
        networks.sort(key=lambda network: network.per_pixel)
        candidates = []
        for network in track(networks, "measuring", unit="backbones"):
            best = search.best(network)
            if best is None:
                skipped[network.name] = "its arithmetic alone takes far too long"
            else:
                candidates.append(best)
        chosen, refused = _verified(search, {network.name: network for network in networks}, candidates)
    return Proposal(budget, chosen, tuple(candidates), refused, skipped)


def _planned(names: Sequence[str], heads: Mapping[str, Head]) -> tuple[list[_Network], dict[str, str]]:
    """The networks, and those that cannot be planned: name -> reason.

    Raises:
        CtnetError: when none can.
    """
    networks, skipped = [], dict[str, str]()
    for name in track(names, "building", unit="backbones"):
        try:
            networks.append(_Network(name, heads))
        except CtnetError:
            raise
        except Exception as error:  # of a plugin or a family: a step that depends on values, for example
            skipped[name] = f"its blocks cannot be found ({type(error).__name__}: {error})"
    if not networks:
        raise CtnetError("; ".join(f"{name}: {reason}" for name, reason in skipped.items()))
    return networks, skipped


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
