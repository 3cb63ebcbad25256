"""Packs: a read-only tree of files in one HDF5 file, read as plain bytes at known places.

A path may lead into a pack: ``data.h5/train/7.jpg`` is the file ``train/7.jpg`` of the pack ``data.h5``.
HDF5 is needed to open a pack, but not to read a file in it, so forked and spawned processes may share one.
"""

from __future__ import annotations

import os
import re
import stat
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ctnet.base.errors import CtnetError, os_error
from ctnet.base.hdf5 import UNREADABLE, attribute, member, own_dataset

FORMAT = "ctnet pack 1"
SUFFIXES = (".h5", ".hdf5")
#: What ends the part of a path that may be a pack: asked for every image, so it is text and no ``Path``.
_INSIDE = re.compile(rf"(?:{'|'.join(map(re.escape, SUFFIXES))})[{re.escape(os.sep)}/]")

_FIX = "pack the data again with `ctnet data pack`"


@dataclass(frozen=True)
class Place:
    """Where the content of a packed file lies.

    Attributes:
        pack: the file on disk.
        name: the name of the file in it.
        start, size: bytes of ``pack``.
        checksum: CRC-32 of the content.
    """

    pack: Path
    name: str
    start: int
    size: int
    checksum: int

    def read(self) -> bytes:
        """The content.

        Raises:
            CtnetError: when it is not what was packed, or cannot be read.
        """
        try:
            with open(self.pack, "rb") as stream:
                stream.seek(self.start)
                content = stream.read(self.size)
        except OSError as error:
            raise os_error(error, "read", self.pack) from error
        if zlib.crc32(content) != self.checksum:
            raise CtnetError(f"{self.name} in {self.pack} is damaged; {_FIX}")
        return content


class Pack:
    """An open pack: which files it has, and where they lie.

    Attributes:
        path: the path of the file on disk.
    """

    def __init__(self, path: Path, file: Any) -> None:
        """Args:
        path: the path of the file on disk.
        file: the same, opened with h5py; it may be closed afterwards.
        """
        self.path = path
        tables = _tables(member(file, "files"))
        data = own_dataset(file, "data", None, (), "u")
        begin, held = data.id.get_offset(), len(data)
        if held and (begin is None or data.dtype != np.uint8):
            raise ValueError("its data does not lie in one piece")
        if held and begin + held > path.stat().st_size:
            raise ValueError("it is cut short")
        self._starts, self._sizes, self._checksums = tables["starts"], tables["sizes"], tables["checksums"]
        if any(table.ndim != 1 or table.dtype.kind not in "iu" for table in tables.values()):
            raise ValueError("its table of files is not of whole numbers")
        beyond = self._sizes > held - self._starts  # a sum could overflow
        if (self._starts < 0).any() or (self._sizes < 0).any() or beyond.any():
            raise ValueError("its table of files does not fit its data")
        self._begin = begin or 0
        text = tables["names"].tobytes().decode("utf-8", "surrogatepass")
        names = text.split("\0")[:-1]
        if not len(names) == len(self._starts) == len(self._sizes) == len(self._checksums):
            raise ValueError("its table of files is not whole")
        self._rows = {name: row for row, name in enumerate(names)}

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def find(self, name: str) -> Place | None:
        """Where a file lies; None for one that is not here."""
        row = self._rows.get(name)
        if row is None:
            return None
        start, size = int(self._starts[row]), int(self._sizes[row])
        return Place(self.path, name, self._begin + start, size, int(self._checksums[row]))

    def columns(self, name: str) -> dict[str, np.ndarray] | None:
        """The arrays that were packed beside a file; None for none.

        Raises:
            CtnetError: when they are damaged.
        """
        import h5py

        try:
            with h5py.File(self.path, "r") as file:
                groups = member(file, "columns")
                key = _key(name)
                return _tables(member(groups, key)) if key in groups else None
        except UNREADABLE as error:
            raise CtnetError(f"{self.path} is damaged ({error}); {_FIX}") from error


def open_pack(path: str | Path) -> Pack:
    """Open a pack; one that was opened before is opened again only when the file has changed.

    Raises:
        CtnetError: when it is missing, cut short, damaged, or something else.
    """
    text = os.fspath(path)
    try:
        status = os.stat(text)
    except OSError as error:
        raise os_error(error, "read", Path(path)) from error
    known = _OPEN.get(text)
    stamp = (status.st_size, status.st_mtime_ns)
    if known is None or known[0] != stamp:
        _OPEN[text] = known = (stamp, _opened(Path(path)))
    return known[1]


#: Size and time of change, and what was found then.
_OPEN: dict[str, tuple[tuple[int, int], Pack]] = {}


def _opened(path: Path) -> Pack:
    import h5py

    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise CtnetError(f"{path} is not an HDF5 file, or was cut short; {_FIX}") from error
    with file:
        try:
            if "format" not in file.attrs:
                raise CtnetError(
                    f"{path} is not a pack of ctnet; make one with `ctnet data pack DIR -o FILE.h5`"
                )
            found = attribute(file, "format")
            if found != FORMAT:
                raise CtnetError(f"{path} has format {found!r}, and this ctnet reads {FORMAT!r}; {_FIX}")
            return Pack(path, file)
        except UNREADABLE as error:
            raise CtnetError(f"{path} is damaged ({error}); {_FIX}") from error


def place_of(path: str | Path) -> Place | None:
    """Where the content of a path into a pack lies; None for other paths, and for a file that it lacks.

    Raises:
        CtnetError: for a pack that cannot be opened.
    """
    text = os.fspath(path)
    for match in _INSIDE.finditer(text):
        end = match.end()
        if is_pack(text[: end - 1]):
            name = os.path.normpath(text[end:].lstrip(os.sep)).replace(os.sep, "/")
            return open_pack(text[: end - 1]).find(name)
    return None


def is_pack(path: str | Path) -> bool:
    """Whether a path is that of a file called as packs are."""
    try:
        return os.path.splitext(path)[1] in SUFFIXES and stat.S_ISREG(os.stat(path).st_mode)
    except (OSError, ValueError):
        return False


def add_table(group: Any, name: str, values: np.ndarray) -> None:
    """Write an array with its checksum."""
    made = group.create_dataset(name, data=values)
    made.attrs["checksum"] = np.uint32(_checksum(values))


def add_columns(file: Any, name: str, columns: Mapping[str, np.ndarray]) -> None:
    """Write arrays beside a packed file; see ``Pack.columns``."""
    group = file.require_group("columns").create_group(_key(name))
    for key, values in columns.items():
        add_table(group, key, values)


def _tables(group: Any) -> dict[str, np.ndarray]:
    import h5py

    found = {}
    for name in group:
        values = member(group, name)
        if not isinstance(values, h5py.Dataset) or values.external or values.is_virtual:
            raise ValueError(f"{name} is not a dataset with values of its own")
        if values.dtype.kind not in "biuf" or values.nbytes > os.path.getsize(group.file.filename):
            raise ValueError(f"{name} is {values.dtype} of {values.nbytes} bytes")
        found[name] = values[()]
        if _checksum(found[name]) != int(values.attrs["checksum"]):
            raise ValueError(f"{name} is not what was packed")
    return found


def _checksum(values: np.ndarray) -> int:
    return zlib.crc32(np.ascontiguousarray(values).view(np.uint8).reshape(-1).tobytes())


def _key(name: str) -> str:
    """A name as that of an HDF5 group, whose own separator is the slash."""
    return name.replace("%", "%25").replace("/", "%2F")
