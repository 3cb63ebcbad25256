"""The processes of one job: each takes its share, they tell each other what they know, and end together."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from ctnet.base.errors import CtnetError
from ctnet.base.numbers import whole_number
from ctnet.base.schema import shorten

if TYPE_CHECKING:
    from torch import Tensor
    from torch.distributed import ProcessGroup
    from torch.distributed.distributed_c10d import Store

T = TypeVar("T")

#: Under this name a job's store holds the refusal that ended it.
_REFUSED = "refused"
#: How a lost connection is told by gloo, NCCL and the store.
_OF_CONNECTIONS = ("gloo", "nccl", "connection", "timed out", "timeout", "broken pipe", "socket")


class LostRank(CtnetError):
    """Another process of the job ended or does not answer: nobody's mistake, so starting again may help."""

    exit_code = 1


@dataclass(frozen=True)
class Ranks:
    """The rank of this process, and the number of processes.

    Attributes:
        rank: 0 is the first.
        count: number of processes.
        store: what the processes of a job share, also with those that ``torchrun`` starts again; None where
            there is one process.
        group: in which ``add`` adds up; None: in that of all other exchanges.
    """

    rank: int = 0
    count: int = 1
    store: Store | None = field(default=None, compare=False, repr=False)
    group: ProcessGroup | None = field(default=None, compare=False, repr=False)

    def __deepcopy__(self, memo: dict[int, Any]) -> Ranks:
        return self  # copies of a network talk to the same processes

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
        with connected():
            distributed.gather_object(value, values)
        return values or []

    def exchange(self, value: T) -> list[T]:
        """All processes' values by rank, in every process. All must call it."""
        from torch import distributed

        if self.count == 1:
            return [value]
        values: list[Any] = [None] * self.count
        with connected():
            distributed.all_gather_object(values, value)
        return values

    def broadcast(self, value: T) -> T:
        """The first process's value, in every process. All must call it."""
        from torch import distributed

        values = [value]
        if self.count > 1:
            with connected():
                distributed.broadcast_object_list(values)
        return values[0]

    def add(self, tensor: Tensor) -> Tensor:
        """The sum over all processes, in every process; the tensor itself is changed. All must call it."""
        from torch import distributed

        if self.count > 1:
            with connected():
                distributed.all_reduce(tensor, group=self.group)
        return tensor

    def spread(self, tensor: Tensor) -> None:
        """Overwrite a tensor with the first process's. All must call it."""
        from torch import distributed

        if self.count > 1:
            with connected():
                distributed.broadcast(tensor, 0)

    def apart(self) -> Ranks:
        """The same processes, whose sums keep no order with any others. All must call it."""
        from torch import distributed

        group: Any = distributed.new_group() if self.count > 1 else None
        return replace(self, group=group)

    @contextmanager
    def agreed(self) -> Iterator[None]:
        """What lies inside happens in all processes or in none: a user's mistake in one is raised in all.

        Inside, the processes must not wait for each other.

        Raises:
            CtnetError: the error of the first process that has one.
        """
        mistake: CtnetError | None = None
        try:
            yield
        except CtnetError as error:
            if self.count == 1:
                raise
            mistake = error
        if self.count > 1:
            raise_first(self.exchange(told(mistake)), mistake)

    def require_same(self, known: Mapping[str, Any], fix: str) -> None:
        """Refuse to go on where the processes do not know the same. All must call it.

        Args:
            known: by name, what must be equal.
            fix: what the user can do, the end of the error.
        """
        rows = self.exchange(dict(known))
        for rank, row in enumerate(rows):
            if different := [name for name in known if row[name] != rows[0][name]]:
                raise CtnetError(f"process {rank} has another {different[0]} than process 0; {fix}")

    def remember(self, name: str, text: str) -> None:
        """Keep a text for the processes of the same job that ``torchrun`` may start again."""
        if self.store is not None and self.is_first:
            self.store.set(name, text)

    def recall(self, name: str) -> str | None:
        """What ``remember`` kept, before this process was started again; None for nothing."""
        if self.store is None or not self.store.check([name]):
            return None
        return self.store.get(name).decode()


#: Text and details of a user's mistake, for other processes.
Told = tuple[str, tuple[str, ...]]


def told(mistake: CtnetError | None) -> Told | None:
    """What other processes are told of a mistake."""
    return None if mistake is None else (str(mistake), mistake.details)


def raise_first(mistakes: Sequence[Told | None], own: Exception | None = None) -> None:
    """Raise the first mistake of all processes, in each of them.

    Args:
        mistakes: text and details by rank; None for none.
        own: this process's, as the cause.
    """
    for mistake in mistakes:
        if mistake is not None:
            raise CtnetError(*mistake) from own


def is_disconnected(error: Exception) -> bool:
    """Whether an error of torch says that another process cannot be reached."""
    text = f"{type(error).__name__}: {error}".lower()
    return isinstance(error, RuntimeError) and any(word in text for word in _OF_CONNECTIONS)


@contextmanager
def connected() -> Iterator[None]:
    """Turn torch's errors for a process that cannot be reached into ``LostRank``."""
    try:
        yield
    except RuntimeError as error:
        if not is_disconnected(error):
            raise
        reason = str(error).splitlines()[0].rpartition("] ")[2][:120]
        raise LostRank(
            f"another process of this job ended or does not answer ({reason}); see what it said, and "
            "continue with --resume"
        ) from error


def number_of_processes() -> int:
    """How many processes ``torchrun`` started; 1 without it.

    Raises:
        CtnetError: where the environment gives another text than a number.
    """
    return _number_in("WORLD_SIZE")


def number_on_machine() -> int:
    """How many processes ``torchrun`` started on this machine; 1 without it."""
    return _number_in("LOCAL_WORLD_SIZE")


def _number_in(variable: str) -> int:
    text = os.environ.get(variable, "1")
    number = whole_number(text)
    if number is None:
        raise CtnetError(f"{variable} is {shorten(text)}, not a number; unset it, or start with torchrun")
    return number


def is_first_process() -> bool:
    """Whether this is the process of a job that prints."""
    return number_of_processes() < 2 or os.environ.get("RANK", "0") == "0"


@contextmanager
def launched_ranks(device: str = "cpu") -> Iterator[Ranks]:
    """The process group that ``torchrun`` started, for as long as the context lasts; else a single process.

    A user's mistake that ends one process ends all of them, with the same words; and those that ``torchrun``
    starts again are told it at once.

    Args:
        device: on which tensors are added up.

    Raises:
        CtnetError: when the processes cannot connect to each other, or the job was refused before.
    """
    if number_of_processes() < 2:
        yield Ranks()
        return
    from torch import distributed
    from torch.distributed.distributed_c10d import PrefixStore

    seconds = _timeout()
    backend = "cpu:gloo,cuda:nccl" if device.startswith("cuda") else "gloo"
    try:
        rank, store = int(os.environ["RANK"]), _store(seconds)
        if store.check([_REFUSED]):
            raise CtnetError(*json.loads(store.get(_REFUSED)))
        attempt = PrefixStore(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"), store)
        distributed.init_process_group(
            backend,
            store=attempt,
            rank=rank,
            world_size=number_of_processes(),
            timeout=timedelta(seconds=seconds),
        )
    except (KeyError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise CtnetError(
            f"WORLD_SIZE is {os.environ['WORLD_SIZE']}, but the processes cannot connect ({reason}); start "
            "them with torchrun"
        ) from error
    try:
        yield Ranks(rank, number_of_processes(), store)
    except LostRank:
        if refused := _refusal(store):
            raise CtnetError(*refused) from None
        raise
    except CtnetError as error:
        store.set(_REFUSED, json.dumps([str(error), error.details]))
        raise
    finally:
        distributed.destroy_process_group()


def _timeout() -> float:
    """Seconds after which a process that does not answer counts as lost: CTNET_TIMEOUT, or ten minutes."""
    text = os.environ.get("CTNET_TIMEOUT") or "600"
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 1e9:
        raise CtnetError(f"CTNET_TIMEOUT is {text!r}; give it the seconds to wait for a process, such as 600")
    return seconds


def _store(seconds: float) -> Store:
    """The store that ``torchrun`` keeps for the job; of processes started by hand, the first one's."""
    from torch import distributed

    if os.environ["MASTER_PORT"] == "0":
        # torchrun takes a free port, but does not tell its processes which.
        raise CtnetError(
            "torchrun was started with --master-port 0, so the processes do not know where to meet; use "
            "--standalone instead, or give a port"
        )
    kept = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    store: Store = distributed.TCPStore(  # type: ignore[attr-defined]
        os.environ["MASTER_ADDR"],
        int(os.environ["MASTER_PORT"]),
        world_size=None if kept else number_of_processes(),
        is_master=not kept and os.environ["RANK"] == "0",
        timeout=timedelta(seconds=seconds),
    )
    return store


def _refusal(store: Store) -> list[Any] | None:
    """The refusal of the process that ended first, which it tells before it ends."""
    for wait in (0.0, 0.5, 1.5):
        time.sleep(wait)
        try:
            if store.check([_REFUSED]):
                found: list[Any] = json.loads(store.get(_REFUSED))
                return found
        except RuntimeError:  # the process that kept the store is gone
            return None
    return None


def device_of_rank(device: str) -> str:
    """The GPU of this process among those of its machine, where the device is "auto" or "cuda"."""
    import torch

    local = os.environ.get("LOCAL_RANK")
    if local is None or device not in ("auto", "cuda") or not torch.cuda.is_available():
        return device
    return f"cuda:{_number_in('LOCAL_RANK') % torch.cuda.device_count()}"
