"""The errors that ctnet raises for mistakes of the user, not of the program."""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable, Sequence
from pathlib import Path


class CtnetError(Exception):
    """A mistake that the user can fix: one line that says what, where and how to fix it.

    The command line prints the message without a traceback and exits with ``exit_code``.

    Args:
        message: the line.
        details: rows of a table that follows it, where one line cannot name everything that is wrong.
    """

    exit_code = 2

    def __init__(self, message: str, details: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.details = tuple(details)


def unknown_name(kind: str, name: str, known: Iterable[str]) -> CtnetError:
    """The error for a name that is not registered; offers the nearest ones.

    Args:
        kind: what was looked up, in the singular ("backbone", "task", ...).
        name: what the user wrote.
        known: all valid names.
    """
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=4, cutoff=0.5)
    hint = f"did you mean {', '.join(near)}?" if near else f"known: {', '.join(names) or 'none'}"
    return CtnetError(f"there is no {kind} called {name!r}; {hint}")


def os_error(error: OSError, action: str, path: str | Path) -> CtnetError:
    """Turn an operating-system error (full disk, read-only folder, missing file) into one clear line."""
    reason = error.strerror or type(error).__name__
    return CtnetError(f"cannot {action} {path}: {reason}{remedy(error.errno)}")


def remedy(number: int | None) -> str:
    """What to do when the machine has run out of a resource, as the end of a sentence; else ""."""
    return _REMEDIES.get(number or 0, "")


def is_shortage(error: OSError) -> bool:
    """Whether the machine has run out of a resource, in which case no file is to blame."""
    return error.errno in _REMEDIES


_REMEDIES = {
    errno.EMFILE: "; allow more (`ulimit -n 4096`), or use --workers 0",
    errno.ENFILE: "; close other programs, or use --workers 0",
    errno.ENOMEM: "; close other programs, or use smaller batches and fewer --workers",
}
