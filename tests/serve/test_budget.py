"""What is in memory at once."""

from __future__ import annotations

import asyncio

from ctnet.serve.budget import Budget


def test_no_more_is_held_than_said_and_the_first_is_first() -> None:
    async def scenario() -> None:
        budget, order, most = Budget(10), list[int](), 0

        async def use(number: int, amount: int) -> None:
            nonlocal most
            async with budget.hold(amount):
                order.append(number)
                most = max(most, budget.held)
                await asyncio.sleep(0)

        await asyncio.gather(*(use(number, amount) for number, amount in enumerate((6, 6, 1, 4, 10, 1))))
        assert order == list(range(6))  # the small ones do not overtake the large one
        assert most <= 10
        assert budget.held == 0

    asyncio.run(scenario())


def test_what_is_larger_than_all_is_alone() -> None:
    async def scenario() -> None:
        budget = Budget(10)
        async with budget.hold(1):
            large = asyncio.create_task(budget.hold(50).__aenter__())
            await asyncio.sleep(0.01)
            assert not large.done()
        held = await large
        assert budget.held == 50
        held.keep(3)
        async with budget.hold(7):
            assert budget.held == 10

    asyncio.run(scenario())


def test_one_that_gives_up_lets_the_next_in() -> None:
    async def scenario() -> None:
        budget = Budget(10)
        async with budget.hold(5):
            large = asyncio.create_task(budget.hold(9).__aenter__())
            small = asyncio.create_task(budget.hold(2).__aenter__())
            await asyncio.sleep(0.01)
            assert not small.done()
            large.cancel()
            held = await small
            assert budget.held == 7
        held.keep(0)
        assert budget.held == 0
        async with budget.hold(10):
            waiting = asyncio.create_task(budget.hold(4).__aenter__())
            await asyncio.sleep(0.01)
        assert budget.held == 4  # it has its turn, but does not know yet
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        assert budget.held == 0

    asyncio.run(scenario())
