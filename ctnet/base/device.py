"""Choosing a device, and what it supports."""

from __future__ import annotations

import warnings
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from ctnet.base.choices import Amp, check_choice
from ctnet.base.errors import CtnetError

AMP_TYPES: dict[Amp, torch.dtype] = {"bf16": torch.bfloat16, "fp16": torch.float16}


def choose_device(name: str) -> torch.device:
    """The device for "auto", "cpu", "cuda", "cuda:1" or "mps".

    Raises:
        CtnetError: for a device that this machine or this build of torch does not have.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # names that torch is about to drop
            device = torch.device(name)
        torch.zeros(1, device=device).item()  # some devices hold no data ("meta")
        if device.type == "cpu" and device.index:
            raise RuntimeError  # torch accepts any index here, but there is only one CPU
    except (RuntimeError, AssertionError, ImportError) as error:
        raise CtnetError(
            f"device {name!r} cannot be used here; use auto or cpu, and see `ctnet doctor`"
        ) from error
    return device


def choose_amp(name: str, device: torch.device) -> torch.dtype | None:
    """The dtype for autocast: "off", "bf16", "fp16", or "auto" (bf16 where the device supports it, else off).

    Raises:
        CtnetError: for another name.
    """
    if name == "auto":
        return torch.bfloat16 if has_bf16(device) else None
    if name == "off":
        return None
    check_choice("--amp", name, Amp)
    return next(kind for known, kind in AMP_TYPES.items() if known == name)


def amp_name(dtype: torch.dtype | None) -> Amp:
    """The inverse of ``choose_amp``: the name that a run's config stores in place of "auto"."""
    return next((name for name, kind in AMP_TYPES.items() if kind == dtype), "off")


def has_bf16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 in hardware (elsewhere it is emulated, and slow)."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return device.type == "cpu" and any(getattr(torch.cpu, name, bool)() for name in checks)


def autocast(device: torch.device, dtype: torch.dtype | None) -> AbstractContextManager[object]:
    """Mixed precision on the device, or nothing when ``dtype`` is None."""
    return nullcontext() if dtype is None else torch.autocast(device.type, dtype)


def normalise(images: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """Images (B, H, W, 3) uint8 RGB -> network input (B, 3, H, W) float32, channels-last.

    Args:
        mean, std: per channel, on the scale 0..1.
    """
    values = images.to(torch.float32)
    scale = values.new_tensor([1 / (255 * s) for s in std])
    shift = values.new_tensor([-m / s for m, s in zip(mean, std, strict=True)])
    return torch.addcmul(shift, values, scale).permute(0, 3, 1, 2)
