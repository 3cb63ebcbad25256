"""Training runs that do not fit into memory: refused with one line, never silently reduced."""

from __future__ import annotations

import torch

from ctnet.backbones import Backbone
from ctnet.base.errors import CtnetError
from ctnet.base.memory import available_memory, bytes_per_pixel, gigabytes
from ctnet.training.config import TrainingConfig

#: Free memory is not checked for inputs with fewer pixels.
_SMALL_INPUT = 1 << 22


def check_memory(backbone: Backbone, size: tuple[int, int], device: torch.device) -> None:
    """Refuse a size if not even one image fits, before the system kills the process.

    Args:
        backbone: on the device, in training mode.
        size: (width, height) of the input, pixels.
        device: the backbone's device.

    Raises:
        CtnetError: with the required and the free memory.
    """
    width, height = size
    free = available_memory(device) if width * height >= _SMALL_INPUT else None
    if free is None:
        return
    backbone.eval()
    needed = width * height * bytes_per_pixel(backbone, 4 * backbone.divisor, device)
    backbone.train()
    if needed > free:
        raise CtnetError(
            f"one image of {width}x{height} needs at least {gigabytes(needed)}, but {gigabytes(free)} are "
            "free; use a smaller --size"
        )


def out_of_memory(config: TrainingConfig, batch_size: int, error: BaseException) -> CtnetError:
    """The error for a step that ran out of memory."""
    width, height = config.recipe.size
    said = next(iter(str(error).splitlines()), "")[:120]
    fewer = f"--batch-size {batch_size // 2} -R accumulate={2 * config.accumulate}"
    parts = f"{fewer}, the same step in smaller batches"
    fix = f"{parts}, or a smaller --size" if batch_size > 1 else "a smaller --size"
    return CtnetError(
        f"there is not enough memory to train on {batch_size} images of {width}x{height} at once ({said}); "
        f"use {fix}"
    )
