"""Image files that hold several pictures: animated GIF, WebP and PNG, TIFF with several pages."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from mmap import ACCESS_READ, mmap
from pathlib import Path

import numpy as np

from ctnet.base.files import is_file
from ctnet.data import tiff
from ctnet.data.image_formats import format_of
from ctnet.data.images import PILLOW_ERRORS, ImageError, decode_image, read_image_bytes

_BY_PILLOW = {"GIF": "GIF", "WebP": "WEBP", "PNG": "PNG"}
_USUAL_RATE = 10.0  # frames per second where the file states no duration


@dataclass(frozen=True)
class Animation:
    """An image file of several pictures.

    Attributes:
        path: the file.
        length: number of pictures.
        rate: images per second; 0 for pages, which are not a video.
    """

    path: Path
    length: int
    rate: float

    def __iter__(self) -> Iterator[np.ndarray | ImageError]:
        """The pictures in order, (H, W, 3) uint8 RGB each, or what is wrong with one of them.

        Raises:
            ImageError: when the file is gone.
        """
        data = read_image_bytes(self.path)
        return _pages(self.path, data) if self.rate == 0 else _frames(self.path, data, self.length)


def open_animation(path: Path) -> Animation | None:
    """An image file that holds several pictures; None for all other files."""
    if not is_file(path):
        return None
    try:
        with path.open("rb") as stream, closing(mmap(stream.fileno(), 0, access=ACCESS_READ)) as data:
            if not _may_move(data):
                return None
            if format_of(data) == "TIFF":
                return Animation(path, len(tiff.pages(data)), 0.0)
    except (OSError, ValueError, LookupError):  # unreadable, empty, or a few bytes
        return None
    return _measured(path)


def _may_move(data: mmap) -> bool:
    kind = format_of(data)
    if kind == "TIFF":
        return len(tiff.pages(data)) > 1
    if kind == "PNG":
        return data.find(b"acTL", 0, data.find(b"IDAT") + 1) != -1
    return kind == "GIF" or (kind == "WebP" and data[12:16] == b"VP8X" and bool(data[20] & 2))


def _measured(path: Path) -> Animation | None:
    from PIL import Image

    try:
        with Image.open(path, formats=tuple(_BY_PILLOW.values())) as opened:
            length = int(getattr(opened, "n_frames", 1))
            if length > 1:
                opened.load()  # a WebP states the duration of the frame that was read
            milliseconds = float(opened.info.get("duration", 0) or 0)
    except (*PILLOW_ERRORS, Image.DecompressionBombError):
        return None
    rate = 1000 / milliseconds if milliseconds > 0 else _USUAL_RATE
    return Animation(path, length, rate) if length > 1 else None


def _pages(path: Path, data: bytes) -> Iterator[np.ndarray | ImageError]:
    for number, page in enumerate(tiff.pages(data)):
        where = f"{path}, page {number + 1},"
        try:
            if not page.whole:
                raise ImageError(f"{where} is cut short: the end of the picture is missing; copy it again")
            yield decode_image(where, tiff.with_page_first(data, page), checked=True)
        except ImageError as error:
            yield error


def _frames(path: Path, data: bytes, length: int) -> Iterator[np.ndarray | ImageError]:
    """Frames as they are seen: each is drawn over the ones before, as its file says."""
    from PIL import Image

    number = 0
    try:
        with Image.open(io.BytesIO(data), formats=tuple(_BY_PILLOW.values())) as opened:
            for number in range(length):
                opened.seek(number)
                yield np.array(opened.convert("RGB"))
    except (*PILLOW_ERRORS, Image.DecompressionBombError):
        rest = f"frames {number} to {length - 1}" if number < length - 1 else f"frame {number}"
        yield ImageError(f"{path}: {rest} cannot be read; is the file whole?")
