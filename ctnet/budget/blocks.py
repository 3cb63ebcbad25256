"""The building blocks of a network, found without computing it.

A network on the meta device, which has shapes but no values, is run once, and every operation is noted with
the shapes of what it reads. Operations with the same shapes are one block, in whatever network they occur.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from ctnet.inference.prepare import prepare_for_inference
from ctnet.model import CenterNet
from ctnet.ops.deform_conv import DeformConv
from ctnet.ops.winograd_layers import InferenceWinograd

#: Modules that compute otherwise on a CPU than on the meta device: each is a block as a whole.
_WHOLE = (DeformConv, InferenceWinograd)
#: Operators that only look at a tensor in another way.
_FREE = ("aten.detach", "aten.lift_fresh")


@dataclass(frozen=True)
class _Shape:
    """What is noted of a tensor."""

    size: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype
    is_weight: bool

    def filled(self) -> Tensor:
        """A tensor of this shape and layout; floats are random in 0..1, other values are 0."""
        tensor = torch.empty_strided(self.size, self.stride, dtype=self.dtype)
        return tensor.uniform_() if self.dtype.is_floating_point else tensor.zero_()


@dataclass(frozen=True)
class Block:
    """An operation, with the shapes of what it reads.

    Attributes:
        name: an operator's, or a module with its settings.
        inputs: its arguments, with shapes in place of tensors.
        multiply_adds: the number that a convolution or a product takes; 0 for anything else.
        what: the operator, or the module, on the meta device.
    """

    name: str
    inputs: Any
    multiply_adds: int = field(compare=False)
    what: Any = field(compare=False, repr=False)

    def on_cpu(self) -> Operation:
        """The operation with random weights and inputs, ready to be called."""
        maps: list[Tensor] = []
        args, kwargs = _thawed(self.inputs, maps)
        what = self.what
        if isinstance(what, nn.Module):
            what = copy.deepcopy(what).to_empty(device="cpu")
            for parameter in what.parameters():
                parameter.normal_(std=0.01)
        return Operation(what, args, kwargs, maps)


@dataclass(frozen=True)
class Operation:
    """A block that can be called, as often as wanted.

    Attributes:
        what, args, kwargs: what is called, and with what.
        maps: those of the arguments that a network would just have computed.
    """

    what: Callable[..., object]
    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    maps: Sequence[Tensor]

    def write_maps(self) -> None:
        """Write to the maps, as the operation before this one does: they come from the nearest caches."""
        for each in self.maps:
            each.zero_()

    def __call__(self) -> None:
        self.what(*self.args, **self.kwargs)


def prepared_on_meta(build: Callable[[], CenterNet]) -> CenterNet:
    """A network as inference runs it on a CPU, on the meta device.

    Args:
        build: builds it; no memory is taken for its weights.
    """
    with torch.device("meta"):
        model = build().eval()
    return prepare_for_inference(model)


def blocks_of(model: CenterNet, size: tuple[int, int]) -> Counter[Block]:
    """How often each block occurs in one image's way through a network, from the input to activated maps.

    Args:
        model: from ``prepared_on_meta``.
        size: (width, height) of the input, pixels.
    """
    width, height = size
    notes = _Notes(model)
    with notes, torch.no_grad():
        model.activated(torch.zeros(1, model.inputs, height, width, device="meta"))
    return notes.blocks


def multiply_adds(counts: Mapping[Block, int]) -> int:
    """Multiply-adds of a network: those of its blocks, as often as each occurs."""
    return sum(count * block.multiply_adds for block, count in counts.items())


class _Notes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes the operations that are called within the context.

    Attributes:
        blocks: each with how often it was called.
    """

    def __init__(self, model: CenterNet) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.blocks: Counter[Block] = Counter()
        self._inside = 0  # of modules that are blocks as a whole
        self._before: list[int] = []
        self._sum = 0
        self._hooks = [
            hook
            for module in model.modules()
            if isinstance(module, _WHOLE)
            for hook in (
                module.register_forward_pre_hook(self._enter),
                module.register_forward_hook(self._leave),
            )
        ]

    def __exit__(self, *reason: Any) -> None:
        super().__exit__(*reason)  # type: ignore[no-untyped-call]
        for hook in self._hooks:
            hook.remove()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        noted = _frozen((args, kwargs))
        result = func(*args, **kwargs)
        if _is_work(func, noted):
            products = _multiply_adds(func, args, result)
            self._sum += products
            if not self._inside:
                self.blocks[Block(str(func), noted, products, func)] += 1
        return result

    def _enter(self, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        self._inside += 1
        self._before.append(self._sum)

    def _leave(self, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        self._inside -= 1
        products = self._sum - self._before.pop()
        if not self._inside:
            self.blocks[Block(str(module), _frozen((inputs, {})), products, module)] += 1


def _is_work(func: Any, noted: Any) -> bool:
    """Whether an operator reads a tensor and makes or changes one, instead of viewing it otherwise."""
    views = any(
        returned.alias_info is not None and not returned.alias_info.is_write
        for returned in func._schema.returns
    )
    return not views and not str(func).startswith(_FREE) and bool(_shapes(noted))


def _multiply_adds(func: Any, args: tuple[Any, ...], result: Any) -> int:
    name = str(func)
    if name.startswith("aten.convolution"):
        images, weight, transposed = args[0], args[1], args[6]
        places = images if transposed else result
        return int(weight.numel() * places.shape[0] * places.shape[2:].numel())
    if name.startswith(("aten.mm", "aten.bmm", "aten.addmm", "aten.baddbmm")):
        return int(result.numel() * args[-1].shape[-2])
    if name.startswith("torchvision.deform_conv2d"):
        return int(args[1].numel() * result.shape[0] * result.shape[2:].numel())
    return 0


def _frozen(value: Any) -> Any:
    """A value that can be compared: shapes in place of tensors, tuples in place of lists and dicts."""
    if isinstance(value, Tensor):
        size, stride, is_weight = tuple(value.shape), value.stride(), isinstance(value, nn.Parameter)
        if len(size) == 4 and value.is_contiguous() and not is_weight:
            # On a CPU maps stay channels-last, as the input is; convolutions on the meta device forget that.
            _, channels, height, width = size
            stride = (channels * height * width, 1, channels * width, channels)
        return _Shape(size, stride, value.dtype, is_weight)
    if isinstance(value, Mapping):
        return ("dict", *((name, _frozen(item)) for name, item in value.items()))
    if isinstance(value, (list, tuple)):
        return (type(value).__name__, *(_frozen(item) for item in value))
    return value


def _thawed(value: Any, maps: list[Tensor]) -> Any:
    """The inverse of ``_frozen``, on the CPU. Maps (floats that are not weights) are added to ``maps``."""
    if isinstance(value, _Shape):
        tensor = value.filled()
        if not value.is_weight and tensor.is_floating_point():
            maps.append(tensor)
        return tensor
    if isinstance(value, torch.device):
        return torch.device("cpu")
    if isinstance(value, tuple):
        kind, *items = value
        if kind == "dict":
            return {name: _thawed(item, maps) for name, item in items}
        thawed = [_thawed(item, maps) for item in items]
        return thawed if kind == "list" else tuple(thawed)
    return value


def _shapes(noted: Any) -> list[_Shape]:
    if isinstance(noted, _Shape):
        return [noted]
    return [shape for item in noted for shape in _shapes(item)] if isinstance(noted, tuple) else []
