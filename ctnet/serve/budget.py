"""A limit on how much is held in memory at once, by requests that wait for their turn."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass


@dataclass
class Held:
    """What one image holds.

    Attributes:
        amount: pixels.
    """

    _budget: Budget
    amount: int

    def keep(self, amount: int) -> None:
        """Hold this much from now on, and give the rest back."""
        self._budget._give(self.amount - amount)
        self.amount = amount


class Budget:
    """Pixels of decoded images that are in memory at once; first come, first served.

    Args:
        most: pixels. An image with more is let in when nothing else is held.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.held = 0
        self._queue: deque[tuple[int, asyncio.Future[None]]] = deque()

    @asynccontextmanager
    async def hold(self, amount: int) -> AsyncIterator[Held]:
        """Wait until there is room for an amount, and hold it."""
        await self._take(amount)
        held = Held(self, amount)
        try:
            yield held
        finally:
            held.keep(0)

    async def _take(self, amount: int) -> None:
        turn = asyncio.get_running_loop().create_future()
        entry = (amount, turn)
        self._queue.append(entry)
        self._serve()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # it had its turn at the same moment
                self._give(amount)
            else:
                with suppress(ValueError):
                    self._queue.remove(entry)
                self._serve()
            raise

    def _give(self, amount: int) -> None:
        self.held -= amount
        self._serve()

    def _serve(self) -> None:
        while self._queue:
            amount, turn = self._queue[0]
            if self.held and self.held + amount > self.most:
                return
            self._queue.popleft()
            if not turn.done():
                self.held += amount
                turn.set_result(None)
