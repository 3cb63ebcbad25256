"""Large images in tiles: how they lie, and cutting them out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ctnet.base.errors import CtnetError
from ctnet.core.geometry import Affine, View
from ctnet.core.records import ImageInfo

#: Default overlap of neighbouring tiles, pixels; what it costs in accuracy is measured in docs/tiles.md.
OVERLAP = 128


@dataclass(frozen=True)
class Span:
    """A tile along one axis, pixels of the canvas.

    Attributes:
        start, stop: what the network sees.
        first, last: the part that the tile owns, ``last`` excluded; the parts of all tiles cover the canvas
            once.
    """

    start: int
    stop: int
    first: int
    last: int


@dataclass(frozen=True)
class Tile:
    """A tile: its spans along both axes."""

    x: Span
    y: Span


@dataclass(frozen=True)
class Tiling:
    """How images are divided into tiles.

    Attributes:
        side: side of a tile, pixels; a multiple of the network's divisor.
        halo: pixels beyond its own part that a tile shows on each side, where the image goes on; a multiple
            of the divisor.
    """

    side: int
    halo: int

    def spans(self, length: int) -> list[Span]:
        """The tiles along a canvas of this length, from first to last.

        All start at multiples of the divisor, as the network's maps would otherwise shift. The last one ends
        with the canvas, so that all have the same side; a shorter canvas is one tile.
        """
        if length <= self.side:
            return [Span(0, length, 0, length)]
        step = self.side - 2 * self.halo
        spans: list[Span] = []
        first = 0
        while first < length:
            start = min(len(spans) * step, length - self.side)
            stop = start + self.side
            last = length if stop == length else stop - self.halo
            spans.append(Span(start, stop, first, last))
            first = last
        return spans

    def tiles(self, width: int, height: int) -> list[Tile]:
        """The tiles of a canvas, row by row."""
        columns = self.spans(width)
        return [Tile(x, y) for y in self.spans(height) for x in columns]


@dataclass(frozen=True)
class Canvas:
    """One image as ``Preprocessor`` with "keep" lays it into the input, without the black border.

    Attributes:
        affine: image pixels -> canvas pixels.
        info: identity and size of the image.
        input: (h, w, 3) uint8, RGB: the image at its scale.
        corner: (x, y) of its top left pixel on the canvas.
        size: (width, height) of the canvas, multiples of the divisor.
    """

    affine: Affine
    info: ImageInfo
    input: np.ndarray
    corner: tuple[int, int]
    size: tuple[int, int]

    def view(self, stride: int) -> View:
        """The view of the image for an output grid with this many canvas pixels per cell."""
        return View.through(self.info, self.affine, stride)

    def cut(self, tile: Tile) -> np.ndarray:
        """The pixels of a tile: (H, W, 3) uint8, black outside the image."""
        height, width = self.input.shape[:2]
        x, y = self.corner
        left, right = (min(max(edge - x, 0), width) for edge in (tile.x.start, tile.x.stop))
        top, bottom = (min(max(edge - y, 0), height) for edge in (tile.y.start, tile.y.stop))
        cut = np.zeros((tile.y.stop - tile.y.start, tile.x.stop - tile.x.start, 3), np.uint8)
        if left < right and top < bottom:
            row, column = top + y - tile.y.start, left + x - tile.x.start
            cut[row : row + bottom - top, column : column + right - left] = self.input[top:bottom, left:right]
        return cut


def tiling_of(side: int, overlap: int, divisor: int, network: str) -> Tiling:
    """A tiling for a network.

    Args:
        side: side of a tile, pixels.
        overlap: pixels that neighbouring tiles share; half of it is the halo of each.
        divisor: the network's.
        network: its name, for messages.

    Raises:
        CtnetError: for numbers that do not fit the divisor, and tiles that would own nothing.
    """
    if side <= 0 or side % divisor:
        fitting = max(divisor, -(-side // divisor) * divisor)
        raise CtnetError(
            f"--tiles {side} does not fit {network}: sides are multiples of {divisor}; the next is {fitting}"
        )
    if overlap < 0 or overlap % (2 * divisor):
        fitting = max(0, -(-overlap // (2 * divisor)) * 2 * divisor)
        raise CtnetError(
            f"--overlap {overlap} does not fit {network}: overlaps are multiples of {2 * divisor}; "
            f"the next is {fitting}"
        )
    if overlap >= side:
        raise CtnetError(
            f"tiles of {side} pixels that overlap by {overlap} have no part of their own; "
            f"use --tiles {overlap + divisor} or more, or a smaller --overlap"
        )
    return Tiling(side, overlap // 2)
