"""Batches: when they start, how many are in one, and that nothing is lost."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Sequence

import pytest

from ctnet.serve.batching import Batcher, Full


class Worker:
    """Doubles numbers; remembers batches and threads."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.batches: list[list[int]] = []
        self.threads: set[int] = set()
        self.seconds = seconds

    def __call__(self, items: Sequence[int]) -> list[int]:
        self.batches.append(list(items))
        self.threads.add(threading.get_ident())
        time.sleep(self.seconds)
        if any(item < 0 for item in items):
            raise ValueError(f"negative among {len(items)}")
        return [2 * item for item in items]


async def ask(batcher: Batcher[int, int], item: int) -> int:
    with batcher.places() as places:
        return await places.result(item)


def test_items_at_once_are_one_batch_and_the_answers_are_in_order() -> None:
    async def scenario() -> None:
        work = Worker()
        async with Batcher(work, most=4, wait=10.0, limit=100) as batcher:
            answers = await asyncio.gather(*(ask(batcher, item) for item in range(10)))
        assert answers == [2 * item for item in range(10)]
        assert [len(batch) for batch in work.batches] == [4, 4, 2]
        assert len(work.threads) == 1
        assert threading.get_ident() not in work.threads

    asyncio.run(scenario())


def test_a_single_client_never_waits_for_others() -> None:
    async def scenario() -> None:
        async with Batcher(Worker(), most=8, wait=10.0, limit=100) as batcher:
            started = time.monotonic()
            for item in range(3):
                assert await ask(batcher, item) == 2 * item
            assert time.monotonic() - started < 5

    asyncio.run(scenario())


def test_an_item_waits_for_one_that_is_announced_but_not_longer_than_said() -> None:
    async def scenario() -> None:
        work = Worker()
        async with Batcher(work, most=8, wait=0.2, limit=100) as batcher:
            with batcher.places() as slow:
                first = asyncio.create_task(ask(batcher, 1))
                await asyncio.sleep(0.02)
                assert work.batches == []
                assert await slow.result(2) == 4
            await first
            assert work.batches == [[1, 2]]
            with batcher.places():  # its item never comes
                started = time.monotonic()
                assert await ask(batcher, 3) == 6
                assert time.monotonic() - started >= 0.19
            assert work.batches[1:] == [[3]]

    asyncio.run(scenario())


def test_a_request_that_is_given_up_holds_nobody_back() -> None:
    async def scenario() -> None:
        async with Batcher(Worker(), most=8, wait=20.0, limit=2) as batcher:
            with batcher.places():
                waiting = asyncio.create_task(ask(batcher, 1))
                await asyncio.sleep(0.02)
                assert not waiting.done()
            assert await asyncio.wait_for(waiting, 5) == 2  # at once when the other gave its place back
            assert batcher.taken == 0

    asyncio.run(scenario())


def test_an_error_reaches_only_the_item_that_causes_it() -> None:
    async def scenario() -> None:
        async with Batcher(Worker(), most=8, wait=1.0, limit=100) as batcher:
            answers = await asyncio.gather(
                *(ask(batcher, item) for item in (1, -2, 3)), return_exceptions=True
            )
            assert [answers[0], answers[2]] == [2, 6]
            assert str(answers[1]) == "negative among 1"
            assert await ask(batcher, 5) == 10

    asyncio.run(scenario())


def test_what_nobody_waits_for_any_more_is_not_worked_on() -> None:
    async def scenario() -> None:
        work = Worker(seconds=0.1)
        async with Batcher(work, most=1, wait=0.0, limit=100) as batcher:
            tasks = [asyncio.create_task(ask(batcher, item)) for item in range(4)]
            await asyncio.sleep(0.02)
            tasks[2].cancel()
            answers = await asyncio.gather(*tasks, return_exceptions=True)
            assert [answers[0], answers[1], answers[3]] == [0, 2, 6]
            assert work.batches == [[0], [1], [3]]
            tasks[0] = asyncio.create_task(ask(batcher, 7))
            await asyncio.sleep(0.02)
            tasks[0].cancel()  # while it is worked on
            assert await ask(batcher, 8) == 16
            assert batcher.taken == 0

    asyncio.run(scenario())


def test_no_more_places_than_said_and_how_long_to_wait() -> None:
    async def scenario() -> None:
        async with Batcher(Worker(seconds=0.6), most=1, wait=0.0, limit=5) as batcher:
            await ask(batcher, 0)
            tasks = [asyncio.create_task(ask(batcher, item)) for item in range(3)]
            await asyncio.sleep(0)
            with batcher.places() as places:
                with pytest.raises(Full) as found:
                    places.add(2)
                assert found.value.seconds == 3  # 4 places of 0.6 s
                places.add(1)
                with pytest.raises(Full):
                    await ask(batcher, 9)
            for task in tasks[1:]:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            assert batcher.taken == 0

    asyncio.run(scenario())
