"""What ctnet raises when the user, not the program, has to change something."""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable, Sequence
from pathlib import Path


class CtnetError(Exception):
    """A mistake that the user can fix: one line that says what, where and how to fix it.

    The command line prints the message without a traceback and exits with code 2.

    Args:
        message: the line.
        details: rows of a table that follows it, where one line cannot name all that is wrong.
    """

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
    return CtnetError(f"cannot {action} {path}: {reason}{cure_of(error.errno)}")


def cure_of(number: int | None) -> str:
    """What helps when the machine has run out of something, as the end of a sentence; else nothing."""
    return _CURES.get(number or 0, "")


def is_shortage(error: OSError) -> bool:
    """Whether the machine has run out of something, so that no file is to blame."""
    return error.errno in _CURES


_CURES = {
    errno.EMFILE: "; allow more (`ulimit -n 4096`), or use --workers 0",
    errno.ENFILE: "; end other programs, or use --workers 0",
    errno.ENOMEM: "; end other programs, or use smaller batches and fewer --workers",
}
