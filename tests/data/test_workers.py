"""Worker processes that die or run out of something: one line, without delay."""

from __future__ import annotations

import multiprocessing
import os
import re
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader

from ctnet.base.errors import CtnetError
from ctnet.data.workers import WorkerDied, load, prepare_worker


class Images(torch.utils.data.Dataset):
    """Tensors by number; some numbers get the worker process into trouble."""

    def __init__(self, length: int, trouble=None) -> None:
        self.length, self.trouble = length, trouble

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> torch.Tensor:
        if index == 3 and self.trouble is not None:
            self.trouble()
        return torch.full((200,), index)


def batches(length: int, trouble=None, workers: int = 1, context: str | None = None) -> DataLoader:
    return DataLoader(
        Images(length, trouble),
        num_workers=workers,
        worker_init_fn=prepare_worker,
        multiprocessing_context=context,
    )


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def bus_error() -> None:
    os.kill(os.getpid(), signal.SIGBUS)


def leave() -> None:
    os._exit(7)


def no_more_handles() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))


@pytest.mark.parametrize(
    ("trouble", "message"),
    [
        (kill, "a worker process was killed, as Linux does when memory is short; use fewer --workers"),
        (terminate, "a worker process was ended by SIGTERM before its work was done"),
        (bus_error, "a worker process ran out of shared memory (/dev/shm); make it larger"),
        (leave, "a worker process ended with exit code 7 before its work was done"),
        (no_more_handles, "the worker processes ran out of file handles; allow more (`ulimit -n 4096`)"),
    ],
)
def test_a_worker_process_that_dies_is_one_line(capfd, trouble, message: str) -> None:
    before = signal.getsignal(signal.SIGCHLD)
    started = time.monotonic()
    with pytest.raises(CtnetError, match=re.escape(message)):
        list(load(batches(8, trouble)))
    assert time.monotonic() - started < 30
    assert signal.getsignal(signal.SIGCHLD) == before
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.thorough
def test_it_is_noticed_where_the_next_batch_is_asked_for() -> None:
    """An exception in the middle of a step would leave weights that cannot be saved."""
    given = load(batches(30, kill))
    next(given)
    deadline = time.monotonic() + 20
    while multiprocessing.active_children() and time.monotonic() < deadline:
        time.sleep(0.05)  # here torch's own handler would raise
    with pytest.raises(WorkerDied):
        list(given)


def test_a_worker_process_that_dies_between_two_epochs_is_one_line() -> None:
    """It persists; torch asks it for the next epoch before the first batch of it."""
    loader = DataLoader(Images(3), num_workers=1, worker_init_fn=prepare_worker, persistent_workers=True)
    workers = list(multiprocessing.active_children())  # of other tests
    assert len(list(load(loader, workers))) == 3
    worker = workers[-1]
    worker.kill()
    worker.join(20)
    assert not multiprocessing.active_children()  # it is forgotten there
    with pytest.raises(WorkerDied, match="a worker process was killed, as Linux does when memory is short"):
        list(load(loader, workers))


def test_a_mistake_of_the_program_stays_one() -> None:
    def stumble() -> None:
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        list(load(batches(8, stumble)))


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_batches_come_whatever_way_processes_start(context: str) -> None:
    assert [int(batch[0, 0]) for batch in load(batches(5, workers=2, context=context))] == [0, 1, 2, 3, 4]


SMALL_SHARED_MEMORY = """
mount -t tmpfs -o size=64k tmpfs /dev/shm && exec "$@"
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="mounts a /dev/shm of its own")
def test_a_small_shared_memory_is_one_line(tmp_path: Path) -> None:
    script = tmp_path / "loads.py"
    script.write_text(
        "import torch\n"
        "from torch.utils.data import DataLoader\n"
        "from ctnet.base.errors import CtnetError\n"
        "from ctnet.data.workers import load, prepare_worker\n"
        "images = [torch.zeros(1 << 20) for _ in range(4)]\n"
        "try:\n"
        "    list(load(DataLoader(images, num_workers=1, worker_init_fn=prepare_worker)))\n"
        "except CtnetError as error:\n"
        "    print(error)\n"
    )
    command = ["unshare", "-rm", "sh", "-c", SMALL_SHARED_MEMORY, "sh", sys.executable, str(script)]
    can_mount = subprocess.run([*command[:6], "true"], capture_output=True, check=False).returncode == 0
    if not can_mount:
        pytest.skip("no right to mount")
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert "ran out of shared memory (/dev/shm)" in done.stdout
    assert done.stderr == ""


def _load_with_64_handles(answer) -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    try:
        answer.send(f"{len(list(load(batches(200, workers=2))))} batches")
    except CtnetError as error:
        answer.send(str(error))


def test_64_file_handles_are_enough_or_one_line(capfd) -> None:
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe()
    process = context.Process(target=_load_with_64_handles, args=(there,))
    process.start()
    assert here.poll(60)
    said = here.recv()
    process.join(30)
    assert said == "200 batches" or "ran out of file handles; allow more (`ulimit -n 4096`)" in said
    assert process.exitcode == 0
    assert "Traceback" not in capfd.readouterr().err
