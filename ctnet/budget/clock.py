"""Measuring building blocks, and whole networks, on this machine's CPU."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch

from ctnet.base.output import warn_once
from ctnet.budget.blocks import Block, Operation
from ctnet.inference.prepare import prepare_for_inference
from ctnet.model import CenterNet

#: Reads a clock, in seconds: ``time.perf_counter``, or ``time.process_time`` on a busy machine (one thread).
Clock = Callable[[], float]

#: Rounds that count, after one that warms up: of building blocks, and of a whole network.
BLOCK_ROUNDS = 7
NETWORK_ROUNDS = 15


@contextmanager
def threads(number: int) -> Iterator[None]:
    """Compute with so many threads within the context."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def time_blocks(
    blocks: Collection[Block], clock: Clock = time.perf_counter, rounds: int = BLOCK_ROUNDS
) -> dict[Block, float]:
    """Milliseconds of each block, a median.

    Every round calls each block once. So a block's weights were driven from the nearest caches by those of
    others since its last call, as in a network, while its maps have just been written; called again and again
    it would be faster than it ever is in a network.

    Args:
        blocks: what to measure.
        clock: seconds.
        rounds: that count.

    Returns:
        A time for each; 0 for one that cannot be called on its own, of which a warning is logged.
    """
    with torch.inference_mode():
        operations = {block: operation for block in blocks if (operation := _checked(block)) is not None}
        calls = [(operation.write_maps, operation) for operation in operations.values()]
        medians = dict(zip(operations, _medians(calls, clock, rounds), strict=True))
    return {block: medians.get(block, 0.0) for block in blocks}


def _checked(block: Block) -> Operation | None:
    """A block on the CPU; None, with a warning, where it cannot be called with any values of its shapes."""
    try:
        operation = block.on_cpu()
        operation()
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        warn_once(f"{block.name} is not part of the predicted times, since it cannot be measured ({reason})")
        return None
    return operation


def time_network(
    model: CenterNet,
    size: tuple[int, int],
    clock: Clock = time.perf_counter,
    rounds: int = NETWORK_ROUNDS,
) -> float:
    """Milliseconds from one input to activated maps, as inference prepares the network: a median.

    Args:
        model: the network, on the CPU; it is not changed.
        size: (width, height) of the input, pixels.
        clock: seconds.
        rounds: that count.
    """
    prepared = prepare_for_inference(model.eval())
    width, height = size
    with torch.inference_mode():
        images = torch.empty(1, prepared.inputs, height, width)
        return _medians([(images.uniform_, lambda: prepared.activated(images))], clock, rounds)[0]


def predicted(counts: Mapping[Block, int], milliseconds: Mapping[Block, float]) -> float:
    """The time of a network: that of its blocks, as often as each occurs."""
    return sum(count * milliseconds[block] for block, count in counts.items())


def _medians(
    calls: Sequence[tuple[Callable[[], object], Callable[[], object]]], clock: Clock, rounds: int
) -> list[float]:
    """Median milliseconds of the second function of each pair; the first prepares it, in every round."""
    found: list[list[float]] = [[] for _ in calls]
    for turn in range(rounds + 1):
        for (prepare, run), times in zip(calls, found, strict=True):
            prepare()
            begun = clock()
            run()
            if turn:
                times.append(1e3 * (clock() - begun))
    return [statistics.median(times) for times in found]
