"""A GPU of fake tensors: shapes, dtypes and devices without numbers, and what would stall a real one.

torch's fake tensors say "cuda" on a machine that has none. Code that mixes devices then fails as on a GPU,
and a recorder sees every operation. The names are private to torch, so tests ask ``is_possible`` first.
"""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

import ctnet

#: Operations whose result the host must wait for: values, or shapes that depend on values.
WAITING = ("nonzero", "masked_select", "unique", "unique2", "_unique2")
#: Operations that read a value; the recorder makes one up, since fake tensors have none.
READING = {"_local_scalar_dense": 0.5, "item": 0.5, "equal": True, "allclose": True, "is_nonzero": True}


@dataclass(frozen=True)
class Event:
    """What happened, and the line of ctnet that asked for it."""

    what: str
    where: str


@dataclass
class Stalls:
    """What the host does while the device waits, or the reverse.

    Attributes:
        waits: reads of values, and of shapes that depend on them.
        copies: copies between host and device that block.
        device: the kind of device whose tensors must not be waited for. The backward pass wants a driver for
            fake tensors on "cuda"; it is watched on "cpu".
    """

    waits: list[Event] = field(default_factory=list)
    copies: list[Event] = field(default_factory=list)
    device: str = "cuda"

    def counted(self) -> Counter[str]:
        return Counter(f"{event.what} at {event.where}" for event in [*self.waits, *self.copies])


class Recorder(TorchDispatchMode):
    """Notes waits and blocking copies; gives reads of values a value."""

    def __init__(self, stalls: Stalls, mode: Any) -> None:
        super().__init__()
        self.stalls, self.mode = stalls, mode

    def _as_fake(self, value: Any) -> Any:
        from torch._subclasses.fake_tensor import FakeTensor

        real = isinstance(value, Tensor) and not isinstance(value, FakeTensor)
        return self.mode.from_tensor(value) if real else value

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        args, kwargs = tree_map(self._as_fake, (args, kwargs or {}))
        name = func.overloadpacket.__name__
        tensors = [value for value in tree_flatten((args, kwargs))[0] if isinstance(value, Tensor)]
        on_device = any(tensor.device.type == self.stalls.device for tensor in tensors)
        if on_device and (name in WAITING or name in READING or _depends_on_values(name, args, kwargs)):
            self._wait(name)
        if name in READING:
            value = READING[name]
            return value if isinstance(value, bool) or args[0].is_floating_point() else 1
        if name in ("pin_memory", "_pin_memory"):
            pinned = args[0].clone()
            pinned.page_locked = True
            return pinned
        for tensor in tensors:  # fake tensors remember small constants, and would compute with them for real
            if getattr(tensor, "constant", None) is not None:
                tensor.constant = None
        result = func(*args, **kwargs)
        self._note_copy(func, name, tensors if name != "copy_" else tensors[1:2], result, args, kwargs)
        return result

    def _wait(self, what: str) -> None:
        event = Event(what, place())
        if event not in self.stalls.waits[-1:]:  # a list of values is read with one wait
            self.stalls.waits.append(event)

    def _note_copy(
        self, func: Any, name: str, sources: list[Tensor], result: Any, args: Any, kwargs: Any
    ) -> None:
        before = {tensor.device.type for tensor in sources if tensor.dim() or name == "copy_"}
        after = {value.device.type for value in tree_flatten(result)[0] if isinstance(value, Tensor)}
        if not before or not after or after <= before:
            return
        locked = all(
            getattr(source, "page_locked", False) for source in sources if source.device.type == "cpu"
        )
        if not (_is_free(func, args, kwargs) and locked):
            self.stalls.copies.append(Event(f"copy to {after.pop()}", place()))


def _is_free(func: Any, args: Any, kwargs: Any) -> bool:
    """Whether the host goes on while a copy is made."""
    names = [argument.name for argument in func._schema.arguments]
    given = {**dict(zip(names, args, strict=False)), **kwargs}
    return bool(given.get("non_blocking"))


def _depends_on_values(name: str, args: Any, kwargs: Any) -> bool:
    """Whether the shape of the result is known only when the values are."""
    if name == "repeat_interleave":
        return kwargs.get("output_size") is None
    indices = args[1] if name == "index" else ()
    return any(isinstance(index, Tensor) and index.dtype == torch.bool for index in indices)


def place() -> str:
    """The line of ctnet that is being executed."""
    root = str(Path(ctnet.__file__).parents[1])
    frames = [frame for frame in traceback.extract_stack() if frame.filename.startswith(root)]
    frames = [frame for frame in frames if "/tests/" not in frame.filename]
    if not frames:
        return "torch"
    return f"{Path(frames[-1].filename).relative_to(root)}:{frames[-1].lineno}"


def _apply(module: torch.nn.Module, change: Any, recurse: bool = True) -> torch.nn.Module:
    """What ``Module.to`` calls; torch's own swaps the content of tensors, which fake ones do not allow."""
    if recurse:
        for child in module.children():
            _apply(child, change)
    for name, parameter in module._parameters.items():
        if parameter is not None:
            module._parameters[name] = torch.nn.Parameter(change(parameter.detach()), parameter.requires_grad)
    for name, buffer in module._buffers.items():
        if buffer is not None:
            module._buffers[name] = change(buffer)
    return module


_REAL_TENSOR = torch.tensor


def _tensor(data: Any, *, device: Any = None, **how: Any) -> Tensor:
    """``torch.tensor``, which makes its values on the host and copies them to the device, blocking."""
    made = _REAL_TENSOR(data, **how)
    return made if device is None else made.to(device)


def _new_tensor(self: Tensor, data: Any, *, dtype: Any = None, device: Any = None, **how: Any) -> Tensor:
    return _tensor(data, dtype=dtype or self.dtype, device=device or self.device, **how)


def _numpy(tensor: Tensor) -> np.ndarray:
    """Zeros of a tensor's shape and dtype; the last byte of several is 1, for a flag that comes last."""
    assert tensor.device.type == "cpu", "NumPy reads host memory alone"
    values = np.zeros(tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."))
    if values.dtype == np.uint8:
        values[-1:] = 1
    return values


def is_possible() -> bool:
    """Whether this torch can pretend to have a GPU."""
    try:
        from torch._subclasses.fake_tensor import FakeTensorMode

        torch._C._ensureCUDADeviceGuardSet()
        with FakeTensorMode():
            return torch.zeros(1, device="cuda").device.type == "cuda"
    except (ImportError, AttributeError, RuntimeError):
        return False


@contextmanager
def fake_gpu() -> Iterator[Stalls]:
    """Within the context all tensors are fake, and "cuda" is a device."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    torch._C._ensureCUDADeviceGuardSet()
    stalls = Stalls()
    with ExitStack() as stack:
        for name, value in (
            ("torch.cuda.is_available", lambda: True),
            ("torch.cuda.current_device", lambda: 0),
            ("torch.cuda.device_count", lambda: 1),
            ("torch.cuda.is_bf16_supported", lambda *_, **__: True),
            ("torch.cuda._lazy_init", lambda: None),
            ("torch.Tensor.numpy", _numpy),
            ("ctnet.base.device._CONSTANTS", {}),
            ("torch.nn.Module._apply", _apply),
            ("torch.tensor", _tensor),
            ("torch.Tensor.new_tensor", _new_tensor),
        ):
            stack.enter_context(mock.patch(name, value))
        mode = stack.enter_context(FakeTensorMode(allow_non_fake_inputs=True))
        stack.enter_context(Recorder(stalls, mode))
        yield stalls
