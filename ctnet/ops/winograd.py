"""Winograd convolutions: a fraction of the multiplications, in float32 on the CPU.

In one dimension, a tile of outputs is ``outputs @ ((kernel @ taps) * (inputs @ pixels))``: few products,
cheap sums. In two dimensions the transforms apply to the columns and the rows of a tile, and each product
becomes a matrix product over the channels, shared by all tiles of a strip. The sums are sparse, and their
terms are whole channels-last pixels: ``embedding_bag`` computes them with vector instructions, straight from
one map into the next, so that nothing is cropped, padded or transposed.

Source:
    Lavin and Gray, Fast Algorithms for Convolutional Neural Networks, 2016, section 4.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

Kind = Literal["3x3", "up"]

_POINTS = (0.0, 0.75, -0.75, 1.5, -1.5)  # exact in binary; a fifth of the rounding error of (0, ±1, ±2)
_SIDE = 4  # inputs from one tile to the next, in each direction
_STRIP = 128  # tiles that are processed together: their transforms stay in the cache
_FEWEST = 16  # tiles, below which reading the transformed kernel takes longer than a direct convolution
ALIGNMENT = 8  # matrix products with other numbers of columns take up to twice as long


@dataclass(frozen=True)
class Algorithm:
    """The transforms of a convolution in one dimension; the first tile begins one input before the map.

    Attributes:
        inputs: (P, n), from n inputs to the P factors of the products.
        kernel: (P, k), from the k taps to the other factors.
        outputs: (q, P), from the products to q outputs.
    """

    inputs: Tensor
    kernel: Tensor
    outputs: Tensor


@cache
def algorithm(kind: Kind) -> Algorithm:
    """For 3 taps: 4 outputs from 6 inputs and 6 products. For up-convolutions: 8 from 6 and 10.

    An up-convolution of 4 taps gives even and odd outputs of two taps each, whose inputs begin one apart.
    """
    if kind == "3x3":
        return Algorithm(*_toom_cook(3))
    inputs, kernel, outputs = _toom_cook(2)
    return Algorithm(
        torch.cat([F.pad(inputs, (0, 1)), F.pad(inputs, (1, 0))]),
        torch.cat([kernel @ _selection(3, 1), kernel @ _selection(2, 0)]),
        torch.stack([F.pad(outputs, (0, 5)), F.pad(outputs, (5, 0))], dim=1).flatten(0, 1),
    )


def _selection(*taps: int) -> Tensor:
    """(2, 4): two taps of four."""
    return torch.eye(4, dtype=torch.float64)[list(taps)]


def _toom_cook(taps: int) -> tuple[Tensor, Tensor, Tensor]:
    """Toom-Cook matrices for 4 outputs: transforms of the inputs, the taps and the outputs.

    Polynomials are evaluated at ``_POINTS`` and at infinity, multiplied there and interpolated (transposed).
    """
    reach = _SIDE + taps - 1
    points = torch.tensor(_POINTS[: reach - 1], dtype=torch.float64)
    infinity = torch.zeros(1, reach, dtype=torch.float64)
    infinity[0, -1] = 1
    powers = points[:, None] ** torch.arange(reach)
    others = [points[points != point] for point in points]
    scales = torch.stack([(point - rest).prod() for point, rest in zip(points, others, strict=True)])
    inputs = torch.stack([_coefficients(roots, reach) for roots in (*others, points)])
    kernel = torch.cat([powers[:, :taps] / scales[:, None], infinity[:, -taps:]])
    outputs = torch.cat([powers[:, :_SIDE], infinity[:, -_SIDE:]]).t()
    return inputs, kernel, outputs


def _coefficients(roots: Tensor, length: int) -> Tensor:
    """Coefficients of the polynomial with these roots, constant term first, padded with zeros."""
    polynomial = torch.zeros(length, dtype=torch.float64)
    polynomial[0] = 1
    for root in roots:
        polynomial = polynomial.roll(1) - root * polynomial
    return polynomial


def fits(x: Tensor) -> bool:
    """Whether this is faster for a map (B, C, H, W), judging by its device, dtype and size."""
    tiles = len(x) * -(-x.shape[2] // _SIDE) * -(-x.shape[3] // _SIDE)
    plain = x.dtype == torch.float32 and x.device.type == "cpu" and not torch.is_autocast_enabled("cpu")
    return plain and tiles >= _FEWEST


def transform_kernel(kind: Kind, taps: Tensor, out: Tensor | None = None) -> Tensor:
    """(k, k, C, O) taps -> (P * P, C, O), of their dtype; C and O may be swapped."""
    both = _in_both_directions(kind, taps.dtype)
    transformed = torch.mm(both, taps.reshape(both.shape[1], -1), out=None if out is None else out.flatten(1))
    return transformed.view(-1, *taps.shape[2:])


def _in_both_directions(kind: Kind, dtype: torch.dtype) -> Tensor:
    """(P * P, k * k): taps to factors, in two dimensions."""
    matrix = algorithm(kind).kernel.to(dtype)
    return torch.kron(matrix, matrix)


def convolve(
    kind: Kind,
    x: Tensor,
    kernel: Tensor,
    bias: Tensor | None = None,
    tail: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """The convolution, in the Winograd domain.

    Args:
        kind: kind of convolution.
        x: (B, C, H, W) float32.
        kernel: (P * P, C, O), transformed; O is a multiple of ``ALIGNMENT``.
        bias: (O,).
        tail: kernel (O, T) and bias (T,) of a 1x1 convolution that follows after a ReLU.

    Returns:
        (B, O or T, H', W'), channels-last in memory.
    """
    batch, channels, height, width = x.shape
    scale = len(algorithm(kind).outputs) // _SIDE
    table = x.permute(0, 2, 3, 1).reshape(-1, channels)
    outputs = kernel.shape[2] if tail is None else len(tail[1])
    out = x.new_empty(batch * height * width * scale**2, outputs)
    for read, written, (images, above, rows, _, own) in _strips(kind, batch, height, width):
        down, across = _split(kind, "inputs", images, above, rows, width, own)
        up, along = _joined(kind, images, width, own)
        factors = _add(across, _add(down, table[read])).view(len(kernel), -1, channels)
        products = torch.bmm(factors, kernel).view(-1, kernel.shape[2])
        pixels = _add(along, _add(up, products))
        shift = 0.0 if bias is None else bias
        if tail is None:
            torch.add(pixels, shift, out=out[written])
        else:
            torch.addmm(tail[1], pixels.add_(shift).relu_(), tail[0], out=out[written])
    return out.view(batch, height * scale, width * scale, -1).permute(0, 3, 1, 2)


def kernel_gradient(x: Tensor, gradient: Tensor, work: Tensor | None = None) -> Tensor:
    """Gradient of a 3x3 convolution's taps: (3, 3, O, C).

    Args:
        x: (B, C, H, W) float32, its input.
        gradient: (B, O, H, W), of its output.
        work: (P * P, O, C), scratch memory.
    """
    kind: Kind = "3x3"
    batch, channels, height, width = x.shape
    outputs = gradient.shape[1]
    table = x.permute(0, 2, 3, 1).reshape(-1, channels)
    slopes = gradient.permute(0, 2, 3, 1).reshape(-1, outputs)
    both = _in_both_directions(kind, x.dtype)
    total = x.new_empty(len(both), outputs, channels) if work is None else work
    before = 0.0  # the first strip has nothing to add to
    for read, written, (images, above, rows, _, own) in _strips(kind, batch, height, width):
        down, across = _split(kind, "inputs", images, above, rows, width, own)
        factors = _add(across, _add(down, table[read])).view(len(both), -1, channels)
        down, across = _split(kind, "outputs", images, 0, own, width, own)
        others = _add(across, _add(down, slopes[written])).view(len(both), -1, outputs)
        torch.baddbmm(total, others.transpose(1, 2), factors, beta=before, out=total)
        before = 1.0
    return (both.t() @ total.flatten(1)).view(3, 3, outputs, channels)


# --- strips of tiles, and the sparse sums over their pixels


class _Sums(NamedTuple):
    """Weighted sums of rows of a table: the transform of a strip in one direction."""

    rows: Tensor  # (n,) int32, the rows to read, sum by sum
    starts: Tensor  # (sums + 1,) int32, where each sum begins in ``rows`` and ``weights``
    weights: Tensor  # (n,) float32


def _add(sums: _Sums, table: Tensor) -> Tensor:
    """(rows, C) -> (sums, C)."""
    result: Tensor = torch.embedding_bag(
        table, sums.rows, sums.starts, False, 0, False, sums.weights, include_last_offset=True
    )[0]
    return result


def _as_sums(rows: Tensor, weights: Tensor) -> _Sums:
    """Sums over the last dimension; terms of weight zero are left out."""
    rows, weights = torch.broadcast_tensors(rows, weights)  # type: ignore[no-untyped-call]
    rows, weights = rows.flatten(0, -2), weights.flatten(0, -2)
    used = weights != 0
    starts = F.pad(used.sum(1).cumsum(0), (1, 0))
    return _Sums(rows[used].int(), starts.int(), weights[used].float())


_Strip = tuple[int, int, int, int, int]


def _strips(kind: Kind, batch: int, height: int, width: int) -> Iterator[tuple[slice, slice, _Strip]]:
    """Split a batch of maps into strips of about ``_STRIP`` tiles: rows of one image, or whole images.

    Yields the pixels that a strip reads, those that it writes, and its sizes: images, rows read above its
    own, rows and columns that it reads, its own rows.
    """
    reach, scale = algorithm(kind).inputs.shape[1], len(algorithm(kind).outputs) // _SIDE
    tile_rows, tile_columns = -(-height // _SIDE), -(-width // _SIDE)
    step = _SIDE * max(1, min(tile_rows, _STRIP // tile_columns))
    step_images = max(1, _STRIP // (tile_rows * tile_columns))
    for image in range(0, batch, step_images):
        images = min(step_images, batch - image)
        for top in range(0, height, step):
            bottom = min(top + step, height)
            first = max(0, top - 1)
            rows = min(height, top - 1 - _SIDE + -(-(bottom - top) // _SIDE) * _SIDE + reach) - first
            read, write = (image * height + first) * width, (image * height + top) * width * scale**2
            yield (
                slice(read, read + images * rows * width),
                slice(write, write + images * (bottom - top) * width * scale**2),
                (images, top - first, rows, width, bottom - top),
            )


@lru_cache(maxsize=128)
def _split(
    kind: Kind,
    side: Literal["inputs", "outputs"],
    images: int,
    above: int,
    rows: int,
    width: int,
    height: int,
) -> tuple[_Sums, _Sums]:
    """The sums that transform the pixels of a strip into factors: down, then across.

    Factors are in the order (point down, point across, image, row of tiles, column of tiles).

    Args:
        kind: kind of convolution.
        side: whose pixels: of the inputs or, for gradients, of the outputs, whose tiles do not overlap.
        images: covered by the strip.
        above: rows that it reads above its own, 0 or 1. Outside of these there are zeros.
        rows, width: that it reads.
        height: its own rows.
    """
    matrix, before = (algorithm(kind).inputs, 1) if side == "inputs" else (algorithm(kind).outputs.t(), 0)
    points, reach = matrix.shape
    tile_rows, tile_columns = -(-height // _SIDE), -(-width // _SIDE)

    image, row, point, x, tap = _grid(images, tile_rows, points, width, reach)
    y = row * _SIDE + tap - before + above
    inside = (y >= 0) & (y < rows)
    down = _as_sums((image * rows + y) * width + x, matrix[point, tap] * inside)

    point, other, image, row, column, tap = _grid(points, points, images, tile_rows, tile_columns, reach)
    x = column * _SIDE + tap - before
    inside = (x >= 0) & (x < width)
    across = _as_sums(((image * tile_rows + row) * points + point) * width + x, matrix[other, tap] * inside)
    return down, across


@lru_cache(maxsize=128)
def _joined(kind: Kind, images: int, width: int, height: int) -> tuple[_Sums, _Sums]:
    """The sums that transform products, in the order of ``_split``, into pixels: down, then across.

    Args:
        kind: kind of convolution.
        images: covered by the strip.
        width, height: its own columns and rows, before an up-convolution doubles them.
    """
    matrix = algorithm(kind).outputs
    outputs, points = matrix.shape
    scale = outputs // _SIDE
    tile_rows, tile_columns = -(-height // _SIDE), -(-width // _SIDE)

    image, y, other, column, point = _grid(images, height * scale, points, tile_columns, points)
    tile = (image * tile_rows + y // outputs) * tile_columns + column
    tiles = images * tile_rows * tile_columns
    up = _as_sums((point * points + other) * tiles + tile, matrix[y % outputs, point])

    image, y, x, point = _grid(images, height * scale, width * scale, points)
    place = ((image * height * scale + y) * points + point) * tile_columns + x // outputs
    along = _as_sums(place, matrix[x % outputs, point])
    return up, along


def _grid(*sizes: int) -> tuple[Tensor, ...]:
    """Index arrays of these sizes that broadcast against each other."""
    return tuple(
        torch.arange(size).view(-1, *[1] * (len(sizes) - axis - 1)) for axis, size in enumerate(sizes)
    )
