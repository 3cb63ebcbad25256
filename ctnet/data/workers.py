"""Worker processes that load images, and the errors when they die."""

from __future__ import annotations

import errno
import multiprocessing
import multiprocessing.queues
import os
import signal
import sys
import threading
from collections.abc import Iterator
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from types import TracebackType
from typing import Any

import torch
from torch.utils.data import DataLoader

from ctnet.base.errors import CtnetError, remedy

# Exit codes of a worker that cannot pass on what it loaded.
_NO_SHARED_MEMORY, _NO_HANDLES, _CANNOT_HAND_OVER = 101, 102, 103

_SHARED_MEMORY = (
    "a worker process ran out of shared memory (/dev/shm); make it larger (docker run --shm-size 8g), "
    "or use --workers 0 or a smaller --batch-size"
)
_HANDLES = f"the worker processes ran out of file handles{remedy(errno.EMFILE)}"


# torch's messages for the two.
_OF_HANDLES = ("Too many open files", "received 0 items of ancdata")
_OF_SHARED_MEMORY = ("unable to allocate shared memory", "unable to mmap", "unable to resize file")


class WorkerDied(CtnetError):
    """A worker process ended before its work was done."""


def default_workers(device: torch.device) -> int:
    """The default number of worker processes: enough to feed the device without taking its cores."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if device.type == "cpu":
        # On two cores both threads of an operation would wait for the one that shares a core with a worker.
        return 1 if cores > 2 else 0
    return max(1, min(8, cores - 1))


def load(loader: DataLoader[Any], workers: list[BaseProcess] | None = None) -> Iterator[Any]:
    """The batches of a loader.

    A dead worker is only reported when the next batch is requested: torch would raise in the middle of a
    training step, whose weights could then not be saved.

    Args:
        loader: torch's loader.
        workers: those of earlier passes, where they persist; those of this pass are added. A worker
            that died in between is not among the children any more.

    Raises:
        WorkerDied: when a worker was killed or could not pass on what it loaded.
        CtnetError: when the workers cannot be started or reached because no file handles are left.
    """
    workers = [] if workers is None else workers
    try:
        batches = _started(loader)
    except (RuntimeError, OSError, EOFError) as error:
        if reason := _why(error, workers):
            raise reason from error
        raise
    if loader.num_workers:
        workers += [child for child in multiprocessing.active_children() if child not in workers]
    while True:
        try:
            batch = next(batches)
        except StopIteration:
            return
        except (RuntimeError, OSError, EOFError) as error:
            if reason := _why(error, workers):
                raise reason from error
            raise
        yield batch


def _started(loader: DataLoader[Any]) -> Iterator[Any]:
    """The loader's iterator, without torch's handler of signals from children."""
    number = getattr(signal, "SIGCHLD", None)  # Windows has none
    if number is None or threading.current_thread() is not threading.main_thread():
        return iter(loader)
    before = signal.getsignal(number)
    try:
        return iter(loader)
    finally:
        if before is not None:
            signal.signal(number, before)


def _why(error: Exception, workers: list[BaseProcess]) -> CtnetError | None:
    """The user's message for a loader's error; None for a bug."""
    if isinstance(error, (EOFError, ConnectionError)):  # a connection is closed before its process has ended
        ended = wait([worker.sentinel for worker in workers], timeout=2)
        for worker in workers:
            if worker.sentinel in ended:
                worker.join(2)
    codes = [worker.exitcode for worker in workers if not worker.is_alive()]
    if codes:
        return WorkerDied(_exit_message(next((code for code in codes if code), 0)))
    text = str(error)
    if getattr(error, "errno", None) in (errno.EMFILE, errno.ENFILE) or any(
        hint in text for hint in _OF_HANDLES
    ):
        return CtnetError(_HANDLES)
    return CtnetError(_SHARED_MEMORY) if any(hint in text for hint in _OF_SHARED_MEMORY) else None


def _exit_message(code: int) -> str:
    """The message for a worker's exit code; a negative one is the signal that killed it."""
    if code in (_NO_SHARED_MEMORY, -getattr(signal, "SIGBUS", 0)):
        return _SHARED_MEMORY
    if code == _NO_HANDLES:
        return _HANDLES
    if code == -getattr(signal, "SIGKILL", 0):
        return (
            "a worker process was killed, as Linux does when memory is short; use fewer --workers or a "
            "smaller --batch-size"
        )
    how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
    return f"a worker process {how} before its work was done; try again, or with --workers 0"


def prepare_worker(worker: int) -> None:
    """Configure a worker: one thread, ignores Ctrl-C, exits with its parent or when it cannot pass on data.

    torch's own workers can hang for ever on a queue that a killed trainer no longer reads, and a trainer can
    block on data that they had no shared memory or file handle to send.
    """
    import cv2

    cv2.setNumThreads(0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "SIGBUS"):  # the main process explains it
        signal.signal(signal.SIGBUS, signal.SIG_DFL)
    multiprocessing.queues.Queue._on_queue_feeder_error = staticmethod(_end_with_error)  # type: ignore[attr-defined]
    sys.excepthook = _end_without_handles
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_without_handles(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """The thread that passes file handles would print the same error for ever."""
    if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
        os._exit(_NO_HANDLES)
    sys.__excepthook__(kind, error, trace)


def _end_with_error(error: Exception, batch: Any) -> None:
    text = str(error)
    if "Too many open files" in text:
        os._exit(_NO_HANDLES)
    shortage = ("No space left on device", "Cannot allocate memory")
    os._exit(_NO_SHARED_MEMORY if any(reason in text for reason in shortage) else _CANNOT_HAND_OVER)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
