"""Decoding tile by tile."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from ctnet.core.geometry import Affine
from ctnet.core.records import Detections
from ctnet.inference.decoding import decode
from ctnet.inference.preprocessing import Prepared
from ctnet.inference.settings import DetectionSettings
from ctnet.inference.tiled import TiledLook
from ctnet.inference.tiles import Canvas, Tiling
from ctnet.inference.timing import StageTimes
from ctnet.testing.check import require
from ctnet.testing.probe import STRIDE, Probe, task_check

_TILING = Tiling(16 * STRIDE, 4 * STRIDE)
_TOLERANCE = 1e-3


@task_check("Task.peaks, Task.decode")
def tiles_give_what_the_whole_gives(probe: Probe) -> None:
    """Decoding tile by tile, as ``Task.peaks`` allows it, gives the detections of the whole map."""
    task, grid = probe.task, probe.grid
    require(
        task.peaks is None or task.peaks in task.heads,
        f"peaks is {task.peaks!r}, but the heads are {', '.join(task.heads)}",
    )
    info = probe.scenes(1)[0].info
    rows, columns = np.mgrid[: STRIDE * grid.height, : STRIDE * grid.width] // STRIDE
    # Every pixel holds its own cell, so that a tile can be found again.
    image = np.stack([rows, columns, 0 * rows], axis=2).astype(np.uint8)
    canvas = Canvas(Affine.identity(), info, image, (0, 0), image.shape[1::-1])
    settings = DetectionSettings(nms="none")
    for seed in range(2):
        maps = probe.random_maps(1, seed)
        (whole,) = decode(task, maps, [canvas.view(STRIDE)], settings)
        look = TiledLook(task, _Cut(maps), _TILING, STRIDE, settings, StageTimes())
        _compare(whole, look(canvas))


class _Cut:
    """Maps that are known, in place of a network: those of a tile are cut out of them."""

    device = torch.device("cpu")

    def __init__(self, maps: Mapping[str, Tensor]) -> None:
        self._maps = maps

    def maps(self, batch: Sequence[Prepared], *_: object) -> tuple[dict[str, Tensor], Tensor]:
        """The maps of tiles, wherever the pixels of their corners say that they lie."""
        tiles: list[dict[str, Tensor]] = []
        for prepared in batch:
            row, column = prepared.input[0, 0, :2].tolist()
            height, width = (side // STRIDE for side in prepared.input.shape[:2])
            part = (..., slice(row, row + height), slice(column, column + width))
            tiles.append({name: values[part] for name, values in self._maps.items()})
        return {name: torch.cat([tile[name] for tile in tiles]) for name in self._maps}, torch.tensor(True)


def _compare(whole: Detections, tiled: Detections) -> None:
    require(len(whole) == len(tiled), f"{len(whole)} detections of the whole became {len(tiled)}")
    others = tiled.fields()
    for name, values in whole.fields().items():
        one, other = (np.asarray(column) for column in (values, others[name]))
        if not np.issubdtype(one.dtype, np.number):
            continue
        same = np.isclose(one, other, rtol=_TOLERANCE, atol=_TOLERANCE, equal_nan=True)
        require(
            bool(same.all()),
            f"{name} of {np.count_nonzero(~same.reshape(len(one), -1).all(axis=1))} detections differ",
        )
