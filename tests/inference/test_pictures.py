from __future__ import annotations

import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from ctnet.base.errors import CtnetError
from ctnet.inference.pictures import as_rgb, listed_pictures, opened


@pytest.fixture
def rgb(random_image) -> np.ndarray:
    return random_image(5, 4)


def kinds(rgb: np.ndarray, folder: Path) -> dict[str, tuple[object, bool]]:
    """One image in every lossless form, and whether its channels are in OpenCV's order."""
    alpha = np.full((*rgb.shape[:2], 1), 7, np.uint8)
    rgba = np.concatenate([rgb, alpha], axis=2)
    path = folder / "image.png"
    cv2.imwrite(str(path), rgb[:, :, ::-1])
    tensor = torch.from_numpy(rgb).permute(2, 0, 1)
    return {
        "path": (path, False),
        "text": (str(path), False),
        "rgb": (rgb, False),
        "rgba": (rgba, False),
        "floats": (rgb / 255, False),
        "half": ((rgb / 255).astype(np.float32), False),
        "bgr": (rgb[:, :, ::-1], True),
        "bgra": (np.concatenate([rgb[:, :, ::-1], alpha], axis=2), True),
        "tensor": (tensor, False),
        "tensor of floats": (tensor / 255, False),
        "tensor with gradient": ((tensor / 255).requires_grad_(), False),
        "pil": (Image.fromarray(rgb), False),
        "pil with transparency": (Image.fromarray(rgba), False),
        "opened by pil": (Image.open(path), False),
    }


def test_every_kind_of_image_is_the_same(rgb: np.ndarray, tmp_path: Path) -> None:
    for kind, (picture, bgr) in kinds(rgb, tmp_path).items():
        image = as_rgb(picture, "image 0", bgr)
        np.testing.assert_array_equal(image, rgb, err_msg=kind)
        assert (image.dtype, image.flags.c_contiguous) == (np.uint8, True), kind


def test_grey_is_repeated(rgb: np.ndarray) -> None:
    grey = rgb[:, :, 0]
    expected = np.repeat(grey[:, :, None], 3, axis=2)
    tensors = (torch.from_numpy(np.ascontiguousarray(grey)), torch.from_numpy(grey[None].copy()))
    for picture in (grey, grey[:, :, None], Image.fromarray(grey), *tensors):
        np.testing.assert_array_equal(as_rgb(picture, "image 0"), expected)
    bits = as_rgb(Image.fromarray(grey > 127), "image 0")
    np.testing.assert_array_equal(bits, np.where(expected > 127, 255, 0))


def test_one_or_many(rgb: np.ndarray) -> None:
    tensor, pil = torch.zeros(3, 4, 5), Image.fromarray(rgb)
    for one in (rgb, rgb[:, :, 0], tensor, pil, "a.png", Path("a.png")):
        [same] = listed_pictures(one)
        assert same is one
    batch = np.stack([rgb, rgb[::-1]])
    for many in (batch, torch.from_numpy(batch), [rgb, rgb], (rgb, pil), iter([rgb, "a.png"])):
        assert len(listed_pictures(many)) == 2
    assert listed_pictures([]) == []


ARRAY = "it must be uint8 (or floats from 0 to 1) of shape (height, width), or (height, width, 1, 3 or 4)"
TENSOR = "it must be uint8 (or floats from 0 to 1) of shape (1, 3 or 4, height, width)"


@pytest.mark.parametrize(
    ("picture", "message"),
    [
        (np.zeros((3, 40, 50), np.uint8), f"an array of uint8 (3, 40, 50); {ARRAY}"),
        (np.zeros((40, 50, 3), np.uint16), f"an array of uint16 (40, 50, 3); {ARRAY}"),
        (np.zeros((2, 40, 50, 3), np.uint8), f"an array of uint8 (2, 40, 50, 3); {ARRAY}"),
        (np.zeros((0, 50, 3), np.uint8), f"an array of uint8 (0, 50, 3); {ARRAY}"),
        (np.zeros(5, np.uint8), f"an array of uint8 (5,); {ARRAY}"),
        (Image.fromarray(np.zeros((4, 5), np.uint16)), f"an array of uint16 (4, 5); {ARRAY}"),
        (torch.zeros(40, 50, 3), f"a tensor of float32 (40, 50, 3); {TENSOR}"),
        (torch.zeros(5), f"a tensor of float32 (5,); {TENSOR}"),
        (np.full((4, 5, 3), 255.0), "holds floats from 255 to 255; floats must lie from 0 to 1"),
        (np.full((4, 5), np.nan), "holds floats from nan to nan; floats must lie from 0 to 1"),
        (torch.full((3, 4, 5), -1.0), "holds floats from -1 to -1"),
        (
            7,
            "is of type int, not an image; give a path, an array, a tensor or a PIL image, or a list of them",
        ),
        (b"GIF", "is of type bytes, not an image"),
    ],
)
def test_other_kinds_are_refused(detector, random_image, picture, message: str) -> None:
    with pytest.raises(CtnetError, match=rf"^image 1 .*{re.escape(message)}"):
        detector([random_image(40, 50), picture])


@pytest.mark.parametrize("value", [7, b"GIF", None])
def test_what_is_neither_one_image_nor_many(detector, value) -> None:
    with pytest.raises(CtnetError, match=r"^this is of type \w+, not an image"):
        detector(value)


def test_the_name_of_a_file_is_known(rgb: np.ndarray, tmp_path: Path) -> None:
    pictures = kinds(rgb, tmp_path)
    path = str(tmp_path / "image.png")
    for kind, expected in (("path", path), ("text", path), ("opened by pil", path), ("rgb", ""), ("pil", "")):
        image, info = opened(pictures[kind][0], 3, {"a": 1})
        assert (info.image_id, info.file_name, info.width, info.height) == (3, expected, 5, 4)
        assert info.record == {"a": 1}
        np.testing.assert_array_equal(image, rgb)
