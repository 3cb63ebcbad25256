"""Progress on stderr: a bar on a terminal, plain lines elsewhere, nothing for work under two seconds."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Sized
from typing import TypeVar

from ctnet.base.output import clock, fitting, printable, width_of

T = TypeVar("T")

_QUIET_SECONDS = 2.0
_LINE_EVERY_SECONDS = 15.0
_BAR = 12  # columns


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
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.table import Column

    what = Column(ratio=1, no_wrap=True, overflow="ellipsis")  # what is left of the width is for it
    columns = (
        TextColumn("{task.fields[pace]}"),
        MofNCompleteColumn(table_column=Column(no_wrap=True)),
        BarColumn(_BAR),
        TextColumn("{task.description}", markup=False, table_column=what),  # a file's name may hold brackets
    )
    started = time.monotonic()
    console = Console(stderr=True, width=width_of(sys.stderr))
    with Progress(*columns, console=console, transient=True, expand=True) as progress:
        bar = progress.add_task(description, total=total, pace="", visible=False)
        for done, item in enumerate(items, start=1):
            yield item
            elapsed = time.monotonic() - started
            pace = "  ".join(_pace(done, total, elapsed, unit))
            progress.update(bar, completed=done, pace=pace, visible=elapsed > _QUIET_SECONDS)


def _with_lines(items: Iterable[T], description: str, total: int | None, unit: str) -> Iterator[T]:
    started = spoken = time.monotonic()
    for done, item in enumerate(items, start=1):
        yield item
        now = time.monotonic()
        if now - spoken >= _LINE_EVERY_SECONDS:
            spoken = now
            count = f"{done}/{total}" if total else f"{done}"
            parts = [*_pace(done, total, now - started, unit), count, description]
            print(fitting(parts, None), file=sys.stderr)


def _pace(done: int, total: int | None, elapsed: float, unit: str) -> list[str]:
    """The time that is left, where it is known, and the rate."""
    rate = f"{done / max(elapsed, 1e-9):.1f} {unit}/s"
    return [f"{clock(elapsed / done * (total - done))} left", rate] if total else [rate]
