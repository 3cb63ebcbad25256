"""Images in requests: multipart, headers, what is refused before it is decoded."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from ctnet.serve.images import ACCEPTED, Sent, check_header, decoded, sent_images
from ctnet.serve.refusals import Refusal

pytestmark = pytest.mark.serve


def bomb(width: int, height: int, kilobytes: int) -> bytes:
    """A PNG whose header claims a size, with some of its data."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    packed = zlib.compress(b"\0" * (kilobytes << 20))[: kilobytes << 10]
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = [b"\x89PNG\r\n\x1a\n", chunk(b"IHDR", header), chunk(b"IDAT", packed), chunk(b"IEND", b"")]
    return b"".join(parts)


def refusal(function: Callable[..., object], *arguments: object) -> Refusal:
    with pytest.raises(Refusal) as found:
        function(*arguments)
    assert "\n" not in found.value.message
    return found.value


def test_parts_in_order_with_their_names(multipart) -> None:
    body, headers = multipart({"a.png": b"one", "ä/../b.jpg": b"two\r\n--BOUN", "": b""})
    sent = sent_images(body, headers["content-type"], 3)
    assert sent == [Sent("a.png", b"one"), Sent("ä/../b.jpg", b"two\r\n--BOUN"), Sent("image", b"")]
    assert sent_images(b"abc", "image/png", 1) == [Sent("the body", b"abc")]
    long = sent_images(*_typed(multipart({"x" * 999: b"1"})), 1)
    assert len(long[0].name) == 200


def _typed(made: tuple[bytes, dict[str, str]]) -> tuple[bytes, str]:
    return made[0], made[1]["content-type"]


@pytest.mark.parametrize(
    ("body", "kind", "status", "said"),
    [
        (b"", "image/png", 400, "there is no image in the request"),
        (b"", "multipart/form-data; boundary=B", 400, "the multipart body is cut short"),
        (b"--B--\r\n", "multipart/form-data; boundary=B", 400, "there is no image in the request"),
        (b"--B\r\n\r\n1\r\n--B", "multipart/form-data; boundary=B", 400, "the multipart body is cut short"),
        (b"--B\r\n\r\n1", "multipart/form-data", 400, "the multipart body has no boundary"),
        (b"--C\r\n\r\n1\r\n--C--", "multipart/form-data; boundary=B", 400, "the multipart body is broken"),
        (b"--B\r\nno colon\r\n\r\n1", "multipart/form-data; boundary=B", 400, "the multipart body is broken"),
        (b"--B", "multipart/form-data; boundary=" + "B" * 999, 400, "the multipart body is "),  # older: cut
    ],
)  # fmt: skip
def test_bodies_without_an_image(body: bytes, kind: str, status: int, said: str) -> None:
    found = refusal(sent_images, body, kind, 5)
    assert found.status == status
    assert found.message.startswith(said)


def test_too_many_parts(multipart) -> None:
    body, headers = multipart({f"{number}": b"x" for number in range(4)})
    found = refusal(sent_images, body, headers["content-type"], 3)
    assert found.status == 413
    assert found.message == "there are more than 3 images in the request; send fewer"


@pytest.mark.parametrize("kind", ACCEPTED)
def test_the_size_in_the_header_of_every_accepted_format(image, kind: str) -> None:
    stream = io.BytesIO()
    Image.fromarray(image(40, 30)).save(stream, kind)
    sent = Sent("a", stream.getvalue())
    assert check_header(sent, 1200) == 1200
    assert decoded(sent).shape == (30, 40, 3)
    found = refusal(check_header, sent, 1199)
    assert (found.status, found.message) == (
        413,
        "a has 40x30 pixels; this service takes 1199 at most: make it smaller, or split it",
    )


@pytest.mark.parametrize(("width", "height"), [(30_000, 30_000), (13_000, 13_000), (100, 2**31 - 1)])
def test_a_small_file_with_a_large_size_is_refused_by_its_header(
    monkeypatch: pytest.MonkeyPatch, width: int, height: int
) -> None:
    for place in ("cv2.imdecode", "PIL.Image.Image.load"):
        monkeypatch.setattr(place, lambda *_, **__: pytest.fail("it was decoded"))
    found = refusal(check_header, Sent("bomb.png", bomb(width, height, 100)), 50_000_000)
    assert found.status == 413
    assert found.message.startswith(f"bomb.png has {width}x{height} pixels")


def test_a_header_that_says_two_things_counts_as_the_larger(image) -> None:
    """JPEG allows 0xFF before a marker: a reader that stumbles over it finds another size further on."""
    stream = io.BytesIO()
    Image.fromarray(image(300, 200)).save(stream, "JPEG")
    data = stream.getvalue()
    at = data.index(b"\xff\xc0")
    lie = b"\xff\xfe" + struct.pack(">H", 2 + 0xC000) + b"\0" * 0xC000  # a comment
    crafted = data[:2] + lie + data[2:at] + b"\xff" + data[at:]
    assert decoded(Sent("a", crafted)).shape == (200, 300, 3)
    assert refusal(check_header, Sent("a", crafted), 59_999).status == 413
    assert check_header(Sent("a", crafted), 60_000) == 60_000


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "a is empty; send JPEG, PNG, WebP, GIF, BMP or AVIF"),
        (b"<html>", "a is not an image; send JPEG"),
        (b"%PDF-1.7", "a is PDF, which is not accepted; send JPEG"),
        (b"II*\0\x08\0\0\0", "a is TIFF, which is not accepted; send JPEG"),
        (b"\x89PNG\r\n\x1a\n", "the header of a is broken"),
        (b"\xff\xd8\xff\xe0", "the header of a is broken"),
        (b"GIF89a", "the header of a is broken"),
        (b"BM" + b"\0" * 60, "the header of a is broken"),
        (b"RIFF\x10\0\0\0WEBPVP8 ", "the header of a is broken"),
        (b"\0\0\0\x1cftypavif" + b"\0" * 40, "the header of a is broken"),
    ],
)
def test_what_is_not_an_image(data: bytes, said: str) -> None:
    found = refusal(check_header, Sent("a", data), 1000)
    assert found.status == 400
    assert found.message.startswith(said)


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_images_that_are_cut_short(png, suffix: str) -> None:
    data = png(suffix=suffix)
    sent = Sent("a", data[: len(data) * 3 // 4])
    check_header(sent, 10_000)
    found = refusal(decoded, sent)
    assert found.status == 400
    assert found.message.startswith("a is cut short")


def test_any_bytes_are_refused_in_one_line(png) -> None:
    rng = np.random.default_rng(0)
    whole = [png(suffix=suffix) for suffix in (".png", ".jpg", ".bmp", ".webp")]
    refused = 0
    for number in range(200):
        data = bytearray(whole[number % len(whole)])
        for at in rng.integers(0, min(len(data), 80), 3):
            data[at] = rng.integers(256)
        sent = Sent("a", bytes(data))
        try:
            assert check_header(sent, 100_000) <= 100_000
            assert decoded(sent).size <= 300_000
        except Refusal:
            refused += 1
    assert refused > 50
