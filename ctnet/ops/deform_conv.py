"""Modulated deformable convolution: one operator with autograd, and the layer that the paper's networks use.

On the CPU each sampled value is a weighted sum of four rows of a channels-last table of pixels, which
``embedding_bag`` computes with vector instructions; one matrix product then applies the kernel. Output pixels
are processed in blocks, and the backward pass samples again instead of storing the columns. On other devices,
and with fast paths turned off, torchvision's kernel is used.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from ctnet.ops.fast import fast_paths_enabled

Pair = tuple[int, int]

# The forward pass locates this many samples at once, to save calls, and gathers them in smaller parts: small
# enough to stay in the cache until the product reads them, but with a minimum number of rows, since every
# product reads the whole kernel.
_FORWARD_SAMPLES = 2**15
_FORWARD_COLUMNS = 2**17
_FEWEST_ROWS = 128
# Elements of the column buffer in the backward pass; larger, because every block also sorts its indices.
_BACKWARD_BLOCK = 2**21


def deform_conv2d(
    x: Tensor,
    offset: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    mask: Tensor | None = None,
    stride: int | Pair = 1,
    padding: int | Pair = 0,
    dilation: int | Pair = 1,
) -> Tensor:
    """Convolution whose taps sample the input bilinearly at learned positions, each scaled by a mask.

    The arguments are those of ``torchvision.ops.deform_conv2d``, with one offset group and one weight group.
    Outside the image the input is zero. The result has the dtype of ``x`` and is channels-last; positions are
    computed in float32 or higher precision. torchvision's kernel computes in float32 whatever the dtype of
    ``x``: on a GPU its product is faster with TF32, not with bfloat16.

    Args:
        x: input (B, C, H, W), floating.
        offset: (B, 2*kh*kw, H', W'), input pixels; channel 2k is the vertical and 2k + 1 the horizontal shift
            of tap k (row by row), where H', W' is the size of the output.
        weight: kernel (O, C, kh, kw).
        bias: (O,) or None.
        mask: (B, kh*kw, H', W'), the factor of each tap, or None for 1.
        stride: distance of neighbouring outputs in input pixels, one number or (vertical, horizontal).
        padding: zeros around the input, as ``stride``.
        dilation: distance of neighbouring taps, as ``stride``.

    Returns:
        (B, O, H', W').

    Raises:
        ValueError: when the shapes do not match.

    Source:
        Zhu et al., Deformable ConvNets v2, 2019, equation 1.
    """
    grid = _check(x, offset, weight, bias, mask, _pair(stride), _pair(padding), _pair(dilation))
    if x.device.type == "cpu" and fast_paths_enabled():
        return _gather(x, offset, weight, bias, mask, grid)
    return _torchvision(x, offset, weight, bias, mask, grid)


@dataclass(frozen=True)
class _Grid:
    """Size of the input (batch x height x width pixels: the table's rows) and geometry of the taps."""

    batch: int
    height: int
    width: int
    output: Pair
    kernel: Pair
    stride: Pair
    padding: Pair
    dilation: Pair

    @property
    def taps(self) -> int:
        return self.kernel[0] * self.kernel[1]


def _pair(value: int | Pair) -> Pair:
    return (value, value) if isinstance(value, int) else (value[0], value[1])


def _check(
    x: Tensor,
    offset: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    mask: Tensor | None,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
) -> _Grid:
    for name, tensor in (("x", x), ("offset", offset), ("weight", weight), ("mask", mask)):
        if tensor is not None and (tensor.dim() != 4 or not tensor.is_floating_point()):
            kind = f"{tensor.dtype} of shape {tuple(tensor.shape)}"
            raise ValueError(f"{name} must be a floating-point tensor with 4 dimensions, not {kind}")
    if min(*stride, *dilation) < 1 or min(padding) < 0:
        raise ValueError(
            f"stride {stride} and dilation {dilation} must be at least 1, padding {padding} at least 0"
        )
    batch, channels, height, width = x.shape
    outputs, expected, kernel_height, kernel_width = weight.shape
    if channels != expected:
        raise ValueError(f"weight expects {expected} input channels, x has {channels}")
    kernel = (kernel_height, kernel_width)
    sizes = zip((height, width), kernel, stride, padding, dilation, strict=True)
    rows, columns = ((n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in sizes)
    if rows < 1 or columns < 1 or min(kernel) < 1:  # min() would tell an exporter which side is shorter
        raise ValueError(
            f"kernel {kernel} with dilation {dilation}, padding {padding} does not fit into ({height}, "
            f"{width})"
        )
    taps = kernel_height * kernel_width
    _check_shape("offset", offset, (batch, 2 * taps, rows, columns))
    if mask is not None:
        _check_shape("mask", mask, (batch, taps, rows, columns))
    if bias is not None:
        _check_shape("bias", bias, (outputs,))
    return _Grid(batch, height, width, (rows, columns), kernel, stride, padding, dilation)


def _check_shape(name: str, tensor: Tensor, shape: tuple[int, ...]) -> None:
    if tuple(tensor.shape) != shape:
        raise ValueError(f"{name} must have shape {shape}, not {tuple(tensor.shape)}")


def _torchvision(
    x: Tensor, offset: Tensor, weight: Tensor, bias: Tensor | None, mask: Tensor | None, grid: _Grid
) -> Tensor:
    from torchvision.ops import deform_conv2d as stock

    # torchvision's kernel needs one dtype for all, has no bfloat16, and would round positions to float16.
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    tensors = (None if t is None else t.to(dtype) for t in (x, offset, weight, bias, mask))
    image, offset_, weight_, bias_, mask_ = tensors
    out: Tensor = stock(image, offset_, weight_, bias_, grid.stride, grid.padding, grid.dilation, mask_)
    return out.to(dtype=x.dtype, memory_format=torch.channels_last)


def _gather(
    x: Tensor, offset: Tensor, weight: Tensor, bias: Tensor | None, mask: Tensor | None, grid: _Grid
) -> Tensor:
    """Rearrange everything as rows of pixels, convolve, and restore (B, O, H', W')."""
    if min(grid.height, grid.width) < 2:  # the gather reads 2 x 2 neighbours
        x = F.pad(x, (0, max(0, 2 - grid.width), 0, max(0, 2 - grid.height)))
        grid = replace(grid, height=x.shape[2], width=x.shape[3])
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    inputs = (
        x.permute(0, 2, 3, 1).reshape(-1, x.shape[1]),
        offset.permute(0, 2, 3, 1).reshape(-1, 2 * grid.taps).to(dtype),
        None if mask is None else mask.permute(0, 2, 3, 1).reshape(-1, grid.taps).to(dtype),
        weight.to(x.dtype).permute(0, 2, 3, 1).reshape(weight.shape[0], -1),
        None if bias is None else bias.to(x.dtype),
    )
    if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in inputs):
        rows: Tensor = _GatherConvolution.apply(*inputs, grid)
    else:
        rows = _convolve(*inputs, grid)
    return rows.view(grid.batch, *grid.output, len(weight)).permute(0, 3, 1, 2)


class _GatherConvolution(torch.autograd.Function):
    """``_convolve`` with a backward pass that samples again, block by block."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Tensor:
        *tensors, ctx.grid = inputs
        ctx.save_for_backward(*tensors)
        return _convolve(*inputs)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        table, shifts, factors, kernel, bias = ctx.saved_tensors
        grads = _convolve_backward(grad.contiguous(), table, shifts, factors, kernel, ctx.grid)
        return *grads, None if bias is None else grad.sum(0), None


def _convolve(
    table: Tensor, shifts: Tensor, factors: Tensor | None, kernel: Tensor, bias: Tensor | None, grid: _Grid
) -> Tensor:
    """The forward pass on rows: table (N, C), shifts (P, 2K), factors (P, K), kernel (O, K*C) -> (P, O)."""
    sampler = _Sampler(shifts, factors, grid)
    out = table.new_empty(len(shifts), len(kernel))
    step = max(_FEWEST_ROWS, _FORWARD_COLUMNS // kernel.shape[1])
    starts = torch.arange(0, 4 * step * grid.taps + 1, 4, dtype=torch.int32, device=table.device)
    with torch.autocast(table.device.type, enabled=False):
        for block in _blocks(len(shifts), grid.taps, _FORWARD_SAMPLES):
            samples = sampler.locate(block)
            weights = _bilinear(samples).to(table.dtype)
            rows = out[block]
            for start in range(0, len(rows), step):
                part = slice(start * grid.taps, (start + step) * grid.taps)
                columns = _gather_sums(table, samples.corners[part], weights[part], starts)
                columns = columns.view(-1, kernel.shape[1])
                if bias is None:
                    torch.mm(columns, kernel.t(), out=rows[start : start + step])
                else:
                    torch.addmm(bias, columns, kernel.t(), out=rows[start : start + step])
    return out


def _gather_sums(table: Tensor, rows: Tensor, weights: Tensor, starts: Tensor) -> Tensor:
    """Weighted sums of four rows of the table each, (n, C). ``F.embedding_bag`` has more overhead."""
    sums: Tensor = torch.embedding_bag(
        table, rows.view(-1), starts[: len(rows) + 1], False, 0, False, weights.view(-1), True
    )[0]
    return sums


def _convolve_backward(
    grad: Tensor, table: Tensor, shifts: Tensor, factors: Tensor | None, kernel: Tensor, grid: _Grid
) -> tuple[Tensor, Tensor, Tensor | None, Tensor]:
    """Gradients of table, shifts, factors and kernel for the gradient (P, O) of the output."""
    sampler = _Sampler(shifts, factors, grid)
    grad_table = torch.zeros_like(table, dtype=shifts.dtype)
    grad_kernel = torch.zeros_like(kernel, dtype=shifts.dtype)
    grad_shifts = torch.empty_like(shifts)
    grad_factors = None if factors is None else torch.empty_like(factors)
    with torch.autocast(table.device.type, enabled=False):
        for block in _blocks(len(shifts), kernel.shape[1], _BACKWARD_BLOCK):
            samples = sampler.locate(block)
            weights = _bilinear(samples).to(table.dtype)
            with torch.enable_grad():
                weights.requires_grad_()
                columns = F.embedding_bag(samples.corners, table, per_sample_weights=weights, mode="sum")
            grad_columns = (grad[block] @ kernel).view(-1, table.shape[1])
            (grad_weights,) = torch.autograd.grad(columns, weights, grad_columns)
            grad_kernel += grad[block].t() @ columns.detach().view(-1, kernel.shape[1])
            _scatter_add(grad_table, samples.corners, weights.detach(), grad_columns)
            grad_y, grad_x, grad_factor = _sample_gradients(samples, grad_weights.to(shifts.dtype))
            grad_shifts[block, 0::2] = grad_y
            grad_shifts[block, 1::2] = grad_x
            if grad_factors is not None:
                grad_factors[block] = grad_factor
    return grad_table.to(table.dtype), grad_shifts, grad_factors, grad_kernel.to(kernel.dtype)


def _blocks(pixels: int, columns: int, budget: int) -> Iterator[slice]:
    """Split output pixels of ``columns`` elements each into equal blocks of at most ``budget`` elements."""
    count = max(1, -(-pixels * columns // budget))
    step = max(1, -(-pixels // count))
    return (slice(start, min(start + step, pixels)) for start in range(0, pixels, step))


class _Samples(NamedTuple):
    """Sampling positions of p output pixels with K taps each."""

    corners: Tensor  # (p*K, 4) int32, rows of the table: upper left, upper right, lower left, lower right
    y: Tensor  # (p, K) distance below the upper row, in pixels; outside [0, 1] beyond the image's border
    x: Tensor  # (p, K) distance to the right of the left column, as ``y``
    factors: Tensor | None  # (p, K) the mask


class _Sampler:
    """Computes the samples of any block of output pixels (rows of all images, concatenated)."""

    def __init__(self, shifts: Tensor, factors: Tensor | None, grid: _Grid) -> None:
        self.shifts, self.factors, self.grid = shifts, factors, grid
        rows, columns = grid.output
        pixel = torch.arange(len(shifts), device=shifts.device).unsqueeze(1)
        self.y = (pixel // columns % rows * grid.stride[0] - grid.padding[0]).to(shifts.dtype)
        self.x = (pixel % columns * grid.stride[1] - grid.padding[1]).to(shifts.dtype)
        self.image_row = (pixel // (rows * columns) * (grid.height * grid.width)).int()
        tap = torch.arange(grid.taps, device=shifts.device)
        self.tap_y = (tap // grid.kernel[1] * grid.dilation[0]).to(shifts.dtype)
        self.tap_x = (tap % grid.kernel[1] * grid.dilation[1]).to(shifts.dtype)

    def locate(self, block: slice) -> _Samples:
        y = (self.shifts[block, 0::2] + self.y[block]).add_(self.tap_y)
        x = (self.shifts[block, 1::2] + self.x[block]).add_(self.tap_x)
        # All corners are clamped inside, even for NaN positions; the weights handle the border.
        top = y.floor().int().clamp_(0, self.grid.height - 2)
        left = x.floor().int().clamp_(0, self.grid.width - 2)
        first = torch.add(left, top, alpha=self.grid.width).add_(self.image_row[block])
        corners = first.new_empty(*first.shape, 4)
        for corner, step in enumerate((0, 1, self.grid.width, self.grid.width + 1)):
            torch.add(first, step, out=corners[..., corner])
        factors = None if self.factors is None else self.factors[block]
        return _Samples(corners.view(-1, 4), y.sub_(top), x.sub_(left), factors)


def _bilinear(samples: _Samples) -> Tensor:
    """Weights of the corners, mask included, (p*K, 4)."""
    top, bottom = _shares(samples.y)
    left, right = _shares(samples.x)
    if samples.factors is not None:
        top, bottom = top.mul_(samples.factors), bottom.mul_(samples.factors)
    weights = top.new_empty(*top.shape, 4)
    pairs = ((top, left), (top, right), (bottom, left), (bottom, right))
    for corner, (vertical, horizontal) in enumerate(pairs):
        torch.mul(vertical, horizontal, out=weights[..., corner])
    return weights.view(-1, 4)


def _shares(distance: Tensor) -> tuple[Tensor, Tensor]:
    """Weights of the pixels at 0 and 1 for a sample at ``distance``: hat functions of width 1."""
    low = distance.abs().neg_().add_(1).relu_()
    high = (distance - 1).abs_().neg_().add_(1).relu_()
    return low, high


def _slopes(distance: Tensor) -> tuple[Tensor, Tensor]:
    """Derivatives of ``_shares``, one-sided from the right at kinks, as in torchvision's kernel."""
    cell = distance.floor()
    before, inside, after = ((cell == i).to(distance.dtype) for i in (-1, 0, 1))
    return before - inside, inside - after


def _sample_gradients(samples: _Samples, grad_weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of y, x and factors, (p, K) each, from those of the corners' weights, (p*K, 4)."""
    upper_left, upper_right, lower_left, lower_right = grad_weights.view(*samples.y.shape, 4).unbind(-1)
    (top, bottom), (top_slope, bottom_slope) = _shares(samples.y), _slopes(samples.y)
    (left, right), (left_slope, right_slope) = _shares(samples.x), _slopes(samples.x)
    upper = left * upper_left + right * upper_right
    lower = left * lower_left + right * lower_right
    grad_y = top_slope * upper + bottom_slope * lower
    grad_x = left_slope * (top * upper_left + bottom * lower_left)
    grad_x += right_slope * (top * upper_right + bottom * lower_right)
    if samples.factors is not None:
        grad_y, grad_x = grad_y * samples.factors, grad_x * samples.factors
    return grad_y, grad_x, top * upper + bottom * lower


def _scatter_add(table: Tensor, corners: Tensor, weights: Tensor, rows: Tensor) -> None:
    """Add weights[i, j] * rows[i] to table[corners[i, j]]: the transpose of the gather, itself as a gather.

    Sorting the corners gives, for every row of the table, the list of its readers. Those lists are the bags.
    """
    corner, order = corners.view(-1).sort()
    first, last = int(corner[0]), int(corner[-1]) + 1
    wanted = torch.arange(first, last, dtype=corner.dtype, device=corner.device)
    bags = torch.searchsorted(corner, wanted, out_int32=True)
    readers = (order // 4).int()
    table[first:last] += F.embedding_bag(
        readers, rows, bags, per_sample_weights=weights.view(-1)[order], mode="sum"
    )


class DeformConv(nn.Module):
    """A 3x3 deformable convolution that predicts its own offsets and mask with a plain 3x3 convolution.

    That convolution starts at zero, so the layer starts as an ordinary convolution times sigmoid(0) = 0.5.

    Args:
        in_channels: C of the input (B, C, H, W).
        out_channels: O of the output (B, O, H, W).

    Source:
        Zhu et al., Deformable ConvNets v2, 2019, section 3.2.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        # Channels-last, the layout that the matrix product reads.
        weight = torch.empty(out_channels, in_channels, 3, 3).contiguous(memory_format=torch.channels_last)
        bound = (in_channels * 9) ** -0.5
        self.weight = nn.Parameter(nn.init.uniform_(weight, -bound, bound))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        self.conv_offset_mask = nn.Conv2d(in_channels, 27, 3, padding=1)
        nn.init.zeros_(self.conv_offset_mask.weight)
        nn.init.zeros_(self.conv_offset_mask.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, O, H, W)."""
        positions = self.conv_offset_mask(x)
        if positions.dtype in (torch.bfloat16, torch.float16):  # one conversion for both parts
            positions = positions.float()
        offset, mask = positions.split((18, 9), dim=1)
        return deform_conv2d(x, offset, self.weight, self.bias, mask.sigmoid(), padding=1)


class GridSampleDeformConv(nn.Module):
    """A ``DeformConv`` in terms of ``grid_sample``: for runtimes that know no deformable convolution.

    Nine grids, one a tap, are sampled in one call, and a product with the kernel follows; slower, and equal
    up to rounding.

    Args:
        layer: whose weights it shares.
    """

    def __init__(self, layer: DeformConv) -> None:
        super().__init__()
        self.layer = layer
        self.tap_y: Tensor
        self.tap_x: Tensor
        tap = torch.arange(9)
        self.register_buffer("tap_y", (tap // 3 - 1).float()[:, None, None], persistent=False)
        self.register_buffer("tap_x", (tap % 3 - 1).float()[:, None, None], persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, O, H, W)."""
        batch, channels, height, width = x.shape
        offset, mask = self.layer.conv_offset_mask(x).split((18, 9), dim=1)
        row = torch.arange(height, device=x.device, dtype=x.dtype)[None, :, None]
        column = torch.arange(width, device=x.device, dtype=x.dtype)[None, None, :]
        y = offset[:, 0::2] + (row + self.tap_y.to(x.dtype))
        x_ = offset[:, 1::2] + (column + self.tap_x.to(x.dtype))
        # Pixel centres at -1 + 1 / size, ...: the form that needs no size of at least 2.
        grid = torch.stack([(2 * x_ + 1) / width - 1, (2 * y + 1) / height - 1], dim=-1)
        taps = F.grid_sample(
            x, grid.reshape(batch, 9 * height, width, 2), padding_mode="zeros", align_corners=False
        ).reshape(batch, channels, 9, height, width)
        taps = (taps * mask.sigmoid().unsqueeze(1)).reshape(batch, channels * 9, height, width)
        return F.conv2d(taps, self.layer.weight.flatten(1)[..., None, None], self.layer.bias)
