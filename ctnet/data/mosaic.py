"""Training images made of four, each in a tile of its own."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from ctnet.core.recipe import Augmentation

#: A mosaic's centre lies in this part of the input's width and height.
_MIDDLE = (0.3, 0.7)


class Tile(NamedTuple):
    """A part of the output grid, in cells."""

    x: int
    y: int
    width: int
    height: int


def mosaic_tiles(rng: np.random.Generator, width: int, height: int) -> list[Tile]:
    """Four tiles that fill a grid of at least 2x2 cells and meet in a random point of its middle."""
    column, row = (min(max(round(side * rng.uniform(*_MIDDLE)), 1), side - 1) for side in (width, height))
    return [
        Tile(x, y, tile_width, tile_height)
        for y, tile_height in ((0, row), (row, height - row))
        for x, tile_width in ((0, column), (column, width - column))
    ]


def in_a_tile(augmentation: Augmentation) -> Augmentation:
    """The augmentation of an image in a tile: all of it half as large, a part of it as large, or between."""
    low, _ = augmentation.scale or (1.0, 1.0)
    shift = augmentation.shift if augmentation.shift == "border" else max(float(augmentation.shift), 0.2)
    return replace(augmentation, scale=(low / 2, max(low / 2, 1.0)), shift=shift)
