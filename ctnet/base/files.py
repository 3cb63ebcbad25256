"""Writing files so that a kill or a full disk never leaves half of one behind."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from ctnet.base.errors import CtnetError, os_error


@contextmanager
def atomic_write(path: str | Path, mode: str = "wb") -> Iterator[IO[Any]]:
    """Open a temporary file beside ``path``; on success fsync it and rename it to ``path``.

    Readers see the old content or the new, never a part. On any failure the temporary file is removed.

    Args:
        path: the file to appear; its folder is made when missing.
        mode: "wb" or "w" (UTF-8 text).

    Raises:
        CtnetError: when the disk is full or the folder cannot be written, naming the path.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    except OSError as error:
        raise os_error(error, "write", path) from error
    try:
        with os.fdopen(handle, mode, encoding=None if "b" in mode else "utf-8") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        _give_usual_permissions(temporary)
        os.replace(temporary, path)
    except BaseException as error:
        Path(temporary).unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise os_error(error, "write", path) from error
        raise


def _give_usual_permissions(path: str) -> None:
    """mkstemp makes private files; give this one what ``open`` would have given."""
    mask = os.umask(0)
    os.umask(mask)
    os.chmod(path, 0o666 & ~mask)


def write_json(path: str | Path, value: Any, indent: int | None = 2) -> None:
    """Write ``value`` as JSON, atomically. NaN and infinities are refused: other readers cannot read them.

    Raises:
        CtnetError: when the file cannot be written.
        ValueError: when ``value`` holds NaN or an infinity.
    """
    text = json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False)
    with atomic_write(path, "w") as stream:
        stream.write(text + "\n")


def read_json(path: str | Path) -> Any:
    """Read a JSON file.

    Raises:
        CtnetError: when the file is missing, unreadable or not JSON, naming the place in it; when an object
            in it has a key twice, of which readers would take the last in silence.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"), object_pairs_hook=_object)
    except OSError as error:
        raise os_error(error, "read", path) from error
    except CtnetError as error:
        raise CtnetError(f"{path} {error}") from error
    except RecursionError as error:
        raise CtnetError(f"{path} holds values nested too deeply; write it anew") from error
    except ValueError as error:
        reason = "a number of thousands of digits" if "digits" in str(error) else str(error)
        raise CtnetError(f"{path} is not valid JSON ({reason}); was it cut short?") from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise CtnetError(f"has an object with the key {twice!r} twice; leave one of them")
    return found
