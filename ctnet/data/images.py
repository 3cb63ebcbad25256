"""Reading image files as 8-bit RGB, with a clear error when that fails."""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np

from ctnet.base.errors import CtnetError, is_shortage
from ctnet.base.files import read_bytes
from ctnet.base.memory import available_memory, gigabytes
from ctnet.data import tiff
from ctnet.data.image_formats import OF_FLOATS, READ, format_of, is_cut_short, stated_depth, stated_size

#: Suffixes (lower case) of images in a folder that is searched.
IMAGE_SUFFIXES = (
    ".jpg",
    ".jpeg",
    ".jpe",
    ".jfif",
    ".png",
    ".apng",
    ".bmp",
    ".dib",
    ".webp",
    ".tif",
    ".tiff",
    ".gif",
    ".jp2",
    ".j2k",
    ".avif",
    ".pbm",
    ".pgm",
    ".ppm",
    ".pnm",
)
#: OpenCV's module for its log level: 4.8 has these functions in ``cv2``, 5 only in ``cv2.utils.logging``.
OPENCV_LOG = getattr(cv2.utils, "logging", cv2)
SILENT = 0  # LOG_LEVEL_SILENT, which older versions do not name

#: Formats decoded by Pillow; all others by OpenCV.
_BY_PILLOW = ("GIF", "AVIF")

#: What Pillow raises for broken files.
PILLOW_ERRORS = (OSError, ValueError, SyntaxError, EOFError, LookupError, TypeError, struct.error)

_LARGE = 1 << 26  # pixels; free memory is not checked for smaller images

#: Largest image file that is read, bytes.
IMAGE_LIMIT = 1 << 32


class ImageError(CtnetError):
    """An image file that is missing, broken or truncated, or whose size differs from that in its entry."""


def read_image(path: str | Path, size: tuple[int, int] | None = None) -> np.ndarray:
    """Read an image of any bit depth and number of channels.

    The EXIF orientation is applied, unless the image has the expected size only without it.

    Args:
        path: the file.
        size: expected (width, height), pixels.

    Returns:
        (H, W, 3) uint8, RGB. 16-bit samples keep their upper byte (value // 256, whatever the largest
        value), transparency is dropped, and of an animation the first frame is returned.

    Raises:
        ImageError: naming the file, when it is missing, not an image, truncated or of another size.
    """
    return decode_image(path, read_image_bytes(path), size)


def decode_image(
    path: str | Path, data: bytes, size: tuple[int, int] | None = None, checked: bool = False
) -> np.ndarray:
    """Decode an image file that is already in memory; if it contains several images, the first.

    Args:
        path: the file's name, for messages.
        data: the file's bytes.
        size: expected (width, height), pixels.
        checked: whether the file is known to be complete.

    Returns:
        (H, W, 3) uint8, RGB.

    Raises:
        ImageError: as ``read_image``.
    """
    if not checked and is_cut_short(data):
        raise ImageError(f"{path} is cut short: the end of the image is missing; copy it again")
    _insist_on_memory(path, data)
    if samples := _unfit_samples(data):
        raise ImageError(
            f"{path} is not an image that can be read (its samples are {samples}, but only 8 and 16 "
            "bits are supported); save it as one of these"
        )
    try:
        return _sized(path, data, size)
    except _TooLarge as error:
        raise ImageError(f"{path} has {_limit(str(error))}") from error


def _unfit_samples(data: bytes) -> str:
    """The sample type of an image that has no natural conversion to 8 bits; empty for unsigned integers."""
    kind = format_of(data)
    if kind in OF_FLOATS:
        return f"floats, as in all files of {kind}"
    page = next(iter(tiff.pages(data)), None) if kind == "TIFF" else None
    if page is None or (page.kind in ("unsigned", "unknown") and page.bits <= 16):
        return ""
    names = {"unsigned": "uint", "signed": "int"}
    return f"{names.get(page.kind, page.kind)}{page.bits}"


def _limit(complaint: str) -> str:
    """The limit that an image exceeds, and the variable that raises it."""
    if "CV_IO" not in complaint:
        return "more pixels than Pillow reads; make it smaller, or split it"
    sides = {"WIDTH": "columns", "HEIGHT": "rows"}
    side = next((side for side in sides if f"CV_IO_MAX_IMAGE_{side}" in complaint), "PIXELS")
    plural, usual = (sides[side], "2^20") if side in sides else ("pixels", "2^30")
    variable = f"OPENCV_IO_MAX_IMAGE_{side}"
    return f"more {plural} than OpenCV reads ({os.environ.get(variable, usual)}); set {variable} to more"


def _sized(path: str | Path, data: bytes, size: tuple[int, int] | None) -> np.ndarray:
    image = _decode_colour(data)
    if image is None:
        raise ImageError(f"{path} is not an image that can be read ({_complaint(data)}); replace it")
    if size is not None and _size(image) != size:
        shown, image = image, _decode_colour(data, cv2.IMREAD_IGNORE_ORIENTATION)
        if image is None or _size(image) != size:
            raise ImageError(
                f"{path} is {shown.shape[1]}x{shown.shape[0]} pixels, but its entry says "
                f"{size[0]}x{size[1]}; correct the entry"
            )
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def silence_videos() -> None:
    """Keeps OpenCV and its FFmpeg from printing what ctnet already says about a video."""
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # before OpenCV first uses FFmpeg
    OPENCV_LOG.setLogLevel(SILENT)


def name_for_opencv(path: str | Path) -> str:
    """The name of a file (a video) in the form that OpenCV opens.

    Raises:
        CtnetError: for a name that is not UTF-8, with which OpenCV crashes.
    """
    name = str(path)
    try:
        name.encode("utf-8")
    except UnicodeEncodeError as error:
        raise CtnetError(
            f"cannot open {name}: the name of a video must be UTF-8; rename the file, or its folder"
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


def read_image_bytes(path: str | Path) -> bytes:
    """The content of an image file.

    Raises:
        ImageError: when it is missing, not a regular file or too large.
        CtnetError: when the machine is short of memory or file handles, which is not the image's problem.
    """
    try:
        return read_bytes(path, IMAGE_LIMIT)
    except CtnetError as error:
        if isinstance(error.__cause__, OSError) and is_shortage(error.__cause__):
            raise  # not the image's problem
        raise ImageError(str(error)) from error


def _decode_colour(data: bytes, flags: int = 0) -> np.ndarray | None:
    """8-bit BGR, or None. OpenCV itself would round 16 bits to 8 in TIFF and truncate them in PNG."""
    is_deep = stated_depth(data) == 16 or format_of(data) == "JPEG 2000"
    image = _decode(data, cv2.IMREAD_COLOR | flags | (cv2.IMREAD_ANYDEPTH if is_deep else 0))
    if image is not None and image.dtype == np.uint16:
        return (image >> 8).astype(np.uint8)
    return image


def _decode(data: bytes, flags: int) -> np.ndarray | None:
    """The image in BGR; None if OpenCV cannot decode it."""
    if not data:
        return None
    if format_of(data) in _BY_PILLOW:
        return _decode_by_pillow(data)
    try:
        with _quiet():
            return cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:  # the header has an absurd size
        if error.code == cv2.Error.STS_NO_MEM:
            raise CtnetError(
                f"there is not enough memory to decode an image of {len(data)} bytes; close other programs, "
                "or use fewer --workers"
            ) from error
        if "CV_IO_MAX_IMAGE" in str(error):
            raise _TooLarge(str(error)) from error
        return None


def _decode_by_pillow(data: bytes) -> np.ndarray | None:
    """BGR of formats that older OpenCV versions cannot read, and newer ones read without the orientation."""
    from PIL import Image, ImageOps

    try:
        with Image.open(io.BytesIO(data), formats=_BY_PILLOW) as opened:
            image = np.asarray(ImageOps.exif_transpose(opened).convert("RGB"))
    except Image.DecompressionBombError as error:
        raise _TooLarge(str(error)) from error
    except PILLOW_ERRORS:
        return None
    return cv2.cvtColor(image, cv2.COLOR_RGB2BGR)


def _insist_on_memory(path: str | Path, data: bytes) -> None:
    """Refuse an image that does not fit into memory: a file of a few kilobytes can claim a billion pixels."""
    width, height = stated_size(data)
    if width * height < _LARGE:
        return
    needed = 6 * width * height  # decoded, and once more with its channels in another order
    free = available_memory()
    if free is not None and needed > free:
        raise ImageError(
            f"{path} has {width}x{height} pixels, which need {gigabytes(needed)}, but {gigabytes(free)} are "
            "free; make it smaller, or split it"
        )


class _TooLarge(Exception):
    """An image is refused only because of its size."""


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps OpenCV from printing what the ImageError already says."""
    level = OPENCV_LOG.getLogLevel()
    OPENCV_LOG.setLogLevel(SILENT)
    try:
        yield
    finally:
        OPENCV_LOG.setLogLevel(level)


def _complaint(data: bytes) -> str:
    if not data:
        return "the file is empty"
    raw = None if format_of(data) in _BY_PILLOW else _decode(data, cv2.IMREAD_UNCHANGED)
    if raw is not None:
        return f"its samples are {raw.dtype}, but only 8 and 16 bits are supported"
    kind = format_of(data)
    if not kind:
        return "unknown format"
    if kind == "GIF" and not data.endswith(b";"):
        return "it is cut short"
    return "its content is broken" if kind in READ else f"{kind} is not supported; save it as PNG or JPEG"
