"""Detecting in an image tile by tile, with the outcome of the whole image."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from ctnet.base.errors import CtnetError
from ctnet.base.memory import available_memory, gigabytes
from ctnet.core.fields import move_record
from ctnet.core.geometry import Affine, View
from ctnet.core.records import Detections
from ctnet.core.task import Task
from ctnet.heatmap.peaks import suppress_non_peaks
from ctnet.inference.decoding import best_of, candidates, decode, joined, not_finite
from ctnet.inference.preprocessing import Prepared
from ctnet.inference.settings import DetectionSettings
from ctnet.inference.tiles import Canvas, Span, Tile, Tiling
from ctnet.inference.timing import StageTimes


class MapsOf(Protocol):
    """What gives the maps of prepared images; ``Forward`` does."""

    @property
    def device(self) -> torch.device: ...

    def maps(
        self, batch: Sequence[Prepared], flip: bool, amp: torch.dtype | None, times: StageTimes
    ) -> tuple[dict[str, Tensor], Tensor]: ...


#: Pixels of the tiles that pass the network together: more only takes more memory.
_PIXELS = 1 << 21


class TiledLook:
    """Detects in images that are cut into tiles.

    The network sees a tile with the halo around the part that the tile owns; a peak counts where it is owned,
    so every object is found once, and the best of all tiles are chosen together. Where the halo is as wide as
    the network's reach, this gives what the whole image gives.

    Args:
        task: decodes.
        forward: gives the maps of tiles.
        tiling: how images are cut.
        stride: input pixels per cell.
        settings: used are flip, amp, topk, score and nms.
        times: the time of the stages is added.
    """

    def __init__(
        self,
        task: Task,
        forward: MapsOf,
        tiling: Tiling,
        stride: int,
        settings: DetectionSettings,
        times: StageTimes,
    ) -> None:
        self._task, self._forward, self._tiling, self._stride = task, forward, tiling, stride
        self._settings, self._times = settings, times

    @torch.inference_mode()
    def __call__(self, canvas: Canvas) -> Detections:
        """The detections of one view of an image, best first, in pixels of the image, lifted.

        Raises:
            CtnetError: when the network gives NaN or infinities, or memory does not suffice.
        """
        peaks, view = self._task.peaks, canvas.view(self._stride)
        if peaks is None:
            maps, finite = self._joined_maps(canvas)
            return decode(self._task, maps, [view], self._settings, self._times, finite)[0]
        parts: list[Detections] = []
        for tiles, maps, finite in self._maps(canvas):
            with self._times.stage("decode"):
                owned = self._owned_peaks(maps[peaks], tiles)
                decoded = self._task.decode({**maps, peaks: owned}, candidates(self._task, self._settings))
                found, all_finite = decoded.without("cells").with_check(finite)
            if not all_finite:
                raise not_finite([canvas.info])
            with self._times.stage("post"):
                parts += [self._placed(*one, view) for one in zip(found, tiles, strict=True)]
        with self._times.stage("post"):
            together = joined(parts)
            order = np.argsort(-np.asarray(together.scores), kind="stable")
            return self._task.lift(best_of(self._task, together[order], self._settings), view)

    def _maps(self, canvas: Canvas) -> Iterator[tuple[Sequence[Tile], dict[str, Tensor], Tensor]]:
        """Tiles in groups, with their maps (B, C, h, w) by head, and whether these are finite."""
        tiles = self._tiling.tiles(*canvas.size)
        several = max(1, _PIXELS // self._tiling.side**2)
        for first in range(0, len(tiles), several):
            group = tiles[first : first + several]
            with self._times.stage("pre"):
                inputs = [Prepared(canvas.affine, canvas.info, canvas.cut(tile)) for tile in group]
            settings = self._settings
            yield group, *self._forward.maps(inputs, settings.flip, settings.amp, self._times)

    def _owned_peaks(self, heatmap: Tensor, tiles: Sequence[Tile]) -> Tensor:
        """The peaks (B, C, h, w) that the tiles own, 0 elsewhere, so that each object is found once."""
        # Peaks first: a cell of the own part may be lower than its neighbour in the halo.
        peaks = suppress_non_peaks(heatmap)
        owned = torch.zeros_like(peaks)
        for row, tile in enumerate(tiles):
            part = (row, slice(None), self._own(tile.y), self._own(tile.x))
            owned[part] = peaks[part]
        return owned

    def _own(self, span: Span) -> slice:
        """The cells of a tile that it owns, along one axis."""
        return slice((span.first - span.start) // self._stride, (span.last - span.start) // self._stride)

    def _placed(self, found: Detections, tile: Tile, view: View) -> Detections:
        """Detections of a tile's grid in image pixels."""
        corner = [tile.x.start / self._stride, tile.y.start / self._stride]
        shift = Affine(np.array([[1.0, 0, corner[0]], [0, 1.0, corner[1]]]))
        best = best_of(self._task, found, self._settings)
        return move_record(best, view.affine.after(shift), self._task.fields)

    def _joined_maps(self, canvas: Canvas) -> tuple[Mapping[str, Tensor], Tensor]:
        """The maps (1, C, H, W) by head of the whole canvas, and whether they are finite."""
        width, height = (side // self._stride for side in canvas.size)
        whole: dict[str, Tensor] = {}
        finite: list[Tensor] = []
        for tiles, maps, all_finite in self._maps(canvas):
            finite.append(all_finite)
            if not whole:
                self._check_memory(canvas, sum(one.shape[1] for one in maps.values()) * width * height)
                for name, one in maps.items():
                    whole[name] = one.new_empty((1, one.shape[1], height, width))
            for row, tile in enumerate(tiles):
                y, x = (
                    slice(span.first // self._stride, span.last // self._stride) for span in (tile.y, tile.x)
                )
                for name, one in maps.items():
                    whole[name][0, :, y, x] = one[row, :, self._own(tile.y), self._own(tile.x)]
        return whole, torch.stack(finite).all()

    def _check_memory(self, canvas: Canvas, values: int) -> None:
        free = available_memory(self._forward.device)
        if free is not None and 4 * values > free:
            raise CtnetError(
                f"{canvas.info.file_name}: the maps of {canvas.size[0]}x{canvas.size[1]} pixels need "
                f"{gigabytes(4 * values)}, but {gigabytes(free)} are free, and task {self._task.name} "
                "decodes them together; use smaller --scales"
            )
