"""Preparing a network for inference: the same outputs with fewer and faster operations."""

from __future__ import annotations

import copy
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ctnet.base.compiling import compiled
from ctnet.base.device import has_bf16, without_tf32
from ctnet.base.errors import CtnetError
from ctnet.model import CenterNet
from ctnet.ops.deform_conv import DeformConv
from ctnet.ops.modules import replace_modules, tensors_in
from ctnet.ops.winograd_layers import InferenceWinograd, TrainingWinograd, helps_inference


@dataclass(frozen=True)
class Preparation:
    """How a detector's network is prepared, see ``prepare_for_inference``.

    Attributes:
        dtype: dtype of the weights; None for their own.
        compile: whether ``torch.compile`` makes code of it.
    """

    dtype: torch.dtype | None = None
    compile: bool = False


def prepare_for_inference(
    model: CenterNet, *, dtype: torch.dtype | None = None, compile: bool = False
) -> CenterNet:
    """Copy a network for inference on its device: equal outputs, no training.

    Batch norms are folded into the convolutions before them (plain, transposed, deformable), parameters are
    laid out channels-last, and images are converted to that layout and dtype. On a CPU, in
    float32, wide 3x3 convolutions and up-convolutions become ``InferenceWinograd``, those of heads together
    with the layers that follow. Anything else, such as unusual layers of other backbones, is unchanged. A
    network on the meta device is prepared as on a CPU, but for its values.

    Args:
        model: the network; it is not changed.
        dtype: dtype of the weights and of the raw maps, such as torch.bfloat16; None keeps the weights' own.
        compile: let ``torch.compile`` fuse the remaining operations. It needs a C++ compiler. The first
            image then takes minutes, and so does the first of another size; no further size does.

    Raises:
        CtnetError: for bfloat16 on a device that would emulate it, and float16 on a CPU.
    """
    first = next(model.parameters(), None)
    if first is None:  # a network without weights: there is nothing to prepare
        return _copied(model)
    device = first.device
    if dtype == torch.bfloat16 and not has_bf16(device):
        raise CtnetError(f"{device.type} here has no instructions for bfloat16; use float32")
    if dtype == torch.float16 and device.type == "cpu":
        raise CtnetError(
            "float16 is for GPUs; on a CPU use float32, or bfloat16 where it has instructions for it"
        )
    prepared = folded(model)
    prepared.to(dtype=dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]
    # Before the backbone: both ways through the network, ``forward`` and ``activated``, pass there.
    lay_out = partial(_lay_out, next(prepared.parameters()).dtype)
    for module in (prepared.backbone, prepared.earlier):
        if module is not None:
            module.register_forward_pre_hook(lay_out)
    if compile:
        prepared.forward = compiled(prepared.forward)  # type: ignore[method-assign]
        prepared.activated = compiled(prepared.activated)  # type: ignore[method-assign]
    elif device.type in ("cpu", "meta") and next(prepared.parameters()).dtype == torch.float32:
        _use_winograd(prepared)
    return prepared


def _use_winograd(model: CenterNet) -> None:
    for branches in model.branches:
        assert isinstance(branches, nn.ModuleDict)
        for name, branch in branches.items():
            match list(branch.children()):
                case [nn.Conv2d() as wide, nn.ReLU(), nn.Conv2d() as tail] if helps_inference(wide):
                    branches[name] = InferenceWinograd(wide, tail)
    done = {module.convolution for module in model.modules() if isinstance(module, InferenceWinograd)}
    left = [module for module in model.modules() if helps_inference(module) and module not in done]
    replace_modules(model, {module: InferenceWinograd(module) for module in left})


def _copied(model: CenterNet) -> CenterNet:
    return copy.deepcopy(model).eval().requires_grad_(False)


def _lay_out(dtype: torch.dtype, _: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
    return (inputs[0].to(dtype=dtype, memory_format=torch.channels_last),)


def folded(model: CenterNet) -> CenterNet:
    """A copy with batch norms folded where a trial run shows that it can be done, checked by a second run.

    Args:
        model: the network; it stays untouched.
    """
    parameter, side = next(model.parameters()), max(64, model.backbone.divisor)
    images = torch.randn(1, model.inputs, side, side, generator=torch.Generator().manual_seed(0)).to(
        parameter
    )
    prepared = _copied(model)
    try:
        with torch.no_grad(), without_tf32():
            trial = _Trial(prepared, images)
            for convolution, norm in trial.pairs():
                _fold(convolution, norm)
                replace_modules(prepared, {norm: nn.Identity()})
            changed = prepared(images)
    except Exception as error:
        reason = f"a trial run at {side}x{side} failed ({type(error).__name__}: {error})"
    else:
        if parameter.is_meta or _close(trial.maps, changed):
            return prepared
        reason = "it changes the outputs"
    warnings.warn(f"batch norms of {type(model.backbone).__name__} are not folded: {reason}", stacklevel=3)
    return _copied(model)


class _Trial(TorchFunctionMode):
    """A trial run of a network that records the outputs of its convolutions and how often they are read.

    Attributes:
        maps: the network's outputs.
        outputs: the outputs of every convolution, one tensor per call.
        inputs: the inputs of every batch norm, as ``outputs``.
        readers: id of a convolution's output -> number of operations that read it.
    """

    def __init__(self, model: CenterNet, images: Tensor) -> None:
        super().__init__()
        self.outputs: dict[nn.Module, list[Tensor]] = {}
        self.inputs: dict[nn.BatchNorm2d, list[Tensor]] = {}
        self.readers: Counter[int] = Counter()
        hooks = [
            module.register_forward_hook(self._note)
            for module in model.modules()
            if type(module) in (nn.Conv2d, TrainingWinograd, nn.ConvTranspose2d, DeformConv, nn.BatchNorm2d)
        ]
        try:
            with self:
                self.maps = model(images)
        finally:
            for hook in hooks:
                hook.remove()

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if any(True for _ in tensors_in(result)):  # asking for a shape does not work
            self.readers.update({id(tensor) for tensor in tensors_in((args, kwargs))})
        return result

    def _note(self, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if isinstance(module, nn.BatchNorm2d):
            self.inputs.setdefault(module, []).append(inputs[0])
        else:
            self.outputs.setdefault(module, []).append(output)  # kept, so that its id is not reused
            self.readers[id(output)] = 0

    def pairs(self) -> Iterator[tuple[nn.Module, nn.BatchNorm2d]]:
        """Convolutions whose output is only read by one batch norm, both called once."""
        given = {id(tensor) for tensor in tensors_in(self.maps)}
        sources = {
            id(outputs[0]): module
            for module, outputs in self.outputs.items()
            if len(outputs) == 1 and self.readers[id(outputs[0])] == 1 and id(outputs[0]) not in given
        }
        for norm, inputs in self.inputs.items():
            source = sources.get(id(inputs[0]))
            if source is not None and len(inputs) == 1 and norm.running_mean is not None:
                yield source, norm


def _close(maps: Any, others: Any) -> bool:
    pairs = zip(tensors_in(maps), tensors_in(others), strict=True)
    # Relative to the largest value: single values may cancel out. NaN counts as equal to NaN.
    return all(
        torch.allclose(
            one, other, rtol=0, atol=1e-3 * one.nan_to_num(0, 0, 0).abs().max().item(), equal_nan=True
        )
        for one, other in pairs
    )


def _fold(convolution: Any, norm: nn.BatchNorm2d) -> None:
    """Apply the scale and shift of the following batch norm to a convolution's weights."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = (_wide(norm.running_var) + norm.eps).rsqrt()
    if norm.weight is not None:
        scale = scale * _wide(norm.weight)
    shift = -_wide(norm.running_mean) * scale
    if norm.bias is not None:
        shift = shift + _wide(norm.bias)
    if convolution.bias is not None:
        shift = shift + _wide(convolution.bias) * scale
    weight = _wide(convolution.weight)
    if isinstance(convolution, nn.ConvTranspose2d):  # (in, out / groups, height, width)
        groups = convolution.groups
        by_group = weight.reshape(groups, -1, *weight.shape[1:]) * scale.view(groups, 1, -1, 1, 1)
        weight = by_group.view_as(weight)
    else:  # (out, in / groups, height, width)
        weight = weight * scale.view(-1, 1, 1, 1)
    like = convolution.weight
    convolution.weight = nn.Parameter(weight.to(like), requires_grad=False)
    convolution.bias = nn.Parameter(shift.to(like), requires_grad=False)


def _wide(tensor: Tensor) -> Tensor:
    tensor = tensor.detach()
    return (tensor if tensor.is_meta else tensor.cpu()).double()
