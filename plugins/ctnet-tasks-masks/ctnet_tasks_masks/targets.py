"""From outlines to windows of the grid, and the channels in which a perfect network shows them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ctnet.plugin import Affine, DenseTargets, Grid, Head, Outline, RunLength, Target

#: Flags across a cell: masks are rasterised at the resolution of the input, so that a cell knows its share.
FINE = 4
#: Cells around a box that are taught to be outside, since a predicted box may be larger.
_MARGIN = 1
#: Logit of a cell that is certainly inside.
SURE = 4.0

Region = Outline | RunLength


@dataclass(frozen=True)
class MaskTargets(DenseTargets):
    """Objects' masks on the cells around their boxes, as flags of each cell's parts.

    Attributes:
        channel: (N,) int64, the channel in which ``SharedMap.render`` shows the mask.
    """

    channel: Tensor

    @classmethod
    def of_masks(
        cls, masks: Sequence[Region | None], boxes: np.ndarray, channel: np.ndarray, grid: Grid
    ) -> MaskTargets:
        """The targets of an image; an object without a mask has weight 0.

        Args:
            masks: regions of N objects, on the grid.
            boxes: (N, 4) xyxy, on the grid and within it.
            channel: (N,) int, see the class.
            grid: its size.
        """
        corners = windows(boxes, grid)
        sides = corners[:, 2:] - corners[:, :2]
        cells = [
            flags_of(mask, corner, side)
            for mask, corner, side in zip(masks, corners[:, :2], sides, strict=True)
        ]
        weight = np.array([mask is not None for mask in masks], np.float32)
        return cls.of(corners[:, :2], cells, FINE**2, weight, channel=torch.from_numpy(channel))


@dataclass(frozen=True)
class SharedMap(Head):
    """The map that all objects share; its loss is that of the masks, see ``InstanceMasks.losses``."""

    def render(self, target: Target, grid: Grid) -> Tensor:
        """Every mask in its own channel as logits: masks that share a channel have no cell in common."""
        assert isinstance(target, MaskTargets)
        cells = target.unpacked()
        canvas = torch.full((grid.batch, grid.height, grid.width, self.channels), -SURE)
        canvas = canvas.to(target.batch.device)
        logit = torch.logit(cells.value.mean(dim=1), eps=1e-6).clamp(-SURE, SURE)
        canvas[cells.batch, cells.y, cells.x, target.channel[cells.row]] = logit
        return canvas.permute(0, 3, 1, 2)


def windows(boxes: np.ndarray, grid: Grid) -> np.ndarray:
    """The cells (N, 4) int64 around boxes, with their margin: first x, y, and one after the last x, y."""
    last = [grid.width, grid.height]
    low = np.clip(np.floor(boxes[:, :2]) - _MARGIN, 0, last)
    high = np.clip(np.ceil(boxes[:, 2:]) + _MARGIN, 0, last)
    return np.concatenate([low, high], axis=1).astype(np.int64)


def flags_of(mask: Region | None, corner: np.ndarray, sides: np.ndarray) -> np.ndarray:
    """(h, w, FINE²) bool: the parts of the cells of a window that a mask covers; none without a mask.

    Args:
        mask: on the grid.
        corner, sides: (2,) int, the window's first cell (x, y), and its width and height.
    """
    width, height = (FINE * sides).tolist()
    if mask is None:
        flags = np.zeros((height, width), bool)
    else:
        x, y = (-FINE * corner).tolist()
        flags = mask.moved(Affine(np.array([[FINE, 0, x], [0, FINE, y]]))).runs(width, height).pixels
    cells = flags.reshape(height // FINE, FINE, width // FINE, FINE).transpose(0, 2, 1, 3)
    return np.asarray(cells.reshape(height // FINE, width // FINE, FINE**2))


def channels_of(boxes: np.ndarray, grid: Grid, channels: int) -> np.ndarray:
    """A channel (N,) int64 for each object's mask, -1 where none is left; where windows meet, different ones.

    Args:
        boxes: (N, 4) xyxy, on the grid and within it.
        grid: its size.
        channels: number of channels.
    """
    around = windows(boxes, grid)
    low, high = around[:, None, :2], around[:, None, 2:]
    meet = (np.maximum(low, around[None, :, :2]) < np.minimum(high, around[None, :, 2:])).all(axis=2)
    chosen = np.full(len(boxes), -1, np.int64)
    for row in range(len(boxes)):
        taken = np.zeros(channels + 1, bool)
        taken[chosen[:row][meet[row, :row]]] = True  # -1 is the last entry
        free = np.flatnonzero(~taken[:-1])
        chosen[row] = free[0] if len(free) else -1
    return chosen
