"""Writing files so that a kill or a full disk never leaves a partial one."""

from __future__ import annotations

import errno
import json
import math
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from ctnet.base.errors import CtnetError, os_error

if TYPE_CHECKING:
    from ctnet.base.packs import Place

#: Largest document that is read into memory (a list, a configuration, a calibration), bytes.
DOCUMENT_LIMIT = 1 << 28

#: Largest JSON document that is read into memory (a results file), bytes.
JSON_LIMIT = 1 << 36

_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a disk"),
    (stat.S_ISSOCK, "a socket"),
)
_SURROGATE = re.compile("[\ud800-\udfff]")


@contextmanager
def atomic_write(path: str | Path, mode: str = "wb", seekable: bool = False) -> Iterator[IO[Any]]:
    """Open a temporary file beside ``path``; on success fsync it and rename it to ``path``.

    Readers see the old content or the new, never a partial file. On any failure the temporary file is
    removed. A symbolic link stays one: its target is written. A pipe or a character device
    (``/dev/null``, ``/dev/stdout``) gets the content directly and is not replaced.

    Args:
        path: the file to write; its folder is created when missing.
        mode: "wb" or "w" (UTF-8 text).
        seekable: refuse pipes and devices, for formats that are not written front to back.

    Raises:
        CtnetError: when the disk is full, the folder cannot be written, a pipe has no reader, or ``path`` is
            a folder, a disk or a socket, naming the path.
    """
    import tempfile

    path = Path(path)
    try:
        kind = _mode_of(path)
        if kind is not None and not stat.S_ISREG(kind):
            with _open_stream(path, kind, mode, seekable) as stream:
                yield stream
            return
        target = Path(os.path.realpath(path)) if path.is_symlink() else path
        target.parent.mkdir(parents=True, exist_ok=True)
        # File systems limit the length of a name, in bytes.
        handle, temporary = tempfile.mkstemp(
            dir=target.parent, prefix=f".{target.name[:40]}.", suffix=".part"
        )
    except (OSError, ValueError) as error:
        raise _write_error(error, path) from error
    try:
        with os.fdopen(handle, mode, encoding=None if "b" in mode else "utf-8") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        _give_usual_permissions(temporary)
        os.replace(temporary, target)
    except BaseException as error:
        Path(temporary).unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise os_error(error, "write", path) from error
        if isinstance(error, UnicodeEncodeError):
            text = ascii(error.object[max(error.start - 20, 0) : error.end])
            raise CtnetError(f"cannot write {path}: unpaired surrogate in {text}; fix that name") from error
        raise


def _mode_of(path: Path) -> int | None:
    """The kind of file at a path (``st_mode``); None where there is none."""
    try:
        return os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None


def _open_stream(path: Path, kind: int, mode: str, seekable: bool) -> IO[Any]:
    """Open a pipe or a character device for writing; a pipe without a reader would block."""
    if seekable or not (stat.S_ISFIFO(kind) or stat.S_ISCHR(kind)):
        raise CtnetError(f"cannot write {path}: it is {_kind_of(kind)}; name a file")
    flags = os.O_WRONLY | (os.O_NONBLOCK if stat.S_ISFIFO(kind) else 0)
    try:
        handle = os.open(path, flags)
    except OSError as error:
        if error.errno == errno.ENXIO:
            raise CtnetError(
                f"cannot write {path}: nobody reads this pipe; start its reader first"
            ) from error
        raise
    if flags != os.O_WRONLY:
        os.set_blocking(handle, True)
    return os.fdopen(handle, mode, encoding=None if "b" in mode else "utf-8")


def _kind_of(mode: int) -> str:
    return next((name for matches, name in _KINDS if matches(mode)), "not a regular file")


def _write_error(error: OSError | ValueError, path: Path) -> CtnetError:
    if isinstance(error, OSError):
        return os_error(error, "write", path)
    return CtnetError(f"cannot write {path}: this is not a valid file name ({error})")


def is_text(text: str) -> bool:
    """Whether a string is free of unpaired surrogates, which can neither be written nor drawn."""
    return not _SURROGATE.search(text)


def _packed(path: str | Path) -> Place | None:
    """Where a path into a pack leads; None for any other path, which costs next to nothing."""
    text = os.fspath(path)
    if ".h5" not in text and ".hdf5" not in text:
        return None
    from ctnet.base.packs import place_of

    return place_of(path)


def is_file(path: str | Path) -> bool:
    """Whether there is a regular file, on disk or in a pack; False also for an invalid name."""
    if _packed(path) is not None:
        return True
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except (OSError, ValueError):
        return False


def require_regular(path: str | Path) -> int:
    """Refuse anything but a regular file, on disk or in a pack: a pipe or a device could be read without end.

    Returns:
        Its size, bytes.

    Raises:
        CtnetError: for a pipe, device, socket or folder, and when there is no file.
    """
    if (place := _packed(path)) is not None:
        return place.size
    try:
        status = os.stat(path)
    except OSError as error:
        raise os_error(error, "read", path) from error
    except ValueError as error:
        raise CtnetError(f"cannot read {path}: this is not a valid file name ({error})") from error
    if not stat.S_ISREG(status.st_mode):
        raise CtnetError(f"cannot read {path}: it is {_kind_of(status.st_mode)}; give a regular file")
    return status.st_size


def read_bytes(path: str | Path, limit: int = DOCUMENT_LIMIT) -> bytes:
    """The content of a regular file.

    Args:
        path: the file.
        limit: largest size that is read, bytes.

    Raises:
        CtnetError: when it is missing, not a regular file, larger than ``limit``, or cannot be read.
    """
    place = _packed(path)
    size = require_regular(path) if place is None else place.size
    if size > limit:
        raise CtnetError(f"cannot read {path}: it has {size} bytes; the limit is {limit}")
    if place is not None:
        return place.read()
    try:
        with open(path, "rb") as stream:
            return stream.read()
    except OSError as error:
        raise os_error(error, "read", path) from error


def read_start(path: str | Path, count: int) -> bytes:
    """The first bytes of a regular file, as many as there are of so many.

    Raises:
        CtnetError: when it is missing, not a regular file, or cannot be read.
    """
    require_regular(path)
    try:
        with open(path, "rb") as stream:
            return stream.read(count)
    except OSError as error:
        raise os_error(error, "read", path) from error


def read_text(path: str | Path, errors: str = "strict") -> str:
    """The content of a text file in UTF-8; a byte order mark is dropped.

    Args:
        path: the file.
        errors: how bytes that are not UTF-8 are handled, see ``bytes.decode``.

    Raises:
        CtnetError: as ``read_bytes``, and when it is not UTF-8.
    """
    try:
        return read_bytes(path).decode("utf-8-sig", errors).replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        raise CtnetError(f"{path} is not a text file in UTF-8 ({error}); save it as UTF-8") from error


def _give_usual_permissions(path: str) -> None:
    """mkstemp creates private files; give this one the permissions of a file that ``open`` creates."""
    mask = os.umask(0)
    os.umask(mask)
    os.chmod(path, 0o666 & ~mask)


def is_plain_archive(archive: str | Path | IO[bytes]) -> bool:
    """Whether a zip's content does not exceed the zip's size: a few kilobytes can unpack to terabytes.

    Args:
        archive: the file, or a stream of it.

    Raises:
        zipfile.BadZipFile: when it is not a zip.
    """
    import zipfile

    with zipfile.ZipFile(archive) as opened:
        held = sum(member.file_size for member in opened.infolist())
    if isinstance(archive, (str, Path)):
        return held <= os.stat(archive).st_size
    return held <= archive.seek(0, os.SEEK_END)


def write_json(path: str | Path, value: Any, indent: int | None = 2) -> None:
    """Write ``value`` as JSON, atomically. NaN and infinities are refused: other readers cannot read them.

    Raises:
        CtnetError: when the file cannot be written.
        ValueError: when ``value`` holds NaN or an infinity.
    """
    text = to_json(value, indent) + "\n"
    with atomic_write(path, "w") as stream:
        stream.write(text)


def to_json(value: Any, indent: int | None = None) -> str:
    """A value as JSON text that can be written in any encoding of Unicode.

    File names that are not UTF-8 hold unpaired surrogates, which are written as escapes and read back as the
    same name.

    Raises:
        ValueError: when ``value`` holds NaN or an infinity.
    """
    text = json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False)
    return _SURROGATE.sub(lambda half: f"\\u{ord(half[0]):04x}", text)


def read_json(path: str | Path, finite: bool = False) -> Any:
    """Read a JSON file.

    Args:
        path: the file.
        finite: refuse NaN, Infinity and numbers beyond floats, which JSON does not have and Python reads.

    Raises:
        CtnetError: when the file is missing, unreadable or not JSON, naming the position in it; when an
            object in it has a key twice, of which readers would silently take the last.
    """
    checks: dict[str, Any] = {"parse_constant": _finite, "parse_float": _finite} if finite else {}
    try:
        text = read_bytes(path, JSON_LIMIT).decode("utf-8-sig")
        return json.loads(text, object_pairs_hook=unique_keys, **checks)
    except RepeatedKey as error:
        raise CtnetError(
            f"{path} has an object with the key {error.key!r} twice; keep one of them"
        ) from error
    except RecursionError as error:
        raise CtnetError(f"{path} holds values nested too deeply; write it again") from error
    except ValueError as error:
        reason = "a number of thousands of digits" if "digits" in str(error) else str(error)
        raise CtnetError(f"{path} is not valid JSON ({reason}); was it cut short?") from error


def _finite(text: str) -> float:
    if math.isfinite(value := float(text)):
        return value
    raise ValueError(f"{text[:20]} is not a number of JSON")


class RepeatedKey(ValueError):
    """An object of JSON has a key twice."""

    def __init__(self, key: str) -> None:
        super().__init__(f"the key {key!r} occurs twice")
        self.key = key


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make an object of its pairs, for ``object_pairs_hook`` of ``json``, which would take the last of a key.

    Raises:
        RepeatedKey: naming the key.
    """
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise RepeatedKey(key)
            seen.add(key)
    return found
