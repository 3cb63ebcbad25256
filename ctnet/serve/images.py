"""The images of a request: found in its body, checked by their headers, decoded."""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass

import numpy as np

from ctnet.base.errors import CtnetError
from ctnet.base.output import counted, printable
from ctnet.data.image_formats import format_of, stated_size
from ctnet.data.images import PILLOW_ERRORS, ImageError, decode_image
from ctnet.serve.refusals import Refusal

#: Formats that are accepted: those that browsers show. The readers of others (TIFF, JPEG 2000) do far more
#: than a service should offer to strangers.
ACCEPTED = ("JPEG", "PNG", "WebP", "GIF", "BMP", "AVIF")
#: Largest number of pixels of which Pillow reads the header.
LARGEST = 178_000_000
#: Characters of a name that are kept.
_LONGEST_NAME = 200


@dataclass(frozen=True)
class Sent:
    """An image as it was sent.

    Attributes:
        name: what the client calls it; only shown, never opened.
        data: the bytes of the file.
    """

    name: str
    data: bytes


def sent_images(body: bytes, content_type: str, most: int) -> list[Sent]:
    """The images in the body of a request.

    Args:
        body: one image, or parts of ``multipart/form-data`` that are one each.
        content_type: the request's header; what is not multipart is an image, whatever it says.
        most: images that are accepted.

    Raises:
        Refusal: for a body without an image, with too many of them, or that is not valid multipart.
    """
    if content_type.partition(";")[0].strip().lower().startswith("multipart/"):
        sent = _parts(body, content_type, most)
    else:
        sent = [Sent("the body", body)] if body else []
    if not sent:
        raise Refusal(400, "there is no image in the request; send one as its body, or several as multipart")
    return sent


def _parts(body: bytes, content_type: str, most: int) -> list[Sent]:
    from python_multipart.exceptions import FormParserError
    from python_multipart.multipart import MultipartParser, parse_options_header

    _, options = parse_options_header(content_type)
    boundary = options.get(b"boundary", b"")
    if not boundary:
        raise Refusal(400, "the multipart body has no boundary in its Content-Type; let your client set it")
    parts = _Parts(body, most)
    try:
        parser = MultipartParser(boundary, parts.callbacks)  # type: ignore[arg-type]
        parser.write(body)
        parser.finalize()
    except FormParserError as error:
        raise Refusal(400, f"the multipart body is broken: {error}") from error
    if not parts.ended:
        raise Refusal(400, "the multipart body is cut short: its last boundary is missing")
    return parts.sent


class _Parts:
    """Gathers the parts of a multipart body, while it is parsed."""

    def __init__(self, body: bytes, most: int) -> None:
        self.sent: list[Sent] = []
        self.ended = False
        self._body, self._most = body, most
        self._field = self._value = b""
        self._disposition = b""
        self._chunks: list[bytes] = []
        self.callbacks = {
            "on_part_begin": self._begin,
            "on_header_field": self._header_field,
            "on_header_value": self._header_value,
            "on_header_end": self._header_end,
            "on_part_data": self._data,
            "on_part_end": self._end,
            "on_end": self._all,
        }

    def _begin(self) -> None:
        if len(self.sent) == self._most:
            raise Refusal(
                413, f"there are more than {counted(self._most, 'image')} in the request; send fewer"
            )
        self._disposition, self._chunks = b"", []

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._field += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        if self._field.lower() == b"content-disposition":
            self._disposition = self._value
        self._field = self._value = b""

    def _data(self, data: bytes, start: int, end: int) -> None:
        self._chunks.append(data[start:end])

    def _end(self) -> None:
        from python_multipart.multipart import parse_options_header

        _, options = parse_options_header(self._disposition)
        name = options.get(b"filename") or options.get(b"name") or b""
        text = printable(name.decode("utf-8", "replace"))[:_LONGEST_NAME]
        self.sent.append(Sent(text or f"image {len(self.sent) + 1}", b"".join(self._chunks)))

    def _all(self) -> None:
        self.ended = True


def check_header(sent: Sent, most_pixels: int) -> int:
    """The number of pixels of an image, by its header alone.

    Args:
        sent: the image.
        most_pixels: pixels that are accepted, ``LARGEST`` at most.

    Raises:
        Refusal: for what is not an image of an accepted format, and for one with more pixels.
    """
    kind = format_of(sent.data)
    if kind not in ACCEPTED:
        what = f"is {kind}, which is not accepted" if kind else "is not an image" if sent.data else "is empty"
        raise Refusal(400, f"{sent.name} {what}; send {', '.join(ACCEPTED[:-1])} or {ACCEPTED[-1]}")
    width, height = max(stated_size(sent.data), _size_by_pillow(sent), key=lambda size: size[0] * size[1])
    if width * height > most_pixels:
        raise Refusal(
            413,
            f"{sent.name} has {width}x{height} pixels; this service takes {most_pixels} at most: "
            "make it smaller, or split it",
        )
    return width * height


def _size_by_pillow(sent: Sent) -> tuple[int, int]:
    """(width, height) that Pillow reads in the header, without decoding.

    A crafted header may say one thing to one reader and another to the next: that of Pillow goes through a
    file as the decoders do.
    """
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(sent.data), formats=tuple(map(str.upper, ACCEPTED))) as opened:
                width, height = opened.size
                return width, height
    except Image.DecompressionBombError as error:
        width, height = stated_size(sent.data)
        size = f"{width}x{height}" if width else f"more than {LARGEST}"
        raise Refusal(413, f"{sent.name} has {size} pixels; make it smaller, or split it") from error
    except PILLOW_ERRORS as error:
        raise Refusal(
            400, f"the header of {sent.name} is broken; send it again, or save it as PNG or JPEG"
        ) from error


def decoded(sent: Sent) -> np.ndarray:
    """An image whose header was checked, (H, W, 3) uint8 RGB.

    Raises:
        Refusal: for one that is broken or cut short, or when memory is short.
    """
    try:
        return decode_image(sent.name, sent.data)
    except ImageError as error:
        raise Refusal(400, str(error)) from error
    except CtnetError as error:
        raise Refusal(503, str(error)) from error
