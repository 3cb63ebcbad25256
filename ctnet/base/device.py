"""Choosing a device, and what it supports."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ctnet.base.choices import Amp, Dtype, check_choice
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


def choose_dtype(name: str) -> torch.dtype | None:
    """The dtype of a network's weights: None for "float32", their own; or that of "bf16" or "fp16".

    Raises:
        CtnetError: for another name.
    """
    check_choice("--dtype", name, Dtype)
    return next((kind for known, kind in AMP_TYPES.items() if known == name), None)


def amp_name(dtype: torch.dtype | None) -> Amp:
    """The inverse of ``choose_amp``: the name that a run's config stores in place of "auto"."""
    return next((name for name, kind in AMP_TYPES.items() if kind == dtype), "off")


def has_bf16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 in hardware (elsewhere it is emulated, and slow)."""
    if device.type == "cuda":  # before Ampere it is emulated
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
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
    scale = constant([1 / (255 * s) for s in std], values)
    shift = constant([-m / s for m, s in zip(mean, std, strict=True)], values)
    return torch.addcmul(shift, values, scale).permute(0, 3, 1, 2)


#: Numbers, dtype and device of what ``constant`` made.
_CONSTANTS: dict[tuple[tuple[float, ...], torch.dtype, torch.device], Tensor] = {}


def constant(values: Sequence[float], like: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """Fixed numbers on a tensor's device, which a GPU is sent only once: every copy from the host waits.

    Args:
        values: the numbers.
        like: gives the device.
        dtype: that of ``like`` when None.

    Returns:
        (N,) tensor; not to be changed, for others have the same one.
    """
    dtype = dtype or like.dtype
    if like.device.type == "cpu" or torch.compiler.is_compiling():
        return torch.tensor(values, dtype=dtype, device=like.device)
    key = (tuple(values), dtype, like.device)
    if key not in _CONSTANTS:
        with torch.inference_mode(False):  # else it could not take part in training later
            _CONSTANTS[key] = torch.tensor(values, dtype=dtype, device=like.device)
    return _CONSTANTS[key]


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy from the host; to a GPU through page-locked memory, without waiting for it."""
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def to_host(tensors: Sequence[Tensor]) -> list[np.ndarray]:
    """NumPy arrays of tensors of one device: from a GPU in one copy, since the host waits for each.

    Floating-point numbers become float32.
    """
    kept = [tensor.detach().float() if tensor.is_floating_point() else tensor.detach() for tensor in tensors]
    if not kept or kept[0].device.type == "cpu":
        return [tensor.numpy() for tensor in kept]
    return _split(_joined(kept).cpu().numpy(), kept)


def _joined(tensors: Sequence[Tensor]) -> Tensor:
    """The bytes of tensors, one after the other."""
    return torch.cat([tensor.contiguous().reshape(-1).view(torch.uint8) for tensor in tensors])


def _split(joined: np.ndarray, tensors: Sequence[Tensor]) -> list[np.ndarray]:
    """The inverse of ``_joined``, with the dtypes and shapes of its tensors."""
    ends = np.cumsum([tensor.numel() * tensor.element_size() for tensor in tensors])
    return [
        part.copy()
        .view(str(tensor.dtype).removeprefix("torch."))
        .reshape(tuple(tensor.shape))  # the copy is aligned
        for part, tensor in zip(np.split(joined, ends[:-1]), tensors, strict=True)
    ]


@contextmanager
def tf32(allowed: bool) -> Iterator[None]:
    """Within the context GPUs multiply float32 in TF32, which has ten bits of mantissa, or with all bits.

    Without it torch allows TF32 in convolutions, and not in products of matrices.
    """
    products, convolutions = torch.backends.cuda.matmul, torch.backends.cudnn
    name, values = "allow_tf32", (False, True)
    switches: list[Any] = [products, convolutions]
    try:
        before = [getattr(switch, name) for switch in switches]
    except RuntimeError:  # set by torch's newer names, after which it refuses to read the older ones
        name, values = "fp32_precision", ("ieee", "tf32")  # type: ignore[assignment]
        switches = [products, convolutions.conv]  # type: ignore[attr-defined]
        before = [getattr(switch, name) for switch in switches]
    try:
        for switch in switches:
            setattr(switch, name, values[allowed])
        yield
    finally:
        for switch, value in zip(switches, before, strict=True):
            setattr(switch, name, value)


def without_tf32() -> AbstractContextManager[None]:
    """Within the context products of float32 have all its digits."""
    return tf32(False)
