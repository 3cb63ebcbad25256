from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import filelock
import pytest

from ctnet.base import lock
from ctnet.base.errors import CtnetError
from ctnet.base.lock import LOCK_NAME, lock_folder

HOLDER = """
import sys, time
from pathlib import Path
from ctnet.base.lock import lock_folder
held = lock_folder(Path(sys.argv[1]), "busy")
print("held", flush=True)
time.sleep(60)
"""


@pytest.fixture(autouse=True)
def impatient(monkeypatch) -> None:
    monkeypatch.setattr(lock, "_PATIENCE_SECONDS", 0.5)


def test_a_lock_keeps_others_out_until_its_process_dies(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(CtnetError, match=r"^it is busy$"):
            lock_folder(tmp_path, "it is busy")
        os.kill(holder.pid, signal.SIGKILL)
        assert lock_folder(tmp_path, "it is busy") is not None
    finally:
        holder.kill()
        holder.communicate()


def test_a_lock_is_one_in_its_own_process_too_and_can_be_released(tmp_path: Path) -> None:
    first = lock_folder(tmp_path, "busy")
    with pytest.raises(CtnetError, match="busy"):
        lock_folder(tmp_path, "busy")
    first.release()
    lock_folder(tmp_path, "busy").release()
    assert os.listdir(tmp_path) == [LOCK_NAME]


@pytest.mark.parametrize("error", [NotImplementedError(), OSError(errno.ENOLCK, "No locks available")])
def test_a_file_system_without_locks_goes_without(tmp_path: Path, monkeypatch, error: Exception) -> None:
    def refuse(self, timeout: float) -> None:
        raise error

    monkeypatch.setattr(filelock.FileLock, "acquire", refuse)
    assert lock_folder(tmp_path, "busy") is None


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch) -> None:
    def refuse(self, timeout: float) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(filelock.FileLock, "acquire", refuse)
    started = time.monotonic()
    with pytest.raises(CtnetError, match=f"cannot lock the folder {tmp_path}: Permission denied"):
        lock_folder(tmp_path, "busy")
    assert time.monotonic() - started < 5
