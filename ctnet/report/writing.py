"""Images as files: written atomically, or as bytes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ctnet.base.files import atomic_write


def write_image(path: str | Path, image: np.ndarray) -> None:
    """Write an image (H, W, 3) uint8 RGB in the format of its suffix (.jpg, .jpeg, .png).

    Raises:
        CtnetError: when the disk is full or the folder cannot be written.
    """
    path = Path(path)
    content = encoded(image, path.suffix)
    with atomic_write(path) as stream:
        stream.write(content)


def encoded(image: np.ndarray, suffix: str) -> bytes:
    """The bytes of an image file.

    Args:
        image: (H, W, 3) uint8 RGB.
        suffix: its format: .jpg, .jpeg, .png.
    """
    import cv2

    good, content = cv2.imencode(suffix, np.ascontiguousarray(image[:, :, ::-1]))
    if not good:
        raise ValueError(f"cannot encode an image of shape {image.shape} as {suffix}")
    return content.tobytes()
