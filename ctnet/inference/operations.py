"""For each operation of a network: which indices of its inputs an output depends on, along the image's axes.

The last two axes of a tensor are the image's rows and columns. An operation that is not listed is refused, so
that a reach is never too small.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from torch import Tensor

#: First and last index along an axis.
Range = tuple[int, int]

#: Each value of the output depends on the values at its own place.
_POINTWISE = {
    *("abs", "add", "add_", "addcmul", "alias", "clamp", "clamp_", "clamp_max", "clamp_min", "clone"),
    *("contiguous", "detach", "div", "div_", "elu", "elu_", "exp", "gelu", "hardsigmoid", "hardsigmoid_"),
    *("hardswish", "hardswish_", "hardtanh", "hardtanh_", "leaky_relu", "leaky_relu_", "log", "log1p"),
    *("maximum", "minimum", "mish", "mish_", "mul", "mul_", "native_batch_norm", "native_dropout", "neg"),
    *(
        "_native_batch_norm_legit",
        "_native_batch_norm_legit_no_training",
        "_prelu_kernel",
        "pow",
        "reciprocal",
    ),
    *("relu", "relu_", "relu6", "rsqrt", "sigmoid", "sigmoid_", "silu", "silu_", "softplus", "sqrt", "sub"),
    *("sub_", "tanh", "tanh_", "_to_copy", "where"),
}
#: They rearrange the axes before the last two.
_REARRANGING = {"_unsafe_view", "expand", "permute", "reshape", "transpose", "unsqueeze", "view"}
#: They pick from the axes before the last two.
_PICKING = {"select", "slice", "split", "split_with_sizes", "unbind"}
_REDUCING = {"amax", "amin", "mean", "sum", "var", "var_mean"}
_POOLING_ALL = {"_adaptive_avg_pool2d", "adaptive_avg_pool2d", "adaptive_max_pool2d"}


class OperationError(Exception):
    """Why the reach of an operation has no known bound, to follow the layer's name."""


@dataclass(frozen=True)
class Reading:
    """What an operation reads of one of its inputs.

    Attributes:
        input: id of the tensor.
        of: (range of the output, axis 0 for rows or 1 for columns) -> range of the input.
    """

    input: int
    of: Callable[[Range, int], Range]


def read_by(
    operation: Any, args: Sequence[Any], kwargs: Mapping[str, Any], inputs: Sequence[Tensor], output: Tensor
) -> list[Reading]:
    """What an operation of ATen reads of those inputs that depend on the image.

    Args:
        operation: the overload.
        args, kwargs: it was called with.
        inputs: the tensors among them that depend on the image.
        output: one of its outputs.

    Raises:
        OperationError: for an operation that reads everything, or is not known.
    """
    name = operation._schema.name.removeprefix("aten::")
    given = {argument.name: value for argument, value in zip(operation._schema.arguments, args, strict=False)}
    given |= kwargs
    if name in _SHIFTING:
        of = _SHIFTING[name](given, output)
        # A kernel that depends on the image would let every output depend on all of it.
        first = next(iter(given.values()))
        if any(tensor is not first for tensor in inputs):
            raise OperationError(f"has an operation, {name}, whose weights depend on the image")
        return [Reading(id(first), of)]
    if name in _POOLING_ALL or (name in _REDUCING and _reduces_image(given, inputs[0])):
        raise OperationError("reads the whole image")
    if name not in _POINTWISE | _REARRANGING | _PICKING | _REDUCING | {"cat", "stack"}:
        raise OperationError(f"has an operation, {name}, whose reach is not known")
    if any(not _keeps_place(name, given, tensor, output) for tensor in inputs):
        raise OperationError(f"has an operation, {name}, that moves the image's rows and columns")
    return [Reading(id(tensor), _same) for tensor in inputs]


def _same(wanted: Range, _: int) -> Range:
    return wanted


def _reduces_image(given: Mapping[str, Any], tensor: Tensor) -> bool:
    axes = given.get("dim")
    listed = [axes] if isinstance(axes, int) else axes
    return not listed or any(axis % tensor.ndim >= tensor.ndim - 2 for axis in listed)


def _keeps_place(name: str, given: Mapping[str, Any], tensor: Tensor, output: Tensor) -> bool:
    """Whether the last two axes of an input are those of the output."""
    if tensor.ndim < 3 or output.ndim < 3 or tensor.shape[-2:] != output.shape[-2:]:
        return False
    last = (tensor.ndim - 2, tensor.ndim - 1)
    if name == "permute":
        return tuple(axis % tensor.ndim for axis in given["dims"])[-2:] == last
    if name == "transpose":
        return given["dim0"] % tensor.ndim not in last and given["dim1"] % tensor.ndim not in last
    if name in ("cat", "stack"):
        return bool(given.get("dim", 0) % output.ndim < output.ndim - 2)
    if name == "unsqueeze":
        return bool(given["dim"] % output.ndim < output.ndim - 2)
    if name in ("_unsafe_view", "reshape", "view"):
        # Equal last sides and equally many values before them: the rows stay rows.
        return prod(tensor.shape[:-2]) == prod(output.shape[:-2])
    if name in _PICKING and name != "slice":
        return bool(given.get("dim", 0) % tensor.ndim < tensor.ndim - 2)
    return True


def _pair(values: Any) -> tuple[int, int]:
    """One number or two, as (vertical, horizontal)."""
    listed = [values] if isinstance(values, int) else [*values]
    return (listed[0], listed[-1])


def _convolution(given: Mapping[str, Any], output: Tensor) -> Callable[[Range, int], Range]:
    kernel = tuple(given["weight"].shape[-2:])
    stride, padding, dilation = (_pair(given[name]) for name in ("stride", "padding", "dilation"))
    if not given["transposed"]:
        return _window(kernel, stride, padding, dilation)

    def of(wanted: Range, axis: int) -> Range:
        low, high = wanted
        span, step = dilation[axis] * (kernel[axis] - 1), stride[axis]
        return -((span - padding[axis] - low) // step), (high + padding[axis]) // step

    return of


def _window(
    kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int]
) -> Callable[[Range, int], Range]:
    def of(wanted: Range, axis: int) -> Range:
        first = wanted[0] * stride[axis] - padding[axis]
        last = wanted[1] * stride[axis] - padding[axis]
        return first, last + dilation[axis] * (kernel[axis] - 1)

    return of


def _pooling(given: Mapping[str, Any], output: Tensor) -> Callable[[Range, int], Range]:
    kernel = _pair(given["kernel_size"])
    stride = _pair(given["stride"]) if given.get("stride") else kernel
    padding, dilation = _pair(given.get("padding", 0)), _pair(given.get("dilation", 1))
    return _window(kernel, stride, padding, dilation)


def _factors(given: Mapping[str, Any], output: Tensor) -> list[tuple[int, int]]:
    """For both axes (sides of the output, sides of the input), reduced to one of them being 1."""
    factors = []
    for axis in (-2, -1):
        large, small = output.shape[axis], next(iter(given.values())).shape[axis]
        if large % small and small % large:
            raise OperationError(f"resizes by {large}/{small}, so that its cells repeat nowhere")
        factors.append((max(large // small, 1), max(small // large, 1)))
    return factors


def _nearest(given: Mapping[str, Any], output: Tensor) -> Callable[[Range, int], Range]:
    factors = _factors(given, output)

    def of(wanted: Range, axis: int) -> Range:
        up, down = factors[axis]
        return wanted[0] * down // up, wanted[1] * down // up

    return of


def _bilinear(given: Mapping[str, Any], output: Tensor) -> Callable[[Range, int], Range]:
    if given.get("align_corners"):
        raise OperationError("resizes with aligned corners, so that its cells repeat nowhere")
    factors = _factors(given, output)

    def of(wanted: Range, axis: int) -> Range:
        up, down = factors[axis]
        low, high = (((2 * index + 1) * down - up) // (2 * up) for index in wanted)
        return low, high + 1

    return of


def _padded(given: Mapping[str, Any], output: Tensor) -> Callable[[Range, int], Range]:
    pads = [*given["pad"], 0, 0]  # left, right, top, bottom

    def of(wanted: Range, axis: int) -> Range:
        before = pads[2 if axis == 0 else 0]
        return wanted[0] - before, wanted[1] - before

    return of


def _pixel_shuffle(given: Mapping[str, Any], output: Tensor) -> Callable[[Range, int], Range]:
    factor = given["upscale_factor"]
    return lambda wanted, _: (wanted[0] // factor, wanted[1] // factor)


#: What reads other places of its first argument: name -> (arguments, output) -> as ``Reading.of``.
_SHIFTING: Mapping[str, Callable[[Mapping[str, Any], Tensor], Callable[[Range, int], Range]]] = {
    "convolution": _convolution,
    "max_pool2d_with_indices": _pooling,
    "avg_pool2d": _pooling,
    "upsample_nearest2d": _nearest,
    "_upsample_nearest_exact2d": _nearest,
    "upsample_bilinear2d": _bilinear,
    "constant_pad_nd": _padded,
    "pixel_shuffle": _pixel_shuffle,
}
