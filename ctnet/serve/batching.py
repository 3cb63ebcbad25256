"""Dynamic batches: items that arrive one by one are worked on together, by a single thread."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

#: Weight of the last batch in the running mean of the time per item.
_NEW = 0.2


class Full(Exception):
    """All places are taken.

    Attributes:
        seconds: after which one is likely to be free; whole, at least 1.
    """

    def __init__(self, seconds: int) -> None:
        super().__init__(f"all places are taken; try again in {seconds} s")
        self.seconds = seconds


@dataclass(eq=False)
class _Waiting(Generic[Item, Result]):
    item: Item
    since: float
    result: asyncio.Future[Result]


class Batcher(Generic[Item, Result]):
    """Gathers items into batches for one worker thread, which is the only one that calls ``work``.

    A batch starts as soon as the worker is free and the batch is full, or no other item is on its way, or its
    first item has waited ``wait`` seconds: a single client never waits for others.

    Args:
        work: gives one result per item, in order; runs in the worker thread.
        most: items per batch.
        wait: seconds that an item waits for others while the worker is free.
        limit: places, for items that were announced (``places``) and are not finished.
        observe: called after every batch with its number of items and its seconds.
    """

    def __init__(
        self,
        work: Callable[[Sequence[Item]], Sequence[Result]],
        most: int,
        wait: float,
        limit: int,
        observe: Callable[[int, float], None] = lambda items, seconds: None,
    ) -> None:
        self.most, self.wait, self.limit = most, wait, limit
        self._work, self._observe = work, observe
        self._waiting: deque[_Waiting[Item, Result]] = deque()
        self._taken = self._coming = 0
        self._seconds_per_item = 0.0
        self._changed = asyncio.Event()
        self._worker = ThreadPoolExecutor(1, "ctnet-worker")
        self._loop: asyncio.Task[None] | None = None

    @property
    def taken(self) -> int:
        """Places that are taken."""
        return self._taken

    async def __aenter__(self) -> Batcher[Item, Result]:
        self._loop = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._loop is not None
        self._loop.cancel()
        with suppress(asyncio.CancelledError):
            await self._loop
        self._worker.shutdown()

    @contextmanager
    def places(self, number: int = 1) -> Iterator[Places[Item, Result]]:
        """Hold places for items that will come.

        Raises:
            Full: when fewer are free.
        """
        held = Places(self)
        held.add(number)
        try:
            yield held
        finally:
            self._taken -= held.number
            self._coming -= held.number - held.used
            self._changed.set()

    def _take(self, number: int) -> None:
        if self._taken + number > self.limit:
            raise Full(max(1, math.ceil(self._seconds_per_item * self._taken)))
        self._taken += number
        self._coming += number

    async def _result(self, item: Item) -> Result:
        loop = asyncio.get_running_loop()
        waiting = _Waiting[Item, Result](item, loop.time(), loop.create_future())
        self._waiting.append(waiting)
        self._coming -= 1
        self._changed.set()
        try:
            return await waiting.result
        finally:  # a request that was cancelled does not wait any longer
            with suppress(ValueError):
                self._waiting.remove(waiting)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            batch = await self._next()
            started = loop.time()
            items = [waiting.item for waiting in batch]
            outcomes = await loop.run_in_executor(self._worker, self._worked, items)
            seconds = loop.time() - started
            per_item = seconds / len(batch)
            before = self._seconds_per_item or per_item
            self._seconds_per_item = (1 - _NEW) * before + _NEW * per_item
            self._observe(len(batch), seconds)
            for waiting, outcome in zip(batch, outcomes, strict=True):
                if waiting.result.done():  # cancelled
                    continue
                if isinstance(outcome, Exception):
                    waiting.result.set_exception(outcome)
                else:
                    waiting.result.set_result(outcome)

    async def _next(self) -> list[_Waiting[Item, Result]]:
        loop = asyncio.get_running_loop()
        while not self._ready(loop.time()):
            self._changed.clear()
            left = self._waiting[0].since + self.wait - loop.time() if self._waiting else None
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._changed.wait(), left)
        return [self._waiting.popleft() for _ in range(min(self.most, len(self._waiting)))]

    def _ready(self, now: float) -> bool:
        if not self._waiting:
            return False
        full = len(self._waiting) >= self.most
        return full or self._coming <= 0 or now >= self._waiting[0].since + self.wait

    def _worked(self, items: Sequence[Item]) -> list[Result | Exception]:
        """In the worker thread: a result or an error for each; if a batch fails, each item is tried alone."""
        try:
            return list(self._work(items))
        except Exception as error:
            if len(items) == 1:
                return [error]
        return [outcome for item in items for outcome in self._worked([item])]


class Places(Generic[Item, Result]):
    """The places that one request holds, one for each of its items.

    Attributes:
        number: how many.
        used: for how many the item has come.
    """

    def __init__(self, batcher: Batcher[Item, Result]) -> None:
        self._batcher = batcher
        self.number = self.used = 0

    def add(self, number: int) -> None:
        """Hold more places.

        Raises:
            Full: when fewer are free; those held already stay.
        """
        self._batcher._take(number)
        self.number += number

    async def result(self, item: Item) -> Result:
        """The result of an item, which takes one of the places.

        Raises:
            Exception: what the work raises for this item alone.
        """
        self.used += 1
        return await self._batcher._result(item)
