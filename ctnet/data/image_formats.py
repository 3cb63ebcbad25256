"""What the bytes of an image file say before it is decoded: format, size, depth, whether the end is there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from mmap import mmap

from ctnet.data import tiff

_JPEG_START = b"\xff\xd8"
_JPEG_END = b"\xff\xd9"
_JPEG_SIZES = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # frame headers: the segments that state the size
# A marker that has a length; in scan data, neither a stuffed byte nor a restart. Fill bytes may precede it.
_JPEG_MARKER = re.compile(rb"\xff[^\x00\x01\xff\xd0-\xd7]")
_PNG_START = b"\x89PNG\r\n\x1a\n"
_PNM = re.compile(rb"P([1-7])\s")
_PNM_HEADER = re.compile(rb"P[56]" + 3 * rb"(?:\s|#[^\n]*\n)+(\d{1,9})" + rb"\s")
_PFM = re.compile(rb"P[fF]\s")
_BOXED = {
    b"avif": "AVIF",
    b"avis": "AVIF",
    b"heic": "HEIC",
    b"heix": "HEIC",
    b"mif1": "HEIC",
    b"hevc": "HEIC",
}

#: How files begin, by format. The last ones are known so that a message can name them.
_STARTS = (
    (_JPEG_START, "JPEG"),
    (_PNG_START, "PNG"),
    (b"BM", "BMP"),
    (b"GIF8", "GIF"),
    *((start, "TIFF") for start in tiff.TIFF_STARTS),
    (b"\0\0\0\x0cjP  ", "JPEG 2000"),
    (b"\xff\x4f\xff\x51", "JPEG 2000"),
    (b"#?RADIANCE", "Radiance HDR"),
    (b"#?RGBE", "Radiance HDR"),
    (b"v/1\x01", "OpenEXR"),
    (b"\xff\x0a", "JPEG XL"),
    (b"\0\0\0\x0cJXL ", "JPEG XL"),
    (b"8BPS", "Photoshop"),
    (b"%PDF", "PDF"),
)

#: Formats that are decoded.
READ = ("JPEG", "PNG", "BMP", "WebP", "GIF", "TIFF", "JPEG 2000", "PNM", "AVIF")

#: Formats whose samples are floats, which have no natural scale to 8 bits.
OF_FLOATS = ("Radiance HDR", "PFM", "OpenEXR")


def format_of(data: bytes | mmap) -> str:
    """The name of an image file's format ("JPEG", "PNG", ...); empty for what is not known."""
    head = data[:32]
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WebP"
    if head[4:8] == b"ftyp":
        return _BOXED.get(head[8:12], "")
    if _PNM.match(head):
        return "PNM"
    if _PFM.match(head):
        return "PFM"
    return next((name for start, name in _STARTS if head.startswith(start)), "")


def stated_size(data: bytes) -> tuple[int, int]:
    """(width, height) of a JPEG, PNG, TIFF or GIF as its header says; (0, 0) for others."""
    kind = format_of(data)
    if kind == "PNG":
        return int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
    if kind == "TIFF":
        return next(((page.width, page.height) for page in tiff.pages(data)), (0, 0))
    if kind == "GIF":
        return int.from_bytes(data[6:8], "little"), int.from_bytes(data[8:10], "little")
    return _jpeg_size(data) if kind == "JPEG" else (0, 0)


def stated_depth(data: bytes) -> int:
    """Bits of a sample of a PNG, PNM or TIFF as its header says; 8 for others."""
    kind = format_of(data)
    if kind == "PNG":
        return int.from_bytes(data[24:25], "big")
    if kind == "TIFF":
        return next((page.bits for page in tiff.pages(data)), 8)
    header = _PNM_HEADER.match(data) if kind == "PNM" else None
    return 16 if header and int(header[3]) > 255 else 8


def is_cut_short(data: bytes) -> bool:
    """Whether the end of an image file is missing; what is filled up in its place looks like a picture."""
    kind = format_of(data)
    if kind == "JPEG":
        return not (data.endswith(_JPEG_END) or _jpeg_ends(data))
    if kind == "PNG":
        return not _png_ends(data)
    if kind == "TIFF":
        return not tiff.is_whole(data)
    if kind == "BMP":
        return _bmp_end(data) > len(data)
    if kind == "WebP":
        return int.from_bytes(data[4:8], "little") + 8 > len(data)
    header = _PNM_HEADER.match(data) if kind == "PNM" else None
    if header:
        samples = int(header[1]) * int(header[2]) * (3 if data[1:2] == b"6" else 1)
        return header.end() + samples * (2 if int(header[3]) > 255 else 1) > len(data)
    return False


def _jpeg_size(data: bytes) -> tuple[int, int]:
    start = next((start for kind, start in _jpeg_segments(data) if kind in _JPEG_SIZES), len(data))
    if start + 7 > len(data):
        return 0, 0
    height, width = data[start + 3 : start + 5], data[start + 5 : start + 7]
    return int.from_bytes(width, "big"), int.from_bytes(height, "big")


def _jpeg_ends(data: bytes) -> bool:
    """Whether a segment is the end of the image; previews inside other segments have their own."""
    return any(kind == 0xD9 for kind, _ in _jpeg_segments(data))


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, int]]:
    """The kind of each segment, and where its length stands; found as decoders do, whatever is before it."""
    position = len(_JPEG_START)
    while mark := _JPEG_MARKER.search(data, position):
        yield mark[0][1], mark.end()
        position = mark.end() + int.from_bytes(data[mark.end() : mark.end() + 2], "big")


def _png_ends(data: bytes) -> bool:
    """Follow the chunks (length, name, data, check sum) to the last one."""
    position = len(_PNG_START)
    while position + 12 <= len(data):
        if data[position + 4 : position + 8] == b"IEND":
            return True
        position += 12 + int.from_bytes(data[position : position + 4], "big")
    return False


def _bmp_end(data: bytes) -> int:
    """Where the pixels of a BMP end, bytes; its own field for the length of the file is often wrong."""
    start, header = (int.from_bytes(data[at : at + 4], "little") for at in (10, 14))
    if header < 40 or int.from_bytes(data[30:34], "little") in (1, 2):  # old headers; run-length coded
        return 0
    width = int.from_bytes(data[18:22], "little", signed=True)
    height = abs(int.from_bytes(data[22:26], "little", signed=True))
    row = (width * int.from_bytes(data[28:30], "little") + 31) // 32 * 4
    return start + row * height
