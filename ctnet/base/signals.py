"""Ending in good order when the machine asks for it."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

Handler = Callable[[int, FrameType | None], Any]

#: What ends a program: Ctrl-C; schedulers, containers and `kill`; a terminal that is closed.
_ENDINGS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")


@contextmanager
def on_ending(handler: Handler, including_ctrl_c: bool = True) -> Iterator[None]:
    """Have a handler called by whatever asks the program to end, for as long as the context lasts.

    A signal that is ignored (SIGHUP under ``nohup``) stays ignored. Outside the main thread nothing is
    changed: whoever runs us there handles signals.

    Args:
        handler: as of ``signal.signal``; ``signal.default_int_handler`` raises KeyboardInterrupt.
        including_ctrl_c: False leaves Ctrl-C as it is.
    """
    names = _ENDINGS if including_ctrl_c else _ENDINGS[1:]
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
