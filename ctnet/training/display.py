"""Progress of a training run: a live line on a terminal, else one line per epoch."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any

from ctnet.base.output import clock, fitting, printable, width_of, wrapped
from ctnet.data.loader import Batch

_LINE_EVERY_SECONDS = 30.0


class Display:
    """Shows the progress of one training run on stderr."""

    def __init__(self) -> None:
        from rich.console import Console

        self.width = width_of(sys.stderr)
        self.console = Console(stderr=True, highlight=False, soft_wrap=True, width=self.width)
        self._live: Any = None
        self._epoch = self._epochs = self._batches = self._batch = 0
        self._images = 0
        self._waited = 0.0
        self._started = self._first = time.monotonic()
        self._spoken = 0.0
        self._done_batches = 0
        self._sums: dict[str, float] = {}

    def __enter__(self) -> Display:
        self._first = self._spoken = time.monotonic()
        if self.console.is_terminal and not self.console.is_dumb_terminal:
            from rich.live import Live

            self._live = Live(console=self.console, refresh_per_second=4, transient=True)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def say(self, line: str) -> None:
        """Print a permanent line."""
        self.console.print(wrapped(printable(line), self.width), markup=False)

    def note(self, line: str) -> None:
        """Show a temporary state, only on a terminal."""
        self._show(f"epoch {self._epoch + 1}/{self._epochs}  {line}")

    def begin_epoch(self, epoch: int, epochs: int, batches: int, start: int) -> None:
        """Start showing an epoch (counted from 0), from batch ``start`` of ``batches``."""
        self._epoch, self._epochs, self._batches, self._batch = epoch, epochs, batches, start
        self._images, self._waited, self._sums = 0, 0.0, {}
        self._started = time.monotonic()

    def timed(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """Yield batches, measuring the time spent waiting for data."""
        iterator = iter(batches)
        while True:
            asked = time.monotonic()
            batch = next(iterator, None)
            self._waited += time.monotonic() - asked
            if batch is None:
                return
            yield batch

    def step(self, batches: int, images: int, terms: Mapping[str, float], rate: float) -> None:
        """Count an optimizer step of ``batches`` batches, and show the progress."""
        self._batch += batches
        self._done_batches += batches
        self._images += images
        for name, value in terms.items():
            self._sums[name] = self._sums.get(name, 0.0) + value * images
        now = time.monotonic()
        if self._live is not None:
            self._show(fitting(self._parts(rate), self.width))
        elif now - self._spoken > _LINE_EVERY_SECONDS:
            self._spoken = now
            self.say(fitting(self._parts(rate), None))

    def _show(self, line: str) -> None:
        from rich.text import Text

        if self._live is not None:
            self._live.update(Text(line, no_wrap=True, overflow="ellipsis"))

    def end_epoch(self, row: Mapping[str, Any], shown: Sequence[str], comment: str) -> None:
        """Show the entries ``shown`` of an epoch's ``row``, and a comment.

        If the terminal is too narrow, only the first ones are shown; metrics.csv has all.
        """
        seconds = time.monotonic() - self._started
        ending = f"{seconds:.1f} s{f'  ({comment})' if comment else ''}"
        room = None if self.width is None else self.width - len(ending) - 2
        figures = [f"{name} {_figure(name, row[name])}" for name in shown]
        self._spoken = time.monotonic()
        line = fitting([f"epoch {row['epoch']}/{self._epochs}", *figures], room)
        self.say(f"{line}  {ending}")

    def _parts(self, rate: float) -> list[str]:
        """The parts of a progress line, most important first."""
        elapsed = max(time.monotonic() - self._started, 1e-9)
        sums = self._sums or {"loss": 0.0}
        total, *losses = (f"{name} {value / max(self._images, 1):.3f}" for name, value in sums.items())
        left = (self._epochs - self._epoch) * self._batches - self._batch
        return [
            f"{clock((time.monotonic() - self._first) / max(self._done_batches, 1) * left)} left",
            f"{self._images / elapsed:.1f} images/s",
            f"epoch {self._epoch + 1}/{self._epochs}",
            f"batch {self._batch}/{self._batches}",
            total,
            f"data wait {100 * self._waited / elapsed:.0f} %",
            f"lr {rate:.2e}",
            *losses,
        ]


class Quiet(Display):
    """A display that only shows permanent lines."""

    def step(self, batches: int, images: int, terms: Mapping[str, float], rate: float) -> None:
        pass

    def end_epoch(self, row: Mapping[str, Any], shown: Sequence[str], comment: str) -> None:
        pass


class Silent(Quiet):
    """A display that shows nothing: of processes that are not the first."""

    def say(self, line: str) -> None:
        pass


def _figure(name: str, value: float) -> str:
    return f"{value:.4g}" if name.endswith("loss") else f"{value:.3f}"
