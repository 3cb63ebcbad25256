"""A lock on a folder that is released when its process ends."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import TYPE_CHECKING

from ctnet.base.errors import CtnetError, os_error

if TYPE_CHECKING:
    from filelock import BaseFileLock

#: The file in the folder that is locked. It stays after the lock is released.
LOCK_NAME = ".lock"

#: Children of a killed process hold its lock for a moment longer.
_PATIENCE_SECONDS = 2.0

_WITHOUT_LOCKS = (errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK, errno.EOPNOTSUPP)


def lock_folder(folder: Path, busy: str, seconds: float = _PATIENCE_SECONDS) -> BaseFileLock | None:
    """Lock a folder against every other process, and against a second lock in this one.

    The operating system frees the lock when the process ends, however it ends.

    Args:
        folder: an existing one.
        busy: the error when another process holds the lock.
        seconds: how long to wait for it.

    Returns:
        The lock, to be released; None where the file system has no locks.

    Raises:
        CtnetError: when another process holds it, or the folder is not writable.
    """
    import filelock

    lock = filelock.FileLock(folder / LOCK_NAME)
    try:
        lock.acquire(timeout=seconds)
    except filelock.Timeout as error:
        raise CtnetError(busy) from error
    except NotImplementedError:
        return None
    except OSError as error:
        if error.errno in _WITHOUT_LOCKS:
            return None
        raise os_error(error, "lock the folder", folder) from error
    return lock
