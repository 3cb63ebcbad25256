"""A network's activated maps of prepared images, in as many passes as fit into memory."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from ctnet.base.device import autocast, normalise, to_device
from ctnet.base.errors import CtnetError
from ctnet.base.memory import available_memory, bytes_per_pixel, gigabytes, is_out_of_memory
from ctnet.core.heads import Head, mirror_maps
from ctnet.inference.preprocessing import Prepared
from ctnet.inference.timing import StageTimes
from ctnet.model import CenterNet

#: Free memory is not checked for inputs with fewer pixels.
_SMALL_INPUT = 1 << 22


class Forward:
    """Passes images through a network.

    Args:
        model: the network, prepared for inference.
        heads: its heads by name.
        mean, std: with which images are normalised, see ``Backbone``.
        device: the network's device.
    """

    def __init__(
        self,
        model: CenterNet,
        heads: Mapping[str, Head],
        mean: tuple[float, ...],
        std: tuple[float, ...],
        device: torch.device,
    ) -> None:
        self._model, self._heads, self.device = model, heads, device
        self._mean, self._std = mean, std

    def maps(
        self, batch: Sequence[Prepared], flip: bool, amp: torch.dtype | None, times: StageTimes
    ) -> tuple[dict[str, Tensor], Tensor]:
        """The maps, and whether all are finite: () bool, which waits for the device when it is read.

        Args:
            batch: inputs of one size; split if it does not fit into memory.
            flip: average with the mirrored input, where the heads allow it.
            amp: data type for autocast; None for full precision.
            times: records how long each stage takes.

        Raises:
            CtnetError: when a single image does not fit into memory.
        """
        most = self._most_at_once(batch[0])
        if most >= len(batch):
            try:
                return self._at_once(batch, flip, amp, times)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
            # Outside the except block, tensors of the failed pass are freed.
            most = len(batch) // 2
        if not most:
            raise _too_large(batch[0], "more memory than available")
        parts = [self.maps(batch[i : i + most], flip, amp, times) for i in range(0, len(batch), most)]
        joined = {name: torch.cat([maps[name] for maps, _ in parts]) for name in parts[0][0]}
        return joined, torch.stack([finite for _, finite in parts]).all()

    def _most_at_once(self, prepared: Prepared) -> int:
        """How many inputs of this size fit into memory, estimated from a lower bound of their needs."""
        pixels = prepared.input.shape[0] * prepared.input.shape[1]
        if pixels < _SMALL_INPUT:
            return sys.maxsize
        free = available_memory(self.device)
        if free is None:
            return sys.maxsize
        needed = pixels * self.bytes_per_pixel
        if needed > free:
            raise _too_large(prepared, f"at least {gigabytes(needed)}, but {gigabytes(free)} are free")
        return max(1, int(free / needed))

    @cached_property
    def bytes_per_pixel(self) -> float:
        """A lower bound of the memory that a pixel of the input needs."""
        backbone = self._model.backbone
        return bytes_per_pixel(backbone, 4 * backbone.divisor, self.device)

    @torch.inference_mode()
    def _at_once(
        self, batch: Sequence[Prepared], flip: bool, amp: torch.dtype | None, times: StageTimes
    ) -> tuple[dict[str, Tensor], Tensor]:
        with times.stage("pre"):
            stacked = to_device(
                torch.from_numpy(np.stack([prepared.input for prepared in batch])), self.device
            )
            inputs = normalise(stacked, self._mean, self._std)
        with times.stage("network"):
            with autocast(self.device, amp):
                maps = self._averaged(inputs) if flip else self._model.activated(inputs)
            return maps, torch.stack([values.isfinite().all() for values in maps.values()]).all()

    def _averaged(self, inputs: Tensor) -> dict[str, Tensor]:
        """The maps of inputs, averaged with the mirrored maps of the mirrored inputs."""
        plain, mirrored = self._both(inputs, inputs.flip(3))
        averaged = {}
        for name, back in mirror_maps(self._heads, mirrored).items():
            averaged[name] = plain[name] if back is None else (plain[name] + back) / 2
        return averaged

    def _both(self, one: Tensor, other: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The maps of two batches, from one forward pass, or from two if memory is short."""
        maps = None
        with suppress(torch.OutOfMemoryError):
            maps = self._model.activated(torch.cat([one, other]))
        if maps is None:  # outside the except block, tensors of the failed pass are freed
            return self._model.activated(one), self._model.activated(other)
        count = len(one)
        return ({name: m[:count] for name, m in maps.items()}, {name: m[count:] for name, m in maps.items()})


def _too_large(prepared: Prepared, needs: str) -> CtnetError:
    height, width = prepared.input.shape[:2]
    name = prepared.info.file_name or f"image {prepared.info.image_id}"
    return CtnetError(
        f"{name}, {width}x{height} pixels for the network, needs {needs}; use --tiles, --resize fix, a "
        "smaller --size or smaller --scales"
    )
