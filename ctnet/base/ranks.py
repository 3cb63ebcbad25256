"""Evaluation by several processes: each takes its share, the first merges the results."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from ctnet.base.errors import CtnetError
from ctnet.base.numbers import whole_number
from ctnet.base.schema import shorten

T = TypeVar("T")


@dataclass(frozen=True)
class Ranks:
    """The rank of this process, and the number of processes.

    Attributes:
        rank: 0 is the first.
        count: number of processes.
    """

    rank: int = 0
    count: int = 1

    @classmethod
    def current(cls) -> Ranks:
        """Those of torch's process group; a single process where there is none."""
        from torch import distributed

        if not (distributed.is_available() and distributed.is_initialized()):
            return cls()
        return cls(distributed.get_rank(), distributed.get_world_size())

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def share(self, items: Sequence[T]) -> Sequence[T]:
        """This process's part of a sequence that all processes hold; lengths differ by one at most."""
        return items[self.rank :: self.count]

    def gather(self, value: T) -> list[T]:
        """All processes' values by rank, in the first process; an empty list elsewhere. All must call it."""
        from torch import distributed

        if self.count == 1:
            return [value]
        values: list[Any] | None = [None] * self.count if self.is_first else None
        distributed.gather_object(value, values)
        return values or []

    def broadcast(self, value: T) -> T:
        """The first process's value, in every process. All must call it."""
        from torch import distributed

        values = [value]
        if self.count > 1:
            distributed.broadcast_object_list(values)
        return values[0]


def number_of_processes() -> int:
    """How many processes ``torchrun`` started; 1 without it.

    Raises:
        CtnetError: where the environment gives another text than a number.
    """
    return _number_in("WORLD_SIZE")


def _number_in(variable: str) -> int:
    text = os.environ.get(variable, "1")
    number = whole_number(text)
    if number is None:
        raise CtnetError(f"{variable} is {shorten(text)}, not a number; unset it, or start with torchrun")
    return number


@contextmanager
def launched_ranks() -> Iterator[Ranks]:
    """The process group that ``torchrun`` started, for as long as the context lasts; else a single process.

    Raises:
        CtnetError: when the processes cannot connect to each other.
    """
    if number_of_processes() < 2:
        yield Ranks()
        return
    from torch import distributed

    try:
        # Only results travel, no tensors: gloo does that on any machine.
        distributed.init_process_group("gloo")
    except (ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise CtnetError(
            f"WORLD_SIZE is {os.environ['WORLD_SIZE']}, but the processes cannot connect ({reason}); start "
            "them with torchrun"
        ) from error
    try:
        yield Ranks.current()
    finally:
        distributed.destroy_process_group()


def device_of_rank(device: str) -> str:
    """The GPU of this process among those of its machine, where the device is "auto" or "cuda"."""
    import torch

    local = os.environ.get("LOCAL_RANK")
    if local is None or device not in ("auto", "cuda") or not torch.cuda.is_available():
        return device
    return f"cuda:{_number_in('LOCAL_RANK') % torch.cuda.device_count()}"
