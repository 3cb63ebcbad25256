"""Progress on stderr: a bar on a terminal, plain lines elsewhere, nothing for work under two seconds."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Sized
from typing import TypeVar

from ctnet.base.output import printable

T = TypeVar("T")

_QUIET_SECONDS = 2.0
_LINE_EVERY_SECONDS = 15.0


def track(
    items: Iterable[T], description: str, total: int | None = None, unit: str = "images"
) -> Iterator[T]:
    """Yield ``items`` while showing progress.

    Args:
        items: the items to process.
        description: a few words, shown before the bar.
        total: number of items; taken from ``len(items)`` where that exists.
        unit: what the rate counts ("images").
    """
    description = printable(description)
    if total is None:
        total = len(items) if isinstance(items, Sized) else None
    if sys.stderr.isatty():
        yield from _with_bar(items, description, total, unit)
    else:
        yield from _with_lines(items, description, total, unit)


def _with_bar(items: Iterable[T], description: str, total: int | None, unit: str) -> Iterator[T]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}", markup=False),  # a file's name may hold brackets
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    started = time.monotonic()
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task(description, total=total, rate="", visible=False)
        for done, item in enumerate(items, start=1):
            yield item
            elapsed = time.monotonic() - started
            rate = f"{done / max(elapsed, 1e-9):.1f} {unit}/s"
            progress.update(bar, completed=done, rate=rate, visible=elapsed > _QUIET_SECONDS)


def _with_lines(items: Iterable[T], description: str, total: int | None, unit: str) -> Iterator[T]:
    started = spoken = time.monotonic()
    for done, item in enumerate(items, start=1):
        yield item
        now = time.monotonic()
        if now - spoken >= _LINE_EVERY_SECONDS:
            spoken = now
            of = f"/{total}" if total else ""
            print(f"{description}: {done}{of} ({done / (now - started):.1f} {unit}/s)", file=sys.stderr)
