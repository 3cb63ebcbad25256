"""A Head: one dense output map and everything that the engine needs to know about it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from ctnet import heatmap
from ctnet.core.losses import Loss
from ctnet.core.targets import CellTargets, Grid, Peaks, Target

RegressionLoss = Literal["l1", "smooth_l1", "normalized_l1", "giou"]

_LOSSES: dict[str, Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]] = {
    "l1": heatmap.l1_loss,
    "smooth_l1": heatmap.smooth_l1_loss,
    "normalized_l1": heatmap.normalized_l1_loss,
    "giou": heatmap.concentric_giou_loss,
}

#: -log((1 - p) / p) for p = 0.1: an untrained heatmap starts at a low probability (RetinaNet's prior).
HEATMAP_BIAS = -2.19


@dataclass(frozen=True)
class Head:
    """One dense output map. Subclass it for a new kind of output; the engine uses nothing else.

    Attributes:
        channels: channels of the map.
        weight: factor of its loss (lambda in the paper).
        bias: initial bias of its last convolution.
        twin: the head that this one becomes under mirroring (left ends, right ends); "" for itself.
        released: its name in the authors' release; "" for none.
        lag: for each channel, by how many cells values of ``mirror`` are too small in an image whose points
            have integer coordinates, or () for none. There, cells and points are mirrored by their
            coordinates, so that a cell's middle is not mirrored onto a middle. In real images, where points
            lie anywhere, it is close to 0.
    """

    lag: ClassVar[tuple[float, ...]] = ()

    channels: int
    weight: float = 1.0
    bias: float = 0.0
    twin: str = ""
    released: str = ""

    def activate(self, raw: Tensor) -> Tensor:
        """Apply the activation to the raw map (B, C, H, W); the identity unless overridden."""
        return raw

    def loss(self, predicted: Tensor, target: Target) -> Loss:
        """The loss as a sum, and its count; finite under autocast and without any object.

        It is computed in the dtype of ``predicted``, or float32 for half precision.

        Args:
            predicted: raw values, before the activation, as the target reads them: the whole map
                (B, C, H, W) for ``Peaks`` and ``DenseTargets``, the values (M, C) at the cells of
                ``CellTargets``.
            target: target of the whole batch, on the same device.
        """
        raise TypeError(f"{type(self).__name__} must define loss(predicted, target)")

    def mirror(self, activated: Tensor) -> Tensor | None:
        """This activated map as seen on the mirrored input; None where it cannot be averaged with it."""
        return None

    def soften(self, target: Target, seen: Tensor, share: float) -> Target:
        """A target that follows a teacher in part; unchanged unless overridden.

        Args:
            target: target of the whole batch; the count of its loss must stay the same.
            seen: the teacher's activated map (B, C, H, W) of the same images.
            share: the teacher's part, from 0 to 1.
        """
        return target

    def render(self, target: Target, grid: Grid) -> Tensor:
        """The activated map (grid.batch, C, grid.height, grid.width) of a perfect network."""
        raise TypeError(f"{type(self).__name__} must define render(target, grid)")


@dataclass(frozen=True)
class Heatmap(Head):
    """Probability that a cell is a keypoint of each class: focal loss on Gaussian targets (``Peaks``)."""

    bias: float = HEATMAP_BIAS

    def activate(self, raw: Tensor) -> Tensor:
        return raw.sigmoid()

    def loss(self, predicted: Tensor, target: Target) -> Loss:
        assert isinstance(target, Peaks)
        return Loss(*heatmap.focal_loss(predicted, target.draw(predicted.shape)))

    def mirror(self, activated: Tensor) -> Tensor | None:
        return activated.flip(-1)

    def soften(self, target: Target, seen: Tensor, share: float) -> Target:
        """Where the teacher sees something, the penalty is reduced; positives stay what is annotated."""
        assert isinstance(target, Peaks)
        soft = (share * seen).clamp(max=heatmap.SOFT_PEAK)
        return replace(target, soft=soft if target.soft is None else target.soft.maximum(soft))

    def render(self, target: Target, grid: Grid) -> Tensor:
        assert isinstance(target, Peaks)
        return target.draw((grid.batch, self.channels, grid.height, grid.width))


@dataclass(frozen=True)
class Regression(Head):
    """Values read at objects' pixels (``CellTargets``).

    Attributes:
        kind: the loss; "l1" is the paper's.
        symmetric: True where the values do not change on the mirrored input (a size, but not an offset), so
            that flip testing may average them.
    """

    kind: RegressionLoss = "l1"
    symmetric: bool = False

    def loss(self, predicted: Tensor, target: Target) -> Loss:
        assert isinstance(target, CellTargets)
        return Loss(*_LOSSES[self.kind](predicted, target.value, target.weight))

    def mirror(self, activated: Tensor) -> Tensor | None:
        return activated.flip(-1) if self.symmetric else None

    def soften(self, target: Target, seen: Tensor, share: float) -> Target:
        return blend(target, seen, share)

    def render(self, target: Target, grid: Grid) -> Tensor:
        assert isinstance(target, CellTargets)
        return fill_nearest(target, grid)


@dataclass(frozen=True)
class BoxDistances(Head):
    """Distances from a cell's middle to the left, upper, right and lower edge of a box (``CellTargets``).

    Attributes:
        kind: the loss, 1 minus GIoU or CIoU.
        unit: cells for a raw value of 1. Sizes are tens of cells, and raw values are small at the start of a
            training.
    """

    channels: int = 4
    kind: Literal["giou", "ciou"] = "giou"
    unit: float = 8.0

    lag: ClassVar = (1.0, 0.0, -1.0, 0.0)
    #: How the distances change from a cell to the next one in x and in y, see ``CellTargets.dense``.
    STEPS: ClassVar = ((1, 0), (0, 1), (-1, 0), (0, -1))

    def activate(self, raw: Tensor) -> Tensor:
        return raw * self.unit

    def loss(self, predicted: Tensor, target: Target) -> Loss:
        assert isinstance(target, CellTargets)
        distances = self.activate(heatmap.full_precision(predicted))
        return Loss(*heatmap.box_iou_loss(distances, target.value, target.weight, self.kind))

    def mirror(self, activated: Tensor) -> Tensor | None:
        return activated.flip(-1)[:, [2, 1, 0, 3]]

    def soften(self, target: Target, seen: Tensor, share: float) -> Target:
        return blend(target, seen, share)

    def render(self, target: Target, grid: Grid) -> Tensor:
        assert isinstance(target, CellTargets)
        return fill_nearest(target, grid)

    @staticmethod
    def of(boxes: np.ndarray, cells: np.ndarray) -> np.ndarray:
        """The distances (N, 4) of boxes (N, 4) xyxy on the grid from the middles of cells (N, 2)."""
        middle = np.concatenate([cells, cells], axis=1) + 0.5
        return ((boxes - middle) * [-1, -1, 1, 1]).astype(np.float32)


def blend(target: Target, seen: Tensor, share: float) -> Target:
    """Cell targets whose values are partly a teacher's, see ``Head.soften``."""
    assert isinstance(target, CellTargets)
    return replace(target, value=torch.lerp(target.value, target.gather(seen).to(target.value.dtype), share))


def mirror_maps(heads: Mapping[str, Head], maps: Mapping[str, Tensor]) -> dict[str, Tensor | None]:
    """Activated maps as seen on the mirrored input, by head; None for one that must not be averaged.

    Args:
        heads: by name.
        maps: (B, C, H, W) by head, of all heads.
    """
    twins = {name: head.twin or name for name, head in heads.items()}
    return {name: heads[twin].mirror(maps[twin]) for name, twin in twins.items()}


def fill_nearest(samples: CellTargets, grid: Grid) -> Tensor:
    """A dense map whose cells carry the value of the nearest sample of their image.

    Entries of weight 0 are ignored in their channel; a channel without samples stays 0.

    Args:
        samples: targets of ``grid.batch`` images.
        grid: size of the map.

    Returns:
        (B, D, H, W) float32.

    Source: appendix E, ground truth in place of a regression head's output.
    """
    depth = samples.value.shape[1]
    device = samples.value.device
    canvas = torch.zeros(grid.batch, depth, grid.height, grid.width, device=device)
    rows = torch.arange(grid.height, device=device)
    columns = torch.arange(grid.width, device=device)
    for image in range(grid.batch):
        mine = samples.batch == image
        if not mine.any():
            continue
        across = (columns[None, :] - samples.x[mine][:, None]) ** 2
        down = (rows[None, :] - samples.y[mine][:, None]) ** 2
        value, counts = samples.value[mine], samples.weight[mine] > 0
        # Channels with the same rows share one search: usually that is all of them.
        patterns, which = torch.unique(counts, dim=1, return_inverse=True)
        for index, pattern in enumerate(patterns.T):
            if not pattern.any():
                continue
            channels = which == index
            nearest = _nearest(down[pattern], across[pattern])
            canvas[image, channels] = value[pattern][:, channels].T[:, nearest]
    return canvas


def _nearest(down: Tensor, across: Tensor) -> Tensor:
    """Index of the nearest of N samples for each cell, the first on ties: (H, W) int64.

    Args:
        down: (N, H) int64, squared distances of rows from the samples'.
        across: (N, W) int64, those of columns.
    """
    # Samples are compared one by one with the best so far: filling and searching a table of N distances per
    # cell is several times as slow.
    down, across = down.int(), across.int()
    best = down[0, :, None] + across[0]
    nearest = torch.zeros_like(best)
    for row in range(1, len(down)):
        distance = down[row, :, None] + across[row]
        nearest.masked_fill_(distance < best, row)
        torch.minimum(best, distance, out=best)
    return nearest.long()
