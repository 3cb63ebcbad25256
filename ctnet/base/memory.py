"""How much memory there is, and telling out-of-memory errors from others."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import nn

_REFUSALS = ("out of memory", "not enough memory", "can't allocate memory", "Cannot allocate memory")

#: (limit, usage) of the control group that a container runs in, version 2 and 1.
_GROUPS = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means out of memory: Python's, NumPy's, OpenCV's or torch's on any device."""
    kind = type(error)
    if isinstance(error, MemoryError) or kind.__name__ == "OutOfMemoryError":  # torch's
        return True
    is_plain = isinstance(error, RuntimeError) or kind.__module__.startswith("cv2")
    return is_plain and any(text in str(error) for text in (*_REFUSALS, "Insufficient memory"))


def available_memory(device: torch.device | None = None) -> int | None:
    """Free memory of a device (the CPU when None), bytes; None where it is not known."""
    if device is not None and device.type == "cuda":
        import torch

        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    if device is not None and device.type != "cpu":
        return None
    found = [_in_meminfo(), *(_in_group(*files) for files in _GROUPS)]
    return min((bytes_ for bytes_ in found if bytes_ is not None), default=None)


def _in_meminfo() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
    except (OSError, ValueError, StopIteration):
        return None


def _in_group(limit: str, usage: str) -> int | None:
    try:
        most = Path(limit).read_text().strip()
        return None if most == "max" else max(int(most) - int(Path(usage).read_text()), 0)
    except (OSError, ValueError):
        return None


def bytes_per_pixel(model: nn.Module, side: int, device: torch.device) -> float:
    """A lower bound of a network's peak memory per pixel of its input, bytes.

    A layer's input and output are held together; nothing else that is alive then is counted.

    Args:
        model: takes (1, 3, side, side) float32; in evaluation mode, or its running statistics would change.
        side: side of a small input that the network accepts, pixels.
        device: the model's device.
    """
    import torch

    largest = 0

    def look(module: nn.Module, inputs: tuple[object, ...], output: object) -> None:
        nonlocal largest
        largest = max(largest, _held((inputs, output)))

    hooks = [module.register_forward_hook(look) for module in model.modules() if not [*module.children()]]
    try:
        dtype = next((parameter.dtype for parameter in model.parameters()), torch.float32)
        with torch.no_grad():
            model(torch.zeros(1, 3, side, side, device=device, dtype=dtype))
    finally:
        for hook in hooks:
            hook.remove()
    return largest / side**2


def _held(values: object) -> int:
    """Bytes of all tensors in nested tuples, lists and dictionaries, each storage once."""
    from torch import Tensor

    storages: dict[int, int] = {}
    waiting = [values]
    while waiting:
        value = waiting.pop()
        if isinstance(value, Tensor):
            storages[value.data_ptr()] = value.numel() * value.element_size()
        elif isinstance(value, (tuple, list)):
            waiting += value
        elif isinstance(value, dict):
            waiting += value.values()
    return sum(storages.values())


def gigabytes(count: float) -> str:
    """A number of bytes as readable text."""
    return f"{count / 1e9:.1f} GB"
