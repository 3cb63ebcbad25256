"""Reading an image file as 8-bit RGB, or saying what is wrong with it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np

from ctnet.base.errors import CtnetError, os_error

#: The files that count as images, in lower case.
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
"""What counts as an image when a folder is searched, in lower case."""

_JPEG_START = b"\xff\xd8"
_JPEG_END = b"\xff\xd9"
_JPEG_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")  # in scan data: neither a stuffed byte nor a restart
_PNG_START = b"\x89PNG\r\n\x1a\n"


class ImageError(CtnetError):
    """An image file that is missing, broken, cut short or of another size than its entry says."""


def read_image(path: str | Path, size: tuple[int, int] | None = None) -> np.ndarray:
    """Read an image of any depth and number of channels.

    A camera's orientation mark is obeyed, unless only the picture as stored has the expected size.

    Args:
        path: the file.
        size: expected (width, height), pixels.

    Returns:
        (H, W, 3) uint8, RGB. 16-bit channels keep their upper byte, transparency is dropped.

    Raises:
        ImageError: naming the file, when it is missing, no image, cut short or has another size.
    """
    data = _read_bytes(path)
    if _is_cut_short(data):
        raise ImageError(f"{path} is cut short: the end of the picture is missing; copy it again")
    image = _decode(data, cv2.IMREAD_COLOR)
    if image is None:
        raise ImageError(f"{path} is not an image that can be read ({_complaint(data)}); replace it")
    if size is not None and _size(image) != size:
        shown, image = image, _decode(data, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
        if image is None or _size(image) != size:
            raise ImageError(
                f"{path} is {shown.shape[1]}x{shown.shape[0]} pixels, but its entry says "
                f"{size[0]}x{size[1]}; correct the entry"
            )
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def image_size(path: str | Path) -> tuple[int, int]:
    """(width, height) of an image as ``read_image`` gives it; the whole file is read and checked.

    Raises:
        ImageError: as ``read_image``.
    """
    return _size(read_image(path))


def _size(image: np.ndarray) -> tuple[int, int]:
    return image.shape[1], image.shape[0]


def _read_bytes(path: str | Path) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ImageError(str(os_error(error, "read", path))) from error


def _decode(data: bytes, flags: int) -> np.ndarray | None:
    """BGR, or None for what OpenCV cannot decode."""
    if not data:
        return None
    try:
        with _quiet():
            return cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:  # a header that promises absurd sizes
        return None


@contextmanager
def _quiet() -> Iterator[None]:
    """OpenCV does not say on stderr what the ImageError will say."""
    level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        cv2.utils.logging.setLogLevel(level)


def _complaint(data: bytes) -> str:
    if not data:
        return "the file is empty"
    if data.startswith((_JPEG_START, _PNG_START)):
        return "its content is broken"
    return "unknown format"


def _is_cut_short(data: bytes) -> bool:
    """Whether a JPEG or PNG lacks its end: OpenCV may fill up what is missing with grey and say nothing."""
    if data.startswith(_JPEG_START):
        return not (data.endswith(_JPEG_END) or _jpeg_ends(data))
    return data.startswith(_PNG_START) and not _png_ends(data)


def _jpeg_ends(data: bytes) -> bool:
    """Follow the segments to the end-of-image mark, passing over previews inside them."""
    position = 2
    while mark := _JPEG_MARKER.search(data, position):
        kind, position = mark[0][1], mark.end()
        if kind == 0xD9:
            return True
        position += int.from_bytes(data[position : position + 2], "big")
    return False


def _png_ends(data: bytes) -> bool:
    """Follow the chunks (length, name, data, check sum) to the last one."""
    position = len(_PNG_START)
    while position + 12 <= len(data):
        if data[position + 4 : position + 8] == b"IEND":
            return True
        position += 12 + int.from_bytes(data[position : position + 4], "big")
    return False
