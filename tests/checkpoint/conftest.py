"""The weight recipe of golden/README.md."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor


def recipe_weight(name: str, shape: tuple[int, ...], seed: int) -> np.ndarray:
    rng = np.random.default_rng(zlib.crc32(name.encode()) + seed)
    if name.endswith("num_batches_tracked"):
        return np.zeros(shape, np.int64)
    if name.endswith("running_var"):
        return (0.5 + rng.random(shape)).astype(np.float32)
    if name.endswith("running_mean") or (len(shape) == 1 and name.endswith(".bias")):
        return (0.1 * rng.standard_normal(shape)).astype(np.float32)
    if len(shape) == 1:
        scale = 0.15 if name.endswith(("bn2.weight", "bn3.weight")) else 1.0
        return ((0.5 + rng.random(shape)) * scale).astype(np.float32)
    weight = rng.standard_normal(shape) * np.sqrt(2 / np.prod(shape[1:]))
    if "conv_offset_mask" in name:
        weight *= 0.1
    elif name.startswith("deconv_layers."):
        weight *= 2.0
    return weight.astype(np.float32)


@pytest.fixture(scope="session")
def recipe_state() -> Callable[[dict[str, Any], int], dict[str, Tensor]]:
    """A layout (``state_dict_*.json``) and a seed -> the state dict of the reference network."""

    def make(document: dict[str, Any], seed: int) -> dict[str, Tensor]:
        return {
            name: torch.from_numpy(np.asarray(recipe_weight(name, tuple(shape), seed)))
            for name, shape, _ in document["state_dict"]
        }

    return make
