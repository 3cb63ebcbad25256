from __future__ import annotations

import errno
import struct
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from ctnet.base.errors import CtnetError
from ctnet.data import images
from ctnet.data.animations import open_animation
from ctnet.data.images import ImageError, image_size, read_image


def encode(suffix: str, image: np.ndarray, *parameters: int) -> bytes:
    """An image file's bytes; ``image`` in RGB(A) or grey."""
    codes = {3: cv2.COLOR_RGB2BGR, 4: cv2.COLOR_RGBA2BGRA}
    if image.ndim == 3:
        image = cv2.cvtColor(image, codes[image.shape[2]])
    return cv2.imencode(suffix, image, list(parameters))[1].tobytes()


def with_orientation(jpeg: bytes, orientation: int) -> bytes:
    """The same JPEG with this EXIF orientation."""
    entry = struct.pack("<HHIHH", 0x0112, 3, 1, orientation, 0)
    exif = b"Exif\0\0" + b"II*\0" + struct.pack("<IH", 8, 1) + entry + struct.pack("<I", 0)
    return jpeg[:2] + segment(0xE1, exif) + jpeg[2:]


def segment(kind: int, content: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, kind, len(content) + 2) + content


def save(folder: Path, data: bytes, name: str = "image") -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


# --- formats


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".webp"])
def test_lossless_formats(tmp_path: Path, picture: np.ndarray, suffix: str) -> None:
    image = read_image(save(tmp_path, encode(suffix, picture, cv2.IMWRITE_WEBP_QUALITY, 101)), size=(60, 40))
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, picture)


def test_jpeg(tmp_path: Path, picture: np.ndarray) -> None:
    path = save(tmp_path, encode(".jpg", picture))
    assert np.abs(read_image(path).astype(int) - picture).mean() < 3
    assert image_size(path) == (60, 40)


def test_16_bit_png_keeps_the_upper_byte(tmp_path: Path, picture: np.ndarray) -> None:
    deep = picture.astype(np.uint16) * 256 + 99
    np.testing.assert_array_equal(read_image(save(tmp_path, encode(".png", deep))), picture)


def test_grey_png(tmp_path: Path, picture: np.ndarray) -> None:
    image = read_image(save(tmp_path, encode(".png", picture[..., 0])))
    np.testing.assert_array_equal(image, np.repeat(picture[..., :1], 3, axis=2))


def test_16_bit_grey_png(tmp_path: Path, picture: np.ndarray) -> None:
    image = read_image(save(tmp_path, encode(".png", picture[..., 0].astype(np.uint16) * 257)))
    np.testing.assert_array_equal(image, np.repeat(picture[..., :1], 3, axis=2))


def test_rgba_png_drops_transparency(tmp_path: Path, picture: np.ndarray) -> None:
    transparent = np.dstack([picture, np.full(picture.shape[:2], 7, np.uint8)])
    np.testing.assert_array_equal(read_image(save(tmp_path, encode(".png", transparent))), picture)


# --- orientation


def test_exif_orientation(tmp_path: Path, picture: np.ndarray) -> None:
    """Applied by default and where the size says so; ignored where only the stored picture fits."""
    jpeg = encode(".jpg", picture)
    stored = read_image(save(tmp_path, jpeg, "plain.jpg"))
    path = save(tmp_path, with_orientation(jpeg, 6), "turned.jpg")
    turned = np.rot90(stored, -1)
    np.testing.assert_array_equal(read_image(path), turned)
    np.testing.assert_array_equal(read_image(path, size=(40, 60)), turned)
    np.testing.assert_array_equal(read_image(path, size=(60, 40)), stored)
    assert image_size(path) == (40, 60)


def test_orientation_that_keeps_the_size_is_obeyed(tmp_path: Path, picture: np.ndarray) -> None:
    jpeg = encode(".jpg", picture)
    stored = read_image(save(tmp_path, jpeg, "plain.jpg"))
    path = save(tmp_path, with_orientation(jpeg, 3), "upside_down.jpg")
    np.testing.assert_array_equal(read_image(path, size=(60, 40)), stored[::-1, ::-1])


def test_size_that_agrees_with_neither(tmp_path: Path, picture: np.ndarray) -> None:
    path = save(tmp_path, with_orientation(encode(".jpg", picture), 6))
    with pytest.raises(
        ImageError, match=r"image is 40x60 pixels, but its entry says 41x60; correct the entry"
    ):
        read_image(path, size=(41, 60))


# --- broken files


def noisy(progressive: bool = False) -> bytes:
    """A JPEG with several scans or restart marks, and many 0xFF bytes in its data."""
    noise = np.random.default_rng(0).integers(0, 256, (64, 96, 3)).astype(np.uint8)
    mode = (cv2.IMWRITE_JPEG_PROGRESSIVE, 1) if progressive else (cv2.IMWRITE_JPEG_RST_INTERVAL, 2)
    return encode(".jpg", noise, *mode)


@pytest.mark.parametrize("progressive", [False, True])
def test_truncated_jpeg(tmp_path: Path, progressive: bool) -> None:
    """Wherever it is cut: OpenCV alone may return a picture that is grey below the cut."""
    jpeg = noisy(progressive)
    read_image(save(tmp_path, jpeg, "whole.jpg"))
    for length in [*range(2, len(jpeg) - 1, len(jpeg) // 60), len(jpeg) - 2, len(jpeg) - 1]:
        with pytest.raises(ImageError, match=r"cut.jpg is cut short: the end of the image is missing"):
            read_image(save(tmp_path, jpeg[:length], "cut.jpg"))


@pytest.mark.parametrize("progressive", [False, True])
def test_jpeg_with_something_after_its_end(tmp_path: Path, progressive: bool) -> None:
    """Cameras append a second picture or padding; truncating the appended part does no harm."""
    jpeg = noisy(progressive)
    read_image(save(tmp_path, jpeg + b"\0" * 9))
    read_image(save(tmp_path, jpeg + jpeg[: len(jpeg) // 2]))


def test_truncated_jpeg_with_a_whole_preview_inside(tmp_path: Path) -> None:
    """The end mark of an embedded preview is not the picture's."""
    jpeg = noisy()
    preview = encode(".jpg", np.zeros((8, 8, 3), np.uint8))
    with_preview = jpeg[:2] + segment(0xE2, b"preview\0" + preview) + jpeg[2:]
    read_image(save(tmp_path, with_preview))
    with pytest.raises(ImageError, match="cut short"):
        read_image(save(tmp_path, with_preview[: len(with_preview) * 2 // 3]))


def test_truncated_png(tmp_path: Path, picture: np.ndarray) -> None:
    png = encode(".png", picture)
    read_image(save(tmp_path, png + b"appended"))
    for length in [*range(8, len(png) - 12, 13), len(png) - 12, len(png) - 1]:
        with pytest.raises(ImageError, match=r"cut.png is cut short: the end of the image is missing"):
            read_image(save(tmp_path, png[:length], "cut.png"))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", r"the file is empty"),
        (b"hello", r"unknown format"),
        (b"\xff\xd8\xff\xe0\0\4xx\xff\xd9", r"its content is broken"),
    ],
)
def test_no_image(tmp_path: Path, data: bytes, message: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(
        ImageError, match=rf"image is not an image that can be read \({message}\); replace it"
    ):
        read_image(save(tmp_path, data))
    assert capfd.readouterr().err == ""


def test_missing_image_and_folder(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"cannot read .*none.jpg: No such file"):
        read_image(tmp_path / "none.jpg")
    with pytest.raises(ImageError, match=r"cannot read .*: it is a folder"):
        read_image(tmp_path)


def test_samples_of_other_kinds_are_told_from_broken_files(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "floats.tif"), np.zeros((4, 5), np.float32))
    with pytest.raises(
        ImageError, match=r"floats.tif .*its samples are float32, but only 8 and 16 bits are supported"
    ):
        read_image(tmp_path / "floats.tif")


def test_an_image_beyond_opencvs_limit_is_not_called_broken(tmp_path: Path, monkeypatch) -> None:
    cv2.imwrite(str(tmp_path / "sound.png"), np.zeros((4, 5, 3), np.uint8))

    def refuse(data, flags):
        raise cv2.error("(-215:Assertion failed) pixels <= CV_IO_MAX_IMAGE_PIXELS in function 'validate'")

    monkeypatch.setattr(cv2, "imdecode", refuse)
    with pytest.raises(ImageError, match=r"sound.png has more pixels than OpenCV reads .*set OPENCV_IO_MAX"):
        read_image(tmp_path / "sound.png")


def test_memory_and_handles_are_not_blamed_on_the_image(tmp_path: Path, monkeypatch) -> None:
    """An image that cannot be read now for lack of memory is not skipped as broken."""
    cv2.imwrite(str(tmp_path / "sound.png"), np.zeros((4, 5, 3), np.uint8))
    path = tmp_path / "sound.png"

    def no_handle(*rest):
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr("builtins.open", no_handle)
        with pytest.raises(CtnetError, match=r"Too many open files; allow more \(`ulimit") as caught:
            read_image(path)
        assert not isinstance(caught.value, ImageError)

    def no_memory(data, flags):
        error = cv2.error("Insufficient memory")
        error.code = cv2.Error.STS_NO_MEM
        raise error

    monkeypatch.setattr(cv2, "imdecode", no_memory)
    with pytest.raises(CtnetError, match="not enough memory to decode") as caught:
        read_image(path)
    assert not isinstance(caught.value, ImageError)


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_memory_is_asked_for_before_a_large_picture_is_decoded(
    tmp_path: Path, monkeypatch, suffix: str
) -> None:
    path = tmp_path / f"large.{suffix}"
    cv2.imwrite(str(path), np.zeros((40, 50, 3), np.uint8))
    monkeypatch.setattr(images, "_LARGE", 50 * 40)
    monkeypatch.setattr(images, "available_memory", lambda: 6 * 50 * 40)
    assert read_image(path).shape == (40, 50, 3)
    monkeypatch.setattr(images, "available_memory", lambda: 6 * 50 * 40 - 1)
    with pytest.raises(ImageError, match=rf"large.{suffix} has 50x40 pixels, which need .* are free"):
        read_image(path)


# --- messages about unusual files


def pillow(path: Path, mode: str, image: np.ndarray, **how: object) -> Path:
    Image.fromarray(image).convert(mode).save(path, **how)
    return path


@pytest.mark.parametrize(
    "name",
    ["p.gif", "p.png", "l.png", "1.png", "LA.png", "1.tif", "p.tif", "CMYK.jpg", "CMYK.tif", "RGB.jp2"],
)
def test_modes_of_pictures(tmp_path: Path, picture: np.ndarray, name: str) -> None:
    mode = name.split(".")[0]
    found = read_image(pillow(tmp_path / name, mode.upper() if len(mode) == 1 else mode, picture))
    expected = np.asarray(Image.open(tmp_path / name).convert("RGB"))
    assert found.shape == picture.shape
    assert np.abs(found.astype(int) - expected).mean() < (20 if mode == "CMYK" else 3)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif", ".avif"])
def test_orientation_is_obeyed_in_every_format(tmp_path: Path, picture: np.ndarray, suffix: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    upright = read_image(pillow(tmp_path / f"plain{suffix}", "RGB", picture))
    turned = read_image(pillow(tmp_path / f"turned{suffix}", "RGB", picture, exif=exif))
    assert turned.shape == (60, 40, 3)
    assert np.abs(turned.astype(int) - np.rot90(upright, -1)).mean() < 3


@pytest.mark.parametrize(
    ("suffix", "parts"),
    [(".tif", 40), (".bmp", 40), (".webp", 40), (".ppm", 40), (".gif", 12)],
)
def test_cut_files_are_called_cut(tmp_path: Path, picture: np.ndarray, suffix: str, parts: int) -> None:
    path = pillow(tmp_path / f"whole{suffix}", "RGB", picture)
    read_image(path)
    data = path.read_bytes()
    for length in range(900 if suffix == ".gif" else 40, len(data) - 2, len(data) // parts):
        with pytest.raises(ImageError, match=r"cut\..* is .*cut short"):
            read_image(save(tmp_path, data[:length], f"cut{suffix}"))


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_deflate", "jpeg", "packbits"])
def test_cut_tiffs(tmp_path: Path, picture: np.ndarray, compression: str | None) -> None:
    path = pillow(tmp_path / "whole.tif", "RGB", picture, compression=compression)
    read_image(path)
    data = path.read_bytes()
    with pytest.raises(ImageError, match="is cut short"):
        read_image(save(tmp_path, data[: len(data) // 2], "cut.tif"))


@pytest.mark.parametrize(
    "data",
    [
        *(
            b"II+\0" + struct.pack("<HHQ", 8, 0, offset) + b"\0" * 40  # BigTIFF's first directory
            for offset in (2**62, 2**63, 2**64 - 1)
        ),
        b"II+\0" + struct.pack("<HHQ", 8, 0, 16) + b"\xff" * 40,  # a directory of 2^64 fields
        b"P5 " + b"9" * 5000 + b" 5 255\n" + b"\0" * 40,
        b"P6 5 5 " + b"9" * 5000 + b"\n" + b"\0" * 40,
        b"P5" + b" " * 5000 + b"x",  # gaps may be of many spaces
        b"P5 5" + b" \t" * 5000 + b"x",
        b"P5" + b"#\n \n" * 5000 + b"x",
    ],
)
def test_headers_beyond_reason_are_broken_images(tmp_path: Path, data: bytes) -> None:
    started = time.process_time()
    with pytest.raises(ImageError, match="image"):
        read_image(save(tmp_path, data))
    assert open_animation(tmp_path / "image") is None
    assert time.process_time() - started < 5


@pytest.mark.parametrize(
    ("kind", "said"), [("int16", "int16"), ("int32", "int32"), ("float64", "float64"), ("int8", "int8")]
)
def test_samples_without_a_scale_are_named(tmp_path: Path, kind: str, said: str) -> None:
    cv2.imwrite(str(tmp_path / "a.tif"), np.zeros((4, 5), kind))
    with pytest.raises(
        ImageError, match=rf"a.tif .*its samples are {said}, but only 8 and 16 bits are supported"
    ):
        read_image(tmp_path / "a.tif")


@pytest.mark.parametrize("suffix", [".hdr", ".pfm"])
def test_formats_of_floats_are_named(tmp_path: Path, suffix: str) -> None:
    cv2.imwrite(str(tmp_path / f"a{suffix}"), np.zeros((4, 5, 3), np.float32))
    with pytest.raises(ImageError, match="its samples are floats"):
        read_image(tmp_path / f"a{suffix}")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\0\0\0\x18ftypheic" + bytes(40), r"\(HEIC is not supported; save it as PNG or JPEG\)"),
        (b"v/1\x01" + bytes(40), "its samples are floats, as in all files of OpenEXR"),
        (b"%PDF-1.7" + bytes(40), r"\(PDF is not supported; save it as PNG or JPEG\)"),
        (b"BM" + bytes(60), r"\(its content is broken\)"),
    ],
)
def test_known_formats_are_named(tmp_path: Path, data: bytes, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        read_image(save(tmp_path, data))


@pytest.mark.parametrize("suffix", [".png", ".tif", ".pnm"])
def test_the_upper_byte_is_taken_in_every_format(tmp_path: Path, picture: np.ndarray, suffix: str) -> None:
    deep = picture.astype(np.uint16) * 256 + 200
    np.testing.assert_array_equal(read_image(save(tmp_path, encode(suffix, deep))), picture)
    grey = np.repeat(picture[..., :1], 3, axis=2)
    np.testing.assert_array_equal(read_image(save(tmp_path, encode(suffix, deep[..., 0]))), grey)


@pytest.mark.parametrize(
    ("limit", "message"),
    [
        ("PIXELS", r"more pixels than OpenCV reads \(2\^30\); set OPENCV_IO_MAX_IMAGE_PIXELS"),
        ("WIDTH", r"more columns than OpenCV reads \(2\^20\); set OPENCV_IO_MAX_IMAGE_WIDTH"),
        ("HEIGHT", r"more rows than OpenCV reads \(2\^20\); set OPENCV_IO_MAX_IMAGE_HEIGHT"),
    ],
)
def test_the_limit_that_is_exceeded_is_named(tmp_path: Path, monkeypatch, limit: str, message: str) -> None:
    cv2.imwrite(str(tmp_path / "sound.png"), np.zeros((4, 5, 3), np.uint8))

    def refuse(data, flags):
        raise cv2.error(f"Assertion failed: size <= CV_IO_MAX_IMAGE_{limit} in function 'validate'")

    monkeypatch.setattr(cv2, "imdecode", refuse)
    with pytest.raises(ImageError, match=message):
        read_image(tmp_path / "sound.png")
