"""What the header of an image file says, before anything is decoded."""

from __future__ import annotations

import io
import re

import cv2
import numpy as np
import pytest
from PIL import Image

from ctnet.data.image_formats import is_cut_short, stated_size


def jpeg(width: int, height: int, **options: object) -> bytes:
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3)).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(noise).save(stream, "JPEG", **options)
    return stream.getvalue()


def before_markers(data: bytes, what: bytes) -> bytes:
    """A JPEG with these bytes before each marker from the quantization tables to the first scan."""
    head, scan, rest = data.partition(b"\xff\xda")
    start = head.index(b"\xff\xdb")
    filled = re.sub(rb"\xff(?=[\xdb\xc0\xc2\xc4]\x00)", lambda found: what + found[0], head[start:])
    assert filled.count(what) >= 3
    return head[:start] + filled + what + scan + rest


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("what", [b"\xff", b"\xff" * 70_000, b"\xff\x01", b"rubbish"])
def test_the_size_of_a_jpeg_with_something_before_its_markers(what: bytes, progressive: bool) -> None:
    """Fill bytes may stand before every marker, and decoders pass over more than these."""
    data = before_markers(jpeg(60, 40, progressive=progressive), what)
    assert cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR).shape == (40, 60, 3)
    assert stated_size(data) == (60, 40)
    assert not is_cut_short(data)
    assert is_cut_short(data[:-40])


def test_the_size_of_a_jpeg_without_a_whole_header() -> None:
    data = jpeg(60, 40)
    frame = data.index(b"\xff\xc0")
    assert stated_size(data[: frame + 9]) == (60, 40)
    for length in (2, 3, frame, frame + 8):
        assert stated_size(data[:length]) == (0, 0)


def test_the_size_of_a_preview_is_not_that_of_the_picture() -> None:
    preview, picture = jpeg(16, 16), jpeg(60, 40)
    length = (len(preview) + 2).to_bytes(2, "big")
    assert stated_size(picture[:2] + b"\xff\xe2" + length + preview + picture[2:]) == (60, 40)
