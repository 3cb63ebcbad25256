"""What a program may hand in as an image: files, arrays, tensors, PIL images."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from ctnet.base.errors import CtnetError
from ctnet.core.records import ImageInfo
from ctnet.data.images import read_image

#: A path, an array, a tensor or a PIL image (which is not named, since Pillow need not be installed).
Picture = Any

_ARRAYS = "uint8 (or floats from 0 to 1) of shape (height, width), or (height, width, 1, 3 or 4)"
_TENSORS = "uint8 (or floats from 0 to 1) of shape (1, 3 or 4, height, width)"


def listed_pictures(images: Picture | Iterable[Picture]) -> list[Picture]:
    """One image or several as a list: arrays and tensors with four axes are a batch.

    Raises:
        CtnetError: for what is neither.
    """
    batch = isinstance(images, (np.ndarray, Tensor)) and images.ndim == 4
    if not batch and (isinstance(images, (str, Path, np.ndarray, Tensor)) or _is_pil(images)):
        return [images]
    if isinstance(images, (bytes, bytearray)) or not hasattr(images, "__iter__"):
        raise _unknown(images, "this")
    return list(images)


def as_rgb(picture: Picture, name: str, bgr: bool = False) -> np.ndarray:
    """An image as (H, W, 3) uint8 RGB: grey is repeated, transparency dropped.

    Args:
        picture: a file's path; an array, (H, W) or (H, W, 1, 3 or 4), uint8 or floats from 0 to 1; a tensor,
            the same with channels first; a PIL image, as its pixels are stored.
        name: what it is called in messages ("image 3").
        bgr: arrays have their channels in the order of OpenCV: blue, green, red.

    Raises:
        CtnetError: for what cannot be read, and other types and shapes.
    """
    if isinstance(picture, (str, Path)):
        return read_image(picture)
    if isinstance(picture, Tensor):
        if not 2 <= picture.ndim <= 3 or (picture.ndim == 3 and picture.shape[0] not in (1, 3, 4)):
            raise _unfit(name, picture, _TENSORS)
        values = picture.detach().cpu()
        # Half precision has no counterpart in NumPy for bfloat16.
        channels_last = (values.float() if values.is_floating_point() else values).numpy()
        return _three_channels(
            np.moveaxis(channels_last, 0, -1) if picture.ndim == 3 else channels_last, name
        )
    if _is_pil(picture):
        # Deep greys ("I;16", "F") are converted by cutting values off, so they are refused as what they are.
        plain = picture if picture.mode.startswith(("I", "F")) else picture.convert("RGB")
        return _three_channels(np.asarray(plain), name)
    if isinstance(picture, np.ndarray):
        image = _three_channels(picture, name)
        return np.ascontiguousarray(image[:, :, ::-1]) if bgr else image
    raise _unknown(picture, name)


def opened(
    picture: Picture, position: int, record: Mapping[str, Any], bgr: bool = False
) -> tuple[np.ndarray, ImageInfo]:
    """An image that was handed in, and what is known of it.

    Args:
        picture, bgr: see ``as_rgb``.
        position: among those handed in together.
        record: what a COCO file would say of it.
    """
    image = as_rgb(picture, f"image {position}", bgr)
    # A PIL image that was opened from a file knows its name.
    name = picture if isinstance(picture, (str, Path)) else getattr(picture, "filename", "")
    height, width = image.shape[:2]
    return image, ImageInfo(position, str(name), width, height, record)


def _is_pil(value: Any) -> bool:
    """Whether it is a PIL image; there is none as long as nobody has imported Pillow."""
    pillow = sys.modules.get("PIL.Image")
    return pillow is not None and isinstance(value, pillow.Image)


def _three_channels(array: np.ndarray, name: str) -> np.ndarray:
    image = array[:, :, None] if array.ndim == 2 else array
    if image.ndim != 3 or image.shape[2] not in (1, 3, 4) or 0 in image.shape:
        raise _unfit(name, array, _ARRAYS)
    if np.issubdtype(image.dtype, np.floating):
        if not (image.min() >= 0 and image.max() <= 1):  # NaN is neither
            raise CtnetError(
                f"{name} holds floats from {image.min():g} to {image.max():g}; floats must lie from 0 to 1: "
                "scale them, or convert the image to uint8"
            )
        image = np.round(np.asarray(image, np.float64) * 255).astype(np.uint8)
    if image.dtype != np.uint8:
        raise _unfit(name, array, _ARRAYS)
    three = np.repeat(image, 3, axis=2) if image.shape[2] == 1 else image[:, :, :3]
    return np.ascontiguousarray(three)


def _unfit(name: str, image: np.ndarray | Tensor, wanted: str) -> CtnetError:
    kind = "a tensor" if isinstance(image, Tensor) else "an array"
    dtype = str(image.dtype).removeprefix("torch.")
    return CtnetError(f"{name} is {kind} of {dtype} {tuple(image.shape)}; it must be {wanted}")


def _unknown(value: Any, name: str) -> CtnetError:
    return CtnetError(
        f"{name} is of type {type(value).__name__}, not an image; give a path, an array, a tensor or a PIL image, "
        "or a list of them"
    )
