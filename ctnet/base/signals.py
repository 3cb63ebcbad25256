"""Shutting down cleanly when the program is asked to end."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

Handler = Callable[[int, FrameType | None], Any]

#: Signals that end a program: Ctrl-C; schedulers, containers and `kill`; a closed terminal.
_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")


@contextmanager
def on_termination(handler: Handler, including_ctrl_c: bool = True) -> Iterator[None]:
    """Install a handler for the signals that end a program, for as long as the context lasts.

    A signal that is ignored (SIGHUP under ``nohup``) stays ignored. Outside the main thread nothing is
    changed: the host program handles signals.

    Args:
        handler: as of ``signal.signal``; ``signal.default_int_handler`` raises KeyboardInterrupt.
        including_ctrl_c: False leaves Ctrl-C as it is.
    """
    names = _SIGNALS if including_ctrl_c else _SIGNALS[1:]
    before = {}
    try:
        for name in names:
            number = getattr(signal, name, None)
            if number is not None and signal.getsignal(number) not in (signal.SIG_IGN, None):
                before[number] = signal.signal(number, handler)
    except ValueError:  # not in the main thread
        yield
        return
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)
