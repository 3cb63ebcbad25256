"""Reading ahead: the same items, in order, while the caller works; errors and endings where they belong."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from ctnet.base.ahead import ahead


@pytest.mark.parametrize("wanted", [True, False])
@pytest.mark.parametrize("depth", [1, 3])
def test_items_come_in_order(wanted: bool, depth: int) -> None:
    assert list(ahead(iter(range(20)), wanted, depth)) == list(range(20))
    assert list(ahead([], wanted, depth)) == []


def test_the_next_item_is_computed_while_the_caller_works() -> None:
    computed = threading.Event()

    def items() -> Iterator[int]:
        yield 0
        computed.set()
        yield 1

    read = ahead(items())
    assert next(read) == 0
    assert computed.wait(10)  # nobody has asked for the second item
    assert list(read) == [1]


def test_no_more_than_depth_and_one_are_computed() -> None:
    made: list[int] = []

    def items() -> Iterator[int]:
        for number in range(10):
            made.append(number)
            yield number

    read = ahead(items(), depth=2)
    assert next(read) == 0
    threading.Event().wait(0.3)
    assert len(made) <= 4  # the one that was read, two that wait, one in the thread's hand
    read.close()


def test_an_error_is_raised_where_its_item_would_have_come() -> None:
    def items() -> Iterator[int]:
        yield 0
        raise ValueError("second")

    read = ahead(items())
    assert next(read) == 0
    with pytest.raises(ValueError, match="second"):
        next(read)


def test_a_caller_that_stops_ends_the_thread_and_closes_the_items() -> None:
    closed = threading.Event()

    def items() -> Iterator[int]:
        try:
            while True:
                yield 0
        finally:
            closed.set()

    before = threading.active_count()
    read = ahead(items())
    assert next(read) == 0
    read.close()
    assert closed.wait(10)
    assert threading.active_count() == before
