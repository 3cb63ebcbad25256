"""Writing images atomically."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ctnet.base.files import atomic_write


def write_image(path: str | Path, image: np.ndarray) -> None:
    """Write an image (H, W, 3) uint8 RGB in the format of its suffix (.jpg, .jpeg, .png).

    Raises:
        CtnetError: when the disk is full or the folder cannot be written.
    """
    import cv2

    path = Path(path)
    good, encoded = cv2.imencode(path.suffix, np.ascontiguousarray(image[:, :, ::-1]))
    if not good:
        raise ValueError(f"cannot encode an image of shape {image.shape} as {path.suffix}")
    with atomic_write(path) as stream:
        stream.write(encoded.tobytes())
