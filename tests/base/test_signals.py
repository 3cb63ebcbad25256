from __future__ import annotations

import os
import signal
import threading

import pytest

from ctnet.base.signals import on_termination

ENDINGS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


@pytest.mark.parametrize("number", ENDINGS)
def test_what_ends_a_program_calls_the_handler(number: int) -> None:
    seen: list[int] = []
    before = [signal.getsignal(each) for each in ENDINGS]
    with on_termination(lambda number, frame: seen.append(number)):
        os.kill(os.getpid(), number)
    assert seen == [number]
    assert [signal.getsignal(each) for each in ENDINGS] == before


def test_sigterm_can_be_a_ctrl_c() -> None:
    with pytest.raises(KeyboardInterrupt), on_termination(signal.default_int_handler, including_ctrl_c=False):
        os.kill(os.getpid(), signal.SIGTERM)


def test_what_is_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        with on_termination(signal.default_int_handler):
            os.kill(os.getpid(), signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_other_threads_leave_signals_alone() -> None:
    before = signal.getsignal(signal.SIGTERM)
    seen = []

    def run() -> None:
        with on_termination(signal.default_int_handler):
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert seen == [before]
