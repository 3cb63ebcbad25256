"""The directories of a TIFF file: its pages, what their samples are, and whether their data is there."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from mmap import mmap

#: First bytes of little- and big-endian files, classic and BigTIFF (offsets of 8 bytes).
TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

_SUBFILE, _WIDTH, _HEIGHT, _BITS, _SAMPLE_FORMAT = 254, 256, 257, 258, 339
_OFFSETS, _COUNTS = (273, 324), (279, 325)  # strips, tiles
_WANTED = (_SUBFILE, _WIDTH, _HEIGHT, _BITS, _SAMPLE_FORMAT, *_OFFSETS, *_COUNTS)
_TYPES = {1: "B", 3: "H", 4: "I", 16: "Q"}  # of whole numbers, the only ones looked at
_KINDS = {1: "unsigned", 2: "signed", 3: "float", 5: "complex", 6: "complex"}
_MOST_PAGES = 100_000
_BROKEN = (struct.error, OverflowError)  # an offset beyond the end, or beyond all files (2^63)
_REDUCED = 1  # bit of the subfile's type: a smaller copy of another page


@dataclass(frozen=True)
class Page:
    """One picture of a TIFF file.

    Attributes:
        offset: where its directory lies in the file, bytes.
        width: pixels.
        height: pixels.
        bits: bits per sample.
        kind: the kind of its samples: "unsigned", "signed", "float", "complex" or "unknown".
        whole: False where strips or tiles lie beyond the end of the file.
    """

    offset: int
    width: int
    height: int
    bits: int
    kind: str
    whole: bool


def pages(data: bytes | mmap) -> list[Page]:
    """The pages of a TIFF file in order; smaller copies of a page (pyramids, thumbnails) do not count.

    Args:
        data: the file. Its directories may be broken: what cannot be followed ends the list.
    """
    try:
        return [page for page, reduced in _directories(data) if not reduced]
    except _BROKEN:  # the first directory lies beyond the end
        return []


def is_whole(data: bytes | mmap) -> bool:
    """Whether all directories of a TIFF file and the strips and tiles they name lie inside it."""
    try:
        found = [page.whole for page, _ in _directories(data, strict=True)]
    except _BROKEN:
        return False
    return all(found) and bool(found)


def with_page_first(data: bytes, page: Page) -> bytes:
    """The same file, beginning with another page: readers that know one page alone then read this one."""
    order, big = _layout(data)
    if big:
        return data[:8] + struct.pack(f"{order}Q", page.offset) + data[16:]
    return data[:4] + struct.pack(f"{order}I", page.offset) + data[8:]


def _layout(data: bytes | mmap) -> tuple[str, bool]:
    order = "<" if data[:2] == b"II" else ">"
    return order, b"+" in data[2:4]


def _directories(data: bytes | mmap, strict: bool = False) -> Iterator[tuple[Page, bool]]:
    """Every page, and whether it is a reduced copy. ``strict``: raise where the chain leaves the file."""
    order, big = _layout(data)
    word, count, size = ("Q", "Q", 20) if big else ("I", "H", 12)
    (offset,) = struct.unpack_from(f"{order}{word}", data, 8 if big else 4)
    seen: set[int] = set()
    while offset and offset not in seen and len(seen) < _MOST_PAGES:
        seen.add(offset)
        try:
            (entries,) = struct.unpack_from(f"{order}{count}", data, offset)
            start = offset + struct.calcsize(count)
            fields = _fields(data, start, entries, order, big)
            page = _page(offset, fields, len(data)), bool(fields.get(_SUBFILE, (0,))[0] & _REDUCED)
            (following,) = struct.unpack_from(f"{order}{word}", data, start + entries * size)
        except _BROKEN:
            if strict or len(seen) == 1:
                raise
            return
        yield page
        offset = following


def _fields(
    data: bytes | mmap, start: int, entries: int, order: str, big: bool
) -> dict[int, tuple[int, ...]]:
    """The whole numbers of the fields that matter here, by tag."""
    found = {}
    head, size = (f"{order}HHQ", 20) if big else (f"{order}HHI", 12)
    for number in range(entries):
        at = start + number * size
        tag, kind, count = struct.unpack_from(head, data, at)
        if tag not in _WANTED or kind not in _TYPES or not count:
            continue
        values = f"{order}{count}{_TYPES[kind]}"
        at += struct.calcsize(head)
        if struct.calcsize(values) > size - struct.calcsize(head):
            (at,) = struct.unpack_from(f"{order}{'Q' if big else 'I'}", data, at)
        if at + struct.calcsize(values) > len(data):
            raise struct.error("values beyond the end of the file")
        found[tag] = struct.unpack_from(values, data, at)
    return found


def _page(offset: int, fields: dict[int, tuple[int, ...]], length: int) -> Page:
    places = next((fields[tag] for tag in _OFFSETS if tag in fields), ())
    counts = next((fields[tag] for tag in _COUNTS if tag in fields), ())
    whole = all(place + count <= length for place, count in zip(places, counts, strict=False))
    kind = _KINDS.get(fields.get(_SAMPLE_FORMAT, (1,))[0], "unknown")
    width, height, bits = (fields.get(tag, (default,))[0] for tag, default in _SIZES)
    return Page(offset, width, height, bits, kind, whole)


_SIZES = ((_WIDTH, 0), (_HEIGHT, 0), (_BITS, 1))
