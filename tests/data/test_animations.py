from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from ctnet.data.animations import open_animation
from ctnet.data.images import ImageError, read_image

COLOURS = [(200, 0, 0), (0, 160, 0), (0, 0, 240), (90, 90, 90)]


def pictures(count: int = 4, side: int = 24) -> list[Image.Image]:
    return [Image.new("RGB", (side + 8, side), COLOURS[number]) for number in range(count)]


def save(path: Path, images: list[Image.Image], **how: object) -> Path:
    images[0].save(path, save_all=True, append_images=images[1:], **how)
    return path


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("a.gif", {"duration": 50}),
        ("a.webp", {"duration": 50, "lossless": True}),
        ("a.png", {"duration": 50}),
        ("A.APNG", {"duration": 50, "format": "PNG"}),
        ("a.tif", {}),
        ("a.TIFF", {"compression": "tiff_lzw"}),
        ("big.tif", {"big_tiff": True}),
    ],
)
def test_every_picture_is_a_frame(tmp_path: Path, name: str, how: dict) -> None:
    path = save(tmp_path / name, pictures(), **how)
    animation = open_animation(path)
    assert animation is not None
    assert (animation.length, animation.rate) == (4, 0 if "tif" in name.lower() else 20)
    for number, found in enumerate(animation):
        assert isinstance(found, np.ndarray)
        assert (found.shape, found.dtype) == ((24, 32, 3), np.uint8)
        np.testing.assert_allclose(found, np.broadcast_to(COLOURS[number], found.shape), atol=2)
    np.testing.assert_allclose(read_image(path), np.broadcast_to(COLOURS[0], (24, 32, 3)), atol=2)


@pytest.mark.parametrize("name", ["a.gif", "a.webp", "a.png", "a.tif", "a.jpg", "a.bmp"])
def test_a_single_picture_is_not_an_animation(tmp_path: Path, name: str) -> None:
    pictures(1)[0].save(tmp_path / name)
    assert open_animation(tmp_path / name) is None


@pytest.mark.parametrize("data", [b"", b"GIF8", b"GIF89a", b"RIFF\0\0\0\0WEBPVP8X", b"II*\0", b"II*\0\1"])
def test_what_is_broken_at_its_start_is_left_to_the_reader_of_images(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a").write_bytes(data)
    assert open_animation(tmp_path / "a") is None
    assert open_animation(tmp_path / "gone") is None
    assert open_animation(tmp_path) is None


def test_frames_are_drawn_over_each_other(tmp_path: Path) -> None:
    """A GIF stores what changes; the whole picture is shown, also where it is transparent."""
    first = Image.new("RGBA", (40, 30), (250, 250, 0, 255))
    second = Image.new("RGBA", (40, 30), (0, 0, 0, 0))
    second.paste((0, 0, 250, 255), (10, 10, 20, 20))
    animation = open_animation(save(tmp_path / "a.gif", [first, second], disposal=1, duration=100))
    assert animation is not None
    _, frame = animation
    assert isinstance(frame, np.ndarray)
    np.testing.assert_allclose(frame[15, 15], (0, 0, 250), atol=8)
    np.testing.assert_allclose(frame[2, 2], (250, 250, 0), atol=8)


@pytest.mark.parametrize("name", ["a.gif", "a.png"])
def test_a_cut_animation_gives_what_is_there(tmp_path: Path, name: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (4, 40, 60, 3)).astype(np.uint8)
    path = save(tmp_path / name, [Image.fromarray(image) for image in noise], duration=100)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 5 // 8])
    found = list(open_animation(path) or [])
    assert [isinstance(one, np.ndarray) for one in found][:2] == [True, True]
    assert all(isinstance(one, ImageError) for one in found[3:])
    if isinstance(found[-1], ImageError):
        assert "cannot be read; is the file whole?" in str(found[-1])


def test_pages_of_any_size_and_depth(tmp_path: Path) -> None:
    path = tmp_path / "scan.tif"
    deep = np.full((30, 20), 77 * 256 + 5, np.uint16)
    cv2.imwritemulti(str(path), [np.full((10, 12, 3), 5, np.uint8), deep, np.zeros((8, 9), np.float32)])
    one, two, three = open_animation(path) or []
    assert isinstance(one, np.ndarray)
    assert one.shape == (10, 12, 3)
    assert isinstance(two, np.ndarray)
    assert (two == 77).all()
    assert two.shape == (30, 20, 3)
    assert "scan.tif, page 3, is not an image that can be read (its samples are float32" in str(three)


def test_smaller_copies_of_a_page_are_not_pages(tmp_path: Path) -> None:
    """Pyramids and thumbnails state that they are reduced (tag 254)."""
    first, second = pictures(2)
    second.encoderinfo = {"tiffinfo": {254: 1}}
    save(tmp_path / "a.tif", [first, second])
    assert open_animation(tmp_path / "a.tif") is None


def test_a_cut_page_is_named(tmp_path: Path) -> None:
    path = save(tmp_path / "a.tif", pictures())
    data = bytearray(path.read_bytes())
    animation = open_animation(path)
    assert animation is not None
    from ctnet.data import tiff

    last = tiff.pages(bytes(data))[-1]
    at = data.index((273).to_bytes(2, "little"), last.offset)
    data[at + 8 : at + 12] = len(data).to_bytes(4, "little")  # its strip begins where the file ends
    path.write_bytes(data)
    found = list(animation)
    assert [isinstance(one, ImageError) for one in found] == [False, False, False, True]
    assert "a.tif, page 4, is cut short" in str(found[3])


def test_a_chain_of_pages_that_is_a_cycle_ends(tmp_path: Path) -> None:
    from ctnet.data import tiff

    path = save(tmp_path / "a.tif", pictures(2))
    data = bytearray(path.read_bytes())
    first, second = tiff.pages(bytes(data))
    entries = int.from_bytes(data[second.offset : second.offset + 2], "little")
    at = second.offset + 2 + 12 * entries
    data[at : at + 4] = first.offset.to_bytes(4, "little")
    assert len(tiff.pages(bytes(data))) == 2
