"""The decoded images of a small data set, in memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ctnet.base.errors import CtnetError
from ctnet.base.memory import available_memory, gigabytes


@dataclass(frozen=True, eq=False)
class ImageCache:
    """Decoded images, one after the other in one block of memory.

    Forked worker processes read the block of their parent. Spawned ones (macOS, Windows) get a copy each.

    Attributes:
        pixels: (bytes,) uint8, the images' pixels.
        places: row of an image in the annotation file -> (first byte, height, width).
    """

    pixels: np.ndarray
    places: Mapping[int, tuple[int, int, int]]

    def get(self, row: int) -> np.ndarray | None:
        """(H, W, 3) uint8, RGB, read-only; None for an image that is not in memory."""
        place = self.places.get(row)
        if place is None:
            return None
        start, height, width = place
        return self.pixels[start : start + 3 * height * width].reshape(height, width, 3)


def check_room(needed: int, copies: int) -> None:
    """Refuse to keep more in memory than is free, before the system ends the process.

    Args:
        needed: bytes.
        copies: how many processes of this machine keep them.

    Raises:
        CtnetError: with the needed and the free memory.
    """
    free = available_memory()
    if free is not None and needed * copies > free:
        each = f", {gigabytes(needed)} in each of {copies} processes" if copies > 1 else ""
        raise CtnetError(
            f"keeping all images in memory needs {gigabytes(needed * copies)}{each}, but {gigabytes(free)} "
            "are free; train without --cache ram"
        )
