"""How far a network looks: the pixels that a part of its maps depends on, from its operations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from ctnet.base.errors import CtnetError
from ctnet.core.task import Task
from ctnet.inference.operations import OperationError, Range, Reading, read_by
from ctnet.model import create_model
from ctnet.ops.deform_conv import DeformConv, GridSampleDeformConv
from ctnet.ops.modules import tensors_in


@dataclass(frozen=True)
class Reach:
    """How far a network looks.

    Attributes:
        field: the receptive field, pixels: how many along an axis one cell depends on; of all cells the most.
        beyond: how many pixels beyond a part of the canvas, whose edges are multiples of the divisor, its
            peaks depend on. A peak also depends on the cells next to it.
    """

    field: int
    beyond: int


def reach_of(task: Task, backbone: str) -> Reach:
    """The reach of a task's network with a backbone.

    Raises:
        CtnetError: for a network that looks anywhere, or has an operation whose reach is not known, naming
            the layer.
    """
    with torch.device("meta"):
        network = create_model(task, backbone).eval()
    divisor, stride = network.backbone.divisor, network.backbone.stride
    return measure_reach(network, divisor, stride, backbone, network.activated)


def measure_reach(
    network: nn.Module,
    divisor: int,
    stride: int,
    name: str,
    maps_of: Callable[[Tensor], Any] | None = None,
) -> Reach:
    """The reach of any network.

    Args:
        network: on the meta device, in evaluation mode.
        divisor: sides of its input are multiples of it; its operations repeat with this period.
        stride: input pixels per cell.
        name: its name, for messages.
        maps_of: images (1, 3, H, W) -> maps (1, C, H / stride, W / stride) in any container; the network's
            own ``forward`` when None.

    Raises:
        CtnetError: see ``reach_of``.
    """
    image = torch.zeros(1, 3, 2 * divisor, 2 * divisor, device="meta")
    record = _Record(network, image)
    try:
        with torch.no_grad(), record:
            maps = [*tensors_in((maps_of or network)(image))]
    except OperationError as error:
        raise CtnetError(
            f"the reach of {name} has no bound: {record.layer} {error}; give --overlap in pixels"
        ) from error
    finally:
        record.close()
    cells = divisor // stride
    first, last = cells, 2 * cells - 1  # a block that begins at pixel ``divisor``
    ranges = [record.pixels(maps, (cell, cell)) for cell in range(first, last + 1)]
    field = max(high - low + 1 for pixels in ranges for low, high in pixels)
    block = record.pixels(maps, (first - 1, last + 1))
    beyond = max(max(divisor - low, high + 1 - 2 * divisor) for low, high in block)
    return Reach(field, beyond)


def exact_overlap(reach: Reach, divisor: int, side: int, name: str) -> int:
    """The smallest overlap with which tiles give what the whole image gives, pixels.

    Args:
        reach: the network's.
        divisor: the network's.
        side: the side of the tiles, pixels.
        name: the network's name, for the message.

    Raises:
        CtnetError: when tiles of this side are too small for it.
    """
    overlap = 2 * -(-reach.beyond // divisor) * divisor
    if overlap >= side:
        raise CtnetError(
            f"{name} looks {reach.beyond} pixels beyond a tile's own part, so exact tiles overlap by "
            f"{overlap} and have sides of {overlap + divisor} or more; use larger --tiles, or --overlap in "
            "pixels"
        )
    return overlap


@dataclass(frozen=True)
class _Step:
    """An operation: what it reads to make its output."""

    output: int
    readings: Sequence[Reading]


class _Record(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Records the operations of one pass of a network, from its image to its maps.

    Attributes:
        layer: the layer that runs: its name and kind.
    """

    def __init__(self, network: nn.Module, image: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._image = image
        self._steps: list[_Step] = []
        # Tensors that depend on the image. They are kept, so that their ids are not used again.
        self._seen: dict[int, Tensor] = {id(image): image}
        self._numbers: set[int] = set()  # those of them without rows and columns
        self._running = [type(network).__name__]
        self._hooks: list[Any] = []
        for name, module in network.named_modules():
            described = f"{name} ({type(module).__name__})" if name else type(module).__name__
            self._hooks += [
                module.register_forward_pre_hook(partial(self._enter, described)),
                module.register_forward_hook(self._leave),
            ]

    @property
    def layer(self) -> str:
        return self._running[-1]

    def close(self) -> None:
        """Stop watching the layers."""
        for hook in self._hooks:
            hook.remove()

    def _enter(self, described: str, module: nn.Module, _: Any) -> None:
        self._running.append(described)
        if isinstance(module, DeformConv | GridSampleDeformConv):
            raise OperationError("samples at learned positions, which may lie anywhere")

    def _leave(self, *_: Any) -> None:
        self._running.pop()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        inputs = [tensor for tensor in tensors_in((args, kwargs)) if id(tensor) in self._seen]
        if any(id(tensor) in self._numbers for tensor in inputs):
            raise OperationError("reads numbers that stand for the whole image")
        for output in tensors_in(result) if inputs else ():
            self._seen[id(output)] = output
            if output.ndim < 3:  # such as the statistics that batch norm also gives, which nobody reads
                self._numbers.add(id(output))
            else:
                self._steps.append(_Step(id(output), read_by(func, args, kwargs, inputs, output)))
        return result

    def pixels(self, maps: Sequence[Tensor], cells: Range) -> tuple[Range, Range]:
        """The rows and columns of the image that these cells of the maps depend on, without its border.

        Args:
            maps: outputs of the recorded pass.
            cells: first and last cell, along both axes.
        """
        needed: dict[int, tuple[Range, Range]] = {id(one): (cells, cells) for one in maps}
        for step in reversed(self._steps):
            if step.output not in needed:
                continue
            rows, columns = needed[step.output]
            for reading in step.readings:
                read = reading.of(rows, 0), reading.of(columns, 1)
                before = needed.get(reading.input, read)
                needed[reading.input] = _around(before[0], read[0]), _around(before[1], read[1])
        return needed[id(self._image)]


def _around(one: Range, other: Range) -> Range:
    """The smallest range that contains both."""
    return min(one[0], other[0]), max(one[1], other[1])
