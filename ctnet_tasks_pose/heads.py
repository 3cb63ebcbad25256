"""The heads of joints, with their behaviour under mirroring."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ctnet.plugin import CellTargets, Grid, Heatmap, Regression, Target, constant


@dataclass(frozen=True)
class JointHeatmap(Heatmap):
    """One heatmap per joint of the skeleton, shared by all persons.

    Attributes:
        mirrored: for each channel, the index of its mirror image.
    """

    mirrored: tuple[int, ...] = ()

    def mirror(self, activated: Tensor) -> Tensor | None:
        return activated.flip(-1).index_select(1, constant(self.mirrored, activated, torch.int64))


@dataclass(frozen=True)
class PersonValues(Regression):
    """Values at the cells of persons' centres, some of which are known but not trained (weight 0)."""

    def render(self, target: Target, grid: Grid) -> Tensor:
        assert isinstance(target, CellTargets)
        canvas = super().render(target, grid)
        # At its own cell every person has its own values, not those of the nearest one with weight.
        canvas[target.batch, :, target.y, target.x] = target.value
        return canvas


@dataclass(frozen=True)
class JointOffsets(PersonValues):
    """Offsets (x, y) of every joint from the cell of its person's centre; 0 for one that is not labelled.

    Attributes:
        mirrored: for each joint, the index of its mirror image.
    """

    mirrored: tuple[int, ...] = ()

    def mirror(self, activated: Tensor) -> Tensor | None:
        flipped = activated.flip(-1)
        order = constant(self.mirrored, flipped, torch.int64)
        across, down = (flipped[:, axis::2].index_select(1, order) for axis in (0, 1))
        return torch.stack([-across, down], dim=2).flatten(1, 2)
