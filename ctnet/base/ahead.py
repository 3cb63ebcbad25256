"""Reading ahead: a thread prepares what comes next while the caller works on what came before."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

T = TypeVar("T")

#: Seconds that a thread has to finish its item once nobody wants it; a camera that takes longer is left.
_PATIENCE = 2.0
#: Seconds between two looks at whether the other side is still there.
_LOOK = 0.1


@dataclass(frozen=True)
class _Ended:
    """The end of the items, and the error that ended them."""

    error: BaseException | None = None


def ahead(items: Iterable[T], wanted: bool = True, depth: int = 1) -> Generator[T, None, None]:
    """The items in order, computed by a thread while the caller works.

    An error is raised where the item would have come. When the caller stops (or its generator is closed), the
    thread ends after its current item.

    Args:
        items: only iterated over by the thread, and closed by it.
        wanted: False: no thread; the items as they are.
        depth: finished items that wait at most; the thread holds one more.
    """
    if not wanted:
        yield from items
        return
    finished: queue.Queue[Any] = queue.Queue(depth)
    stop = threading.Event()
    thread = threading.Thread(target=_fill, args=(iter(items), finished, stop), daemon=True)
    thread.start()
    try:
        while not isinstance(item := finished.get(), _Ended):
            yield item
        if item.error is not None:
            raise item.error
    finally:
        stop.set()
        thread.join(_PATIENCE)


def _fill(items: Iterator[Any], finished: queue.Queue[Any], stop: threading.Event) -> None:
    """Put items into the queue until they end, fail, or are not wanted any more."""
    try:
        for item in items:
            if not _put(item, finished, stop):
                return
        ended = _Ended()
    except BaseException as error:  # raised again by the caller's thread
        ended = _Ended(error)
    finally:
        if close := getattr(items, "close", None):
            close()
    _put(ended, finished, stop)


def _put(item: Any, finished: queue.Queue[Any], stop: threading.Event) -> bool:
    """Wait for room; False when nobody wants the item."""
    while not stop.is_set():
        try:
            finished.put(item, timeout=_LOOK)
        except queue.Full:
            continue
        return True
    return False
