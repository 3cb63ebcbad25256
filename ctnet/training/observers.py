"""Observers of a training run: they are told what has happened, and cannot change what happens next."""

from __future__ import annotations

import copy
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from threading import Timer
from typing import Any, Literal

import numpy as np
import torch

from ctnet.base.errors import CtnetError
from ctnet.base.output import print_note
from ctnet.base.plugins import Plugin, discover, load_plugin

GROUP = "ctnet.observers"

#: The choice of observers that nobody made: TensorBoard where it is installed.
AUTO = "auto"

#: A call that takes longer than so many seconds is reported while it lasts, and Ctrl-C interrupts it.
_LONG = 5.0

#: The share of the training time that observers may take without being named at the end.
_FAIR_SHARE = 0.05


@dataclass(frozen=True)
class RunStart:
    """A training starts, or is resumed.

    Attributes:
        folder: the run folder.
        config: the content of its config.json.
        epoch: epochs already finished; 0 for a new run.
        step: optimizer steps already done; 0 for a new run.
        rows: the figures of those epochs, as in metrics.csv.
        main_metric: the metric that decides which epoch was the best; empty without evaluation.
    """

    folder: Path
    config: dict[str, Any]
    epoch: int
    step: int
    rows: list[dict[str, float]]
    main_metric: str


@dataclass(frozen=True)
class StepEnd:
    """An optimizer step is done.

    Attributes:
        step: its number, from 1.
        epoch: the epoch that it belongs to, from 1.
        images: images that it learnt from.
        losses: the total ("loss") and every loss, means over the images; empty without an image.
        learning_rate: the learning rate of the next step.
    """

    step: int
    epoch: int
    images: int
    losses: dict[str, float]
    learning_rate: float


@dataclass(frozen=True)
class EpochEnd:
    """An epoch is over: evaluated where it was due, and saved.

    Attributes:
        epoch: its number, from 1.
        step: optimizer steps since the start of the run.
        figures: its row of metrics.csv: learning rate, mean losses, and metrics where it was evaluated.
    """

    epoch: int
    step: int
    figures: dict[str, float]


@dataclass(frozen=True)
class EvaluationEnd:
    """The network was evaluated on the validation split; told after the epoch was saved.

    Attributes:
        epoch: the epoch after which, from 1.
        step: optimizer steps since the start of the run.
        metrics: all metrics; those of a class are called "METRIC/CLASS".
        improved: whether best.pt is of this epoch.
    """

    epoch: int
    step: int
    metrics: dict[str, float]
    improved: bool


@dataclass(frozen=True)
class CheckpointSaved:
    """A checkpoint was written.

    Attributes:
        path: last.pt or best.pt in the run folder.
        epoch: epochs finished.
        step: optimizer steps since the start of the run.
        best: whether it is best.pt.
    """

    path: Path
    epoch: int
    step: int
    best: bool


@dataclass(frozen=True)
class RunEnd:
    """The training is over.

    Attributes:
        reason: "finished"; "patience": ended early, see ``Recipe.patience``; "stopped": by Ctrl-C or a
            signal; "failed": by an error.
        epoch: epochs finished.
        step: optimizer steps since the start of the run.
        error: the first line of the error; empty where there was none.
    """

    reason: Literal["finished", "patience", "stopped", "failed"]
    epoch: int
    step: int
    error: str = ""


Report = RunStart | StepEnd | EpochEnd | EvaluationEnd | CheckpointSaved | RunEnd


class Observer:
    """Looks on while a run is trained: logs, notifies, copies. Override the methods that you need.

    A subclass is named by an entry point of the group ``ctnet.observers``, and made without arguments when
    the user asks for it (``ctnet train --observe NAME``). It is called in the training process (of several,
    in the first one) between two steps, so it should return quickly. It gets plain values, its own copies;
    random streams, and torch's gradient mode, default dtype and number of threads, are put back after each
    call. An observer that raises is named, and not called again.
    """

    def start(self, report: RunStart) -> None:
        """The training starts, or is resumed."""

    def step(self, report: StepEnd) -> None:
        """An optimizer step is done."""

    def epoch(self, report: EpochEnd) -> None:
        """An epoch is over."""

    def evaluation(self, report: EvaluationEnd) -> None:
        """The network was evaluated."""

    def checkpoint(self, report: CheckpointSaved) -> None:
        """A checkpoint was written."""

    def end(self, report: RunEnd) -> None:
        """The training is over, for whatever reason; a process that is killed does not get here."""


@dataclass
class _Watched:
    """An observer and the seconds that it took."""

    name: str
    observer: Observer
    seconds: float = 0.0


class Observers:
    """Those who observe one run.

    Args:
        observers: by the name that messages give them.
        say: prints a line.
    """

    def __init__(self, observers: Mapping[str, Observer], say: Callable[[str], None]) -> None:
        self._say = say
        self._watched: list[_Watched] = []
        #: When the call that is going on began; None between calls.
        self._since: float | None = None
        self.add(observers)

    def add(self, observers: Mapping[str, Observer]) -> None:
        """Let more observers look on."""
        self._watched += [_Watched(name, observer) for name, observer in observers.items()]

    @contextmanager
    def watching(self, start: RunStart, end: Callable[[BaseException | None], RunEnd]) -> Iterator[None]:
        """Tell of the start and of the end of a training.

        Args:
            start: the report of the start.
            end: makes the report of the end, from the error that ended the training.
        """
        began = time.monotonic()
        self.tell("start", start)
        try:
            yield
        except BaseException as error:
            self.tell("end", end(error))
            raise
        self.tell("end", end(None))
        self._sum_up(time.monotonic() - began)

    def tell(self, event: str, report: Report) -> None:
        """Call a method of every observer that has it, each with its own copy of the report.

        An observer that raises is named and dismissed.
        """
        for watched in [*self._watched]:
            if getattr(type(watched.observer), event) is not getattr(Observer, event):
                self._call(watched, event, copy.deepcopy(report))

    def interrupt(self, again: bool) -> bool:
        """The user asked to stop: an observer that has long been busy is interrupted, any at the second time.

        Args:
            again: whether it is the second time.

        Returns:
            Whether an observer is busy.

        Raises:
            KeyboardInterrupt: to interrupt it, from a signal handler.
        """
        since = self._since
        if since is not None and (again or time.monotonic() - since > _LONG):
            raise KeyboardInterrupt
        return since is not None

    def _call(self, watched: _Watched, event: str, report: Report) -> None:
        line = f"observer {watched.name} has kept the training waiting for {_LONG:g} s, in {event}"
        waiting = Timer(_LONG, self._say, [line])
        waiting.daemon = True
        began = time.monotonic()
        try:
            waiting.start()
            with _put_back():
                self._since = began
                getattr(watched.observer, event)(report)
                self._since = None
        except (Exception, SystemExit, KeyboardInterrupt) as error:
            self._since = None
            self._dismiss(watched, event, error)
        waiting.cancel()
        seconds = time.monotonic() - began
        watched.seconds += seconds
        if seconds > _LONG and watched in self._watched:
            self._say(f"observer {watched.name} was done with {event} after {seconds:.1f} s")

    def _dismiss(self, watched: _Watched, event: str, error: BaseException) -> None:
        self._watched.remove(watched)
        said = " ".join(str(error).split())[:200]
        kind = "" if isinstance(error, CtnetError) else type(error).__name__
        reason = ": ".join(filter(None, (kind, said)))
        what = "was interrupted" if isinstance(error, KeyboardInterrupt) else f"failed ({reason})"
        self._say(f"observer {watched.name} {what} in {event} and is switched off; the training goes on")

    def _sum_up(self, seconds: float) -> None:
        """Name who took much of the training time, in calls of any length."""
        slow = [one for one in self._watched if one.seconds > max(1.0, _FAIR_SHARE * seconds)]
        if slow:
            each = ", ".join(f"{one.name} {one.seconds:.1f} s" for one in slow)
            self._say(f"of the {seconds:.1f} s of training, observers took: {each}")


@contextmanager
def _put_back() -> Iterator[None]:
    """Put back what a step depends on besides its inputs, and any code can change."""
    streams: list[tuple[Callable[[Any], Any], Any]] = [
        (random.setstate, random.getstate()),
        (np.random.set_state, np.random.get_state()),
        (torch.set_rng_state, torch.get_rng_state()),
        (torch.set_grad_enabled, torch.is_grad_enabled()),
        (torch.set_default_dtype, torch.get_default_dtype()),
        (_set_threads, torch.get_num_threads()),
    ]
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        streams.append((torch.cuda.set_rng_state_all, torch.cuda.get_rng_state_all()))
    try:
        yield
    finally:
        for put, before in streams:
            put(before)


def _set_threads(number: int) -> None:
    if torch.get_num_threads() != number:  # setting the same number again would still restart the threads
        torch.set_num_threads(number)


def load_observers(names: Sequence[str]) -> dict[str, Observer]:
    """Make the observers that were asked for.

    Args:
        names: entry points of the group ``ctnet.observers``; ``AUTO`` for the usual ones.

    Raises:
        CtnetError: for an unknown name (offering the nearest), a name given twice, and an observer that does
            not load or cannot be made.
    """
    chosen = [name for given in names for name in (_usual() if given == AUTO else (given,))]
    if twice := next((name for name in chosen if chosen.count(name) > 1), None):
        raise CtnetError(f"observer {twice} is named twice; name each one once")
    return {name: _made(name) for name in chosen}


def _usual() -> tuple[str, ...]:
    if find_spec("tensorboard") is not None:
        return ("tensorboard",)
    print_note("TensorBoard is not installed; only metrics.csv is written")
    return ()


def _made(name: str) -> Observer:
    kind = load_plugin(GROUP, name, "observer")
    plugin: Plugin = discover(GROUP)[name]
    try:
        observer = kind()
    except CtnetError:
        raise
    except Exception as error:
        raise CtnetError(
            f"observer {name!r} of {plugin.origin} cannot be made: {type(error).__name__}: {error}"
        ) from error
    if not isinstance(observer, Observer):
        raise CtnetError(
            f"observer {name!r} of {plugin.origin} is a {type(observer).__name__}, which is not a "
            f"ctnet.plugin.Observer; update or uninstall {plugin.distribution}"
        )
    return observer
