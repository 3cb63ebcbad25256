"""Reading an image file as 8-bit RGB, with a clear error if that fails."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np

from ctnet.base.errors import CtnetError, is_shortage
from ctnet.base.files import read_bytes
from ctnet.base.memory import available_memory, gigabytes

#: File suffixes of images, in lower case.
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
"""Suffixes of the files that count as images when a folder is searched, in lower case."""

_LARGE = 1 << 26  # pixels; free memory is not checked for smaller images

_JPEG_START = b"\xff\xd8"
_JPEG_END = b"\xff\xd9"
_JPEG_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")  # in scan data: neither a stuffed byte nor a restart
_PNG_START = b"\x89PNG\r\n\x1a\n"


#: Largest image file that is read, bytes.
IMAGE_LIMIT = 1 << 32


class ImageError(CtnetError):
    """An image file that is missing, broken, truncated or not of the size in its entry."""


def read_image(path: str | Path, size: tuple[int, int] | None = None) -> np.ndarray:
    """Read an image of any depth and number of channels.

    The EXIF orientation is applied, unless only the image as stored has the expected size.

    Args:
        path: the file.
        size: expected (width, height), pixels.

    Returns:
        (H, W, 3) uint8, RGB. 16-bit channels keep their upper byte; transparency is dropped.

    Raises:
        ImageError: naming the file, when it is missing, not an image, truncated or has another size.
    """
    data = _read_bytes(path)
    if _is_cut_short(data):
        raise ImageError(f"{path} is cut short: the end of the image is missing; copy it again")
    _check_memory(path, data)
    try:
        return _sized(path, data, size)
    except _TooManyPixels as error:
        limit = os.environ.get("OPENCV_IO_MAX_IMAGE_PIXELS", "2^30")
        raise ImageError(
            f"{path} has more pixels than OpenCV reads ({limit}); set OPENCV_IO_MAX_IMAGE_PIXELS to more"
        ) from error


def _sized(path: str | Path, data: bytes, size: tuple[int, int] | None) -> np.ndarray:
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


def name_for_opencv(path: str | Path) -> str:
    """The name of a file that OpenCV opens itself (a video).

    Raises:
        CtnetError: for a name that is not UTF-8, at which OpenCV crashes.
    """
    name = str(path)
    try:
        name.encode("utf-8")
    except UnicodeEncodeError as error:
        raise CtnetError(
            f"cannot open {name}: videos need a name in UTF-8; rename it, or its folder"
        ) from error
    return name


def image_size(path: str | Path) -> tuple[int, int]:
    """(width, height) of an image as ``read_image`` returns it; the whole file is read and checked.

    Raises:
        ImageError: as ``read_image``.
    """
    return _size(read_image(path))


def _size(image: np.ndarray) -> tuple[int, int]:
    return image.shape[1], image.shape[0]


def _read_bytes(path: str | Path) -> bytes:
    try:
        return read_bytes(path, IMAGE_LIMIT)
    except CtnetError as error:
        if isinstance(error.__cause__, OSError) and is_shortage(error.__cause__):
            raise  # the image is not to blame
        raise ImageError(str(error)) from error


def _decode(data: bytes, flags: int) -> np.ndarray | None:
    """The image in BGR; None if OpenCV cannot decode it."""
    if not data:
        return None
    try:
        with _quiet():
            return cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:  # a header with absurd sizes
        if error.code == cv2.Error.STS_NO_MEM:
            raise CtnetError(
                f"there is not enough memory to decode an image of {len(data)} bytes; close other programs, "
                "or use fewer --workers"
            ) from error
        if "CV_IO_MAX_IMAGE" in str(error):
            raise _TooManyPixels from error
        return None


def _check_memory(path: str | Path, data: bytes) -> None:
    """Refuse an image that does not fit into memory: a few kilobytes can claim a billion pixels."""
    width, height = _png_size(data) if data.startswith(_PNG_START) else _jpeg_size(data)
    if width * height < _LARGE:
        return
    needed = 6 * width * height  # decoded, and once more with its channels in another order
    free = available_memory()
    if free is not None and needed > free:
        raise ImageError(
            f"{path} has {width}x{height} pixels, which need {gigabytes(needed)}, but {gigabytes(free)} are "
            "free; make it smaller, or split it"
        )


def _png_size(data: bytes) -> tuple[int, int]:
    return int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")


def _jpeg_size(data: bytes) -> tuple[int, int]:
    """(width, height) in the frame header; None if it is not a JPEG."""
    position = len(_JPEG_START) if data.startswith(_JPEG_START) else len(data)
    while position + 9 <= len(data) and data[position] == 0xFF:
        kind, length = data[position + 1], int.from_bytes(data[position + 2 : position + 4], "big")
        if 0xC0 <= kind <= 0xCF and kind not in (0xC4, 0xC8, 0xCC):
            height, width = data[position + 5 : position + 7], data[position + 7 : position + 9]
            return int.from_bytes(width, "big"), int.from_bytes(height, "big")
        position += 2 + length
    return 0, 0


class _TooManyPixels(Exception):
    """OpenCV refuses an image because of its size."""


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps OpenCV from printing to stderr what the ImageError says."""
    level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        cv2.utils.logging.setLogLevel(level)


def _complaint(data: bytes) -> str:
    if not data:
        return "the file is empty"
    raw = _decode(data, cv2.IMREAD_UNCHANGED)
    if raw is not None:
        return f"its samples are {raw.dtype}, but only 8 and 16 bits are supported"
    if data.startswith((_JPEG_START, _PNG_START)):
        return "its content is broken"
    return "unknown format"


def _is_cut_short(data: bytes) -> bool:
    """Whether a JPEG or PNG lacks its end: OpenCV may silently fill the missing part with grey."""
    if data.startswith(_JPEG_START):
        return not (data.endswith(_JPEG_END) or _jpeg_ends(data))
    return data.startswith(_PNG_START) and not _png_ends(data)


def _jpeg_ends(data: bytes) -> bool:
    """Follow the segments to the end-of-image marker, skipping embedded previews."""
    position = 2
    while mark := _JPEG_MARKER.search(data, position):
        kind, position = mark[0][1], mark.end()
        if kind == 0xD9:
            return True
        position += int.from_bytes(data[position : position + 2], "big")
    return False


def _png_ends(data: bytes) -> bool:
    """Follow the chunks (length, name, data, checksum) to the last one."""
    position = len(_PNG_START)
    while position + 12 <= len(data):
        if data[position + 4 : position + 8] == b"IEND":
            return True
        position += 12 + int.from_bytes(data[position : position + 4], "big")
    return False
