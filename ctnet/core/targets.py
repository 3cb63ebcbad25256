"""Ragged training targets: one row per object, no padding, no limit on their number."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from typing_extensions import Self

from ctnet.heatmap.gaussian import draw_gaussians


class Grid(NamedTuple):
    """The output grid's size in cells, and the number of images."""

    height: int
    width: int
    batch: int = 1


class _Ragged:
    """Rows of several images in columns of equal length; ``batch`` is the image that a row belongs to."""

    batch: Tensor

    def __len__(self) -> int:
        return len(self.batch)

    def to(self, device: torch.device | str) -> Self:
        """The same rows on another device, copied asynchronously where the source is pinned."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=True))

    def columns(self) -> list[Tensor]:
        """All columns, in the order of their fields."""
        values = (getattr(self, field.name) for field in dataclasses.fields(self))  # type: ignore[arg-type]
        return [value for value in values if isinstance(value, Tensor)]

    def with_columns(self, columns: Iterable[Tensor]) -> Self:
        """The same rows with other tensors for the columns, such as copies on another device.

        Args:
            columns: in the order of ``columns``; of an iterator, only these are taken.
        """
        others = iter(columns)
        return self._map(lambda _: next(others))

    def moved(self, x: int, y: int) -> Self:
        """The same rows at other cells of a larger grid: ``x`` columns to the right, ``y`` rows down."""
        places: dict[str, Any] = {"x": self.x + x, "y": self.y + y}  # type: ignore[attr-defined]
        return dataclasses.replace(self, **places)  # type: ignore[type-var]

    @classmethod
    def collate(cls, parts: Sequence[Self]) -> Self:
        """Join the targets of single images into those of a batch; part ``i`` becomes image ``i``."""
        lengths = torch.tensor([len(part) for part in parts])
        first = {"batch": torch.repeat_interleave(torch.arange(len(parts)), lengths)}
        names = [field.name for field in dataclasses.fields(cls) if field.name != "batch"]  # type: ignore[arg-type]
        columns = {name: _joined([getattr(part, name) for part in parts]) for name in names}
        return cls(**first, **columns)

    def _map(self, change) -> Self:  # type: ignore[no-untyped-def]
        columns = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)  # type: ignore[arg-type]
        }
        changed = {
            key: change(value) if isinstance(value, Tensor) else value for key, value in columns.items()
        }
        return type(self)(**changed)


def _joined(columns: Sequence[Any]) -> Tensor | int | None:
    """Tensors are concatenated; plain counts are added up; what single images do not have stays None."""
    if columns[0] is None:
        return None
    if isinstance(columns[0], int):
        return int(sum(columns))
    joined: Tensor = torch.cat(list(columns))
    return joined


@dataclass(frozen=True)
class Peaks(_Ragged):
    """Targets of a heatmap: one Gaussian per row.

    Attributes:
        batch: (N,) int64, index of the image in the batch.
        x, y: (N,) float32, the point on the output grid; its integer part is the peak's pixel.
        radius: (N,) int64, radius of the Gaussian in cells.
        channel: (N,) int64, the heatmap's channel.
        positive: (N,) bool; False reduces the penalty around the point without making it a positive.
        cells: the total number of cells of all Gaussians, known on the host so that rendering on a GPU need
            not wait for it.
        soft: (B, C, H, W) in [0, 1), of a whole batch: cells whose penalty is reduced besides, as a Gaussian
            of this value would; None for none. See ``Task.taught``.
    """

    batch: Tensor
    x: Tensor
    y: Tensor
    radius: Tensor
    channel: Tensor
    positive: Tensor
    cells: int
    soft: Tensor | None = None

    @classmethod
    def of(
        cls,
        points: np.ndarray,
        radius: np.ndarray,
        channel: np.ndarray,
        positive: np.ndarray | None = None,
    ) -> Peaks:
        """The peaks of one image, from arrays.

        Args:
            points: (N, 2) float, (x, y) on the output grid.
            radius: (N,) int, cells.
            channel: (N,) int.
            positive: (N,) bool; all True when left out.
        """
        points = np.asarray(points, np.float32).reshape(-1, 2)
        radius = np.asarray(radius, np.int64)
        if positive is None:
            positive = np.ones(len(points), bool)
        return cls(
            batch=torch.zeros(len(points), dtype=torch.int64),
            x=torch.from_numpy(np.ascontiguousarray(points[:, 0])),
            y=torch.from_numpy(np.ascontiguousarray(points[:, 1])),
            radius=torch.from_numpy(radius),
            channel=torch.from_numpy(np.asarray(channel, np.int64)),
            positive=torch.from_numpy(np.asarray(positive, bool)),
            cells=int(((2 * radius + 1) ** 2).sum()),
        )

    def draw(self, shape: Sequence[int]) -> Tensor:
        """The heatmap (B, C, H, W) that is taught: Gaussians, and ``soft`` where it is larger."""
        drawn = draw_gaussians(self, shape)
        return drawn if self.soft is None else drawn.maximum(self.soft)


@dataclass(frozen=True)
class CellTargets(_Ragged):
    """Targets of a dense map at single pixels.

    Attributes:
        batch: (M,) int64, index of the image in the batch.
        x, y: (M,) int64, pixel on the output grid.
        value: (M, D) float32, the targets of the map's D channels.
        weight: (M, D) float32, how much each value counts; 0 masks it.
        images: number of images of the batch, those without rows included.
    """

    batch: Tensor
    x: Tensor
    y: Tensor
    value: Tensor
    weight: Tensor
    images: int

    @classmethod
    def of(cls, pixels: np.ndarray, value: np.ndarray, weight: np.ndarray | None = None) -> CellTargets:
        """The targets of one image, from arrays.

        Args:
            pixels: (M, 2) int, (x, y) on the output grid.
            value: (M, D) float.
            weight: (M, D) float; ones when left out.
        """
        pixels = np.asarray(pixels, np.int64).reshape(-1, 2)
        value = np.asarray(value, np.float32)
        weight = np.ones_like(value) if weight is None else np.asarray(weight, np.float32)
        return cls(
            batch=torch.zeros(len(pixels), dtype=torch.int64),
            x=torch.from_numpy(np.ascontiguousarray(pixels[:, 0])),
            y=torch.from_numpy(np.ascontiguousarray(pixels[:, 1])),
            value=torch.from_numpy(value),
            weight=torch.from_numpy(weight),
            images=1,
        )

    @classmethod
    def dense(
        cls,
        points: np.ndarray,
        radius: np.ndarray,
        value: np.ndarray,
        weight: np.ndarray,
        grid: Grid,
        steps: Sequence[Sequence[float]] | None = None,
        equally: bool = False,
    ) -> CellTargets:
        """CellTargets at every cell of the objects' Gaussians, weighted by them.

        Where Gaussians overlap, the cell belongs to the higher one, on ties to the later one.

        Args:
            points: (N, 2) float, (x, y) on the output grid.
            radius: (N,) int, cells.
            value, weight: (N, D) float, the values of each object at its own cell, and their weights.
            grid: its size.
            steps: (D, 2), how much each value changes from a cell to the next one in x and in y, for values
                that are relative to their cell; None: values are the same at all cells.
            equally: divide the weights of an object by their sum, so that a large one counts as a small one.

        Source: the released code's dense regression targets; weights that sum to the same for all objects
        are of Liu et al. 2020 (TTFNet), section 3.3, without its factor for large objects.
        """
        count = (2 * radius + 1) ** 2
        row = np.repeat(np.arange(len(points)), count)
        cell = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
        diameter = 2 * radius[row] + 1
        step = np.stack([cell % diameter, cell // diameter], axis=1) - radius[row, None]
        pixel = np.floor(points).astype(np.int64)[row] + step
        height = np.exp(-(step**2).sum(axis=1) / (2 * (diameter / 6) ** 2))
        inside = ((pixel >= 0) & (pixel < [grid.width, grid.height])).all(axis=1)
        row, step, pixel, height = row[inside], step[inside], pixel[inside], height[inside]
        order = np.lexsort((row, height, pixel[:, 0], pixel[:, 1]))
        last = np.ones(len(order), bool)
        last[:-1] = (np.diff(pixel[order], axis=0) != 0).any(axis=1)
        kept = order[last]
        seen = value[row[kept]] if steps is None else value[row[kept]] + step[kept] @ np.asarray(steps).T
        share = height[kept]
        if equally:
            share = share / np.bincount(row[kept], share, len(points))[row[kept]]
        return cls.of(pixel[kept], seen, weight[row[kept]] * share[:, None])

    def gather(self, maps: Tensor) -> Tensor:
        """Read a dense map (B, D, H, W) at these pixels -> (M, D)."""
        depth, height, width = maps.shape[1:]
        row = (self.batch * height + self.y) * width + self.x
        # index_select, because its gradient is summed in a fixed order; that of advanced indexing need not
        # be.
        return maps.permute(0, 2, 3, 1).reshape(-1, depth).index_select(0, row)


class DenseCells(NamedTuple):
    """The cells of all rows of ``DenseTargets``, row by row.

    Attributes:
        row: (M,) int64, the row.
        batch, y, x: (M,) int64, image and cell.
        value: (M, D) float32.
    """

    row: Tensor
    batch: Tensor
    y: Tensor
    x: Tensor
    value: Tensor

    def gather(self, maps: Tensor) -> Tensor:
        """Read a map (B, C, H, W) at these cells -> (M, C)."""
        depth, height, width = maps.shape[1:]
        at = (self.batch * height + self.y) * width + self.x
        # index_select, as in CellTargets.gather.
        return maps.permute(0, 2, 3, 1).reshape(-1, depth).index_select(0, at)


@dataclass(frozen=True)
class DenseTargets(_Ragged):
    """Targets of a whole map: a window of cells per row, such as an object's mask or an image's depth.

    Several rows may cover a cell. Windows of flags are packed, eight cells to a byte, on their way from the
    process that encodes them.

    Attributes:
        batch: (N,) int64, index of the image in the batch.
        x, y: (N,) int64, the first cell of the window.
        width, height: (N,) int64, its size in cells.
        weight: (N,) float32, how much the row counts; 0 masks it.
        value: the windows one after the other, cells row by row, D values each: (bytes, D) uint8 for packed
            flags, each window from a byte of its own; or (M, D) float32.
        cells: the total number of cells M, known on the host so that a GPU need not be waited for.
    """

    batch: Tensor
    x: Tensor
    y: Tensor
    width: Tensor
    height: Tensor
    weight: Tensor
    value: Tensor
    cells: int

    @classmethod
    def of(
        cls,
        corners: np.ndarray,
        windows: Sequence[np.ndarray],
        depth: int,
        weight: np.ndarray | None = None,
        **columns: Tensor,
    ) -> Self:
        """The targets of one image, from arrays.

        Args:
            corners: (N, 2) int, the first cell (x, y) of each window; windows lie within the grid.
            windows: (h, w, depth) each, all bool or all float32.
            depth: values per cell.
            weight: (N,) float; ones when left out.
            columns: further columns of a subclass.
        """
        corners = np.asarray(corners, np.int64).reshape(-1, 2)
        sides = np.array([window.shape[:2] for window in windows], np.int64).reshape(-1, 2)
        flat = [window.reshape(-1, depth) for window in windows]
        packed = [np.packbits(one, axis=0) if one.dtype == bool else one.astype(np.float32) for one in flat]
        value = np.concatenate(packed) if packed else np.zeros((0, depth), np.uint8)
        weight = np.ones(len(corners), np.float32) if weight is None else np.asarray(weight, np.float32)
        return cls(
            batch=torch.zeros(len(corners), dtype=torch.int64),
            x=torch.from_numpy(np.ascontiguousarray(corners[:, 0])),
            y=torch.from_numpy(np.ascontiguousarray(corners[:, 1])),
            width=torch.from_numpy(np.ascontiguousarray(sides[:, 1])),
            height=torch.from_numpy(np.ascontiguousarray(sides[:, 0])),
            weight=torch.from_numpy(weight.copy()),
            value=torch.from_numpy(value),
            cells=int(sides.prod(axis=1).sum()),
            **columns,
        )

    def unpacked(self) -> DenseCells:
        """Every cell of every window, with its values."""
        size = self.width * self.height
        row = torch.repeat_interleave(size, output_size=self.cells)
        start = (size.cumsum(0) - size).index_select(0, row)
        at = torch.arange(self.cells, device=row.device)
        within = at - start
        wide = self.width.index_select(0, row)
        y = self.y.index_select(0, row) + within // wide
        x = self.x.index_select(0, row) + within % wide
        if self.value.dtype == torch.uint8:
            length = (size + 7) // 8
            byte = (length.cumsum(0) - length).index_select(0, row) + within // 8
            shift = (7 - within % 8).to(torch.uint8)
            value = (self.value.index_select(0, byte) >> shift[:, None]) & 1
        else:
            value = self.value
        return DenseCells(row, self.batch.index_select(0, row), y, x, value.float())

    def draw(self, shape: Sequence[int]) -> Tensor:
        """The values as a map (B, D, H, W) that is 0 elsewhere; a later row covers the ones before it.

        Args:
            shape: (B, D, H, W).
        """
        batch, depth, height, width = shape
        canvas = torch.zeros(batch * height * width, depth, device=self.batch.device)
        cells = self.unpacked()
        at = (cells.batch * height + cells.y) * width + cells.x
        last = torch.full((batch * height * width,), -1, dtype=torch.int64, device=at.device)
        last = last.scatter_reduce(0, at, cells.row, "amax")
        top = last.index_select(0, at) == cells.row
        canvas[at[top]] = cells.value[top]
        return canvas.reshape(batch, height, width, depth).permute(0, 3, 1, 2)


#: What ``Task.encode`` returns for a head.
Target = Peaks | CellTargets | DenseTargets


def collate_targets(parts: Sequence[Target]) -> Target:
    """Join one head's targets of single images into those of a batch."""
    collate: Any = type(parts[0]).collate
    joined: Target = collate(parts)
    return joined


def join_targets(parts: Sequence[Target]) -> Target:
    """Join several targets of one head in one image."""
    joined = collate_targets(parts)
    once: dict[str, Any] = {"batch": torch.zeros_like(joined.batch)}
    if isinstance(joined, CellTargets):
        once["images"] = 1
    result: Target = dataclasses.replace(joined, **once)
    return result
