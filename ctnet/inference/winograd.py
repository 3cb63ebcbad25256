"""Convolutions with a fraction of the multiplications, for networks that no longer train, on the CPU.

In one dimension, a tile of outputs is ``back @ ((kernel @ taps) * (into @ inputs))``: few products, cheap
sums. In two dimensions the same happens to the columns and to the rows of a tile, and each product of numbers
is a matrix product over the channels, which all tiles of a strip share. The sums are sparse, and their terms
are whole channels-last pixels: ``embedding_bag`` computes them with vector instructions, straight from one
map and straight into the next, so that nothing is cut out, padded or transposed.

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
from torch import Tensor, nn

Kind = Literal["3x3", "up"]
Layer = nn.Conv2d | nn.ConvTranspose2d

_POINTS = (0.0, 0.75, -0.75, 1.5, -1.5)  # exact in binary; a fifth of the rounding error of (0, ±1, ±2)
_SIDE = 4  # inputs from a tile to the next, in each direction
_STRIP = 128  # tiles that are worked on at once: their transforms stay near the cores
_FEWEST = 16  # tiles, below which reading the transformed kernel takes longer than the direct sum
_ALIGNMENT = 8  # products of other numbers of columns take up to twice as long


@dataclass(frozen=True)
class Algorithm:
    """One dimension of a convolution, by tiles; the first tile begins one input before the map.

    Attributes:
        into: (P, n), n inputs to the P factors of the products.
        kernel: (P, k), the k taps to the other factors.
        back: (q, P), products to q outputs.
    """

    into: Tensor
    kernel: Tensor
    back: Tensor


@cache
def algorithm(kind: Kind) -> Algorithm:
    """For 3 taps: 4 outputs from 6 inputs and 6 products. For up-convolutions: 8 from 6 and 10.

    An up-convolution of 4 taps gives even and odd outputs of two taps each, whose inputs begin one apart.
    """
    if kind == "3x3":
        return Algorithm(*_toom_cook(3))
    into, kernel, back = _toom_cook(2)
    return Algorithm(
        torch.cat([F.pad(into, (0, 1)), F.pad(into, (1, 0))]),
        torch.cat([kernel @ _selection(3, 1), kernel @ _selection(2, 0)]),
        torch.stack([F.pad(back, (0, 5)), F.pad(back, (5, 0))], dim=1).flatten(0, 1),
    )


def _selection(*taps: int) -> Tensor:
    """(2, 4): two taps of four."""
    return torch.eye(4, dtype=torch.float64)[list(taps)]


def _toom_cook(taps: int) -> tuple[Tensor, Tensor, Tensor]:
    """Cook and Toom's matrices for 4 outputs: of the inputs, of the taps, of the outputs.

    Polynomials are multiplied by their values at ``_POINTS`` and at infinity, and interpolated (transposed).
    """
    reach = _SIDE + taps - 1
    points = torch.tensor(_POINTS[: reach - 1], dtype=torch.float64)
    infinity = torch.zeros(1, reach, dtype=torch.float64)
    infinity[0, -1] = 1
    powers = points[:, None] ** torch.arange(reach)
    others = [points[points != point] for point in points]
    scales = torch.stack([(point - rest).prod() for point, rest in zip(points, others, strict=True)])
    into = torch.stack([_coefficients(roots, reach) for roots in (*others, points)])
    kernel = torch.cat([powers[:, :taps] / scales[:, None], infinity[:, -taps:]])
    back = torch.cat([powers[:, :_SIDE], infinity[:, -_SIDE:]]).t()
    return into, kernel, back


def _coefficients(roots: Tensor, length: int) -> Tensor:
    """Coefficients of the polynomial with these roots, from the constant on, padded with zeros."""
    polynomial = torch.zeros(length, dtype=torch.float64)
    polynomial[0] = 1
    for root in roots:
        polynomial = polynomial.roll(1) - root * polynomial
    return polynomial


def winograd_kind(module: nn.Module) -> Kind | None:
    """The algorithm for a module, or None if it is no convolution that has one."""
    if not isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)) or module.padding_mode != "zeros":
        return None
    settings = (module.kernel_size, module.stride, module.padding, module.dilation, module.groups)
    if type(module) is nn.Conv2d and settings == ((3, 3), (1, 1), (1, 1), (1, 1), 1):
        return "3x3"
    if type(module) is nn.ConvTranspose2d and settings == ((4, 4), (2, 2), (1, 1), (1, 1), 1):
        return "up" if module.output_padding == (0, 0) else None
    return None


class WinogradConv2d(nn.Module):
    """A convolution that multiplies in Winograd's transformed domain.

    Rounding errors are a few times those of the direct sum. Small maps, other types than float32, other
    devices and recorded gradients take the direct way. The transformed kernel (4 times as large as the
    kernel, 6 times for an up-convolution) is made when it is first wanted.

    Args:
        convolution: the layer to stand in for; its kernel must not change afterwards.
        tail: a 1x1 convolution that follows after a ReLU: it reads the map between while that is at hand.

    Raises:
        ValueError: if there is no algorithm for the layer.
    """

    def __init__(self, convolution: Layer, tail: nn.Conv2d | None = None) -> None:
        super().__init__()
        kind = winograd_kind(convolution)
        if kind is None:
            raise ValueError(
                f"{convolution} is no 3x3 convolution with padding 1, nor one that doubles a map"
            )
        self.kind, self.convolution, self.tail = kind, convolution, tail
        self.out_channels = (convolution if tail is None else tail).out_channels
        self._constants: _Constants | None = None

    @property
    def weight(self) -> Tensor:
        """The convolution's, for whoever reads it."""
        return self.convolution.weight

    @property
    def bias(self) -> Tensor | None:
        """The convolution's, likewise."""
        return self.convolution.bias

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, O, H', W'), channels-last in memory."""
        if self._fits(x):
            return self._winograd(x)
        out: Tensor = self.convolution(x)
        return out if self.tail is None else self.tail(out.relu())

    def _fits(self, x: Tensor) -> bool:
        recording = torch.is_grad_enabled() and (x.requires_grad or self.convolution.weight.requires_grad)
        tiles = len(x) * -(-x.shape[2] // _SIDE) * -(-x.shape[3] // _SIDE)
        plain = x.dtype == torch.float32 and x.device.type == "cpu" and not torch.is_autocast_enabled("cpu")
        return plain and not recording and tiles >= _FEWEST

    def _winograd(self, x: Tensor) -> Tensor:
        if self._constants is None:
            self._constants = _constants(self.kind, self.convolution, self.tail)
        kernel, bias, tail = self._constants
        batch, channels, height, width = x.shape
        scale = len(algorithm(self.kind).back) // _SIDE
        table = x.permute(0, 2, 3, 1).reshape(-1, channels)
        out = x.new_empty(batch * height * width * scale**2, len(bias if tail is None else tail[1]))
        for read, written, strip in _strips(self.kind, batch, height, width):
            down, across, up, along = _sums(self.kind, *strip)
            factors = _add(across, _add(down, table[read])).view(len(kernel), -1, channels)
            products = torch.bmm(factors, kernel).view(-1, len(bias))
            pixels = _add(along, _add(up, products))
            if tail is None:
                torch.add(pixels, bias, out=out[written])
            else:
                torch.addmm(tail[1], pixels.add_(bias).relu_(), tail[0], out=out[written])
        maps = out.view(batch, height * scale, width * scale, -1).permute(0, 3, 1, 2)
        return maps[:, : self.out_channels]


_Constants = tuple[Tensor, Tensor, tuple[Tensor, Tensor] | None]


def _constants(kind: Kind, layer: Layer, tail: nn.Conv2d | None) -> _Constants:
    """The transformed kernel (P*P, C, O), the bias (O,), the tail's kernel (O, T) and bias (T,)."""
    taps = layer.weight.detach().double()
    taps = taps.permute(2, 3, 0, 1) if kind == "up" else taps.permute(2, 3, 1, 0)
    matrix = algorithm(kind).kernel
    transformed = torch.einsum("pi,qj,ijco->pqco", matrix, matrix, taps).flatten(0, 1)
    kernel, bias = _filled_up(transformed, layer.bias)
    if tail is None:
        return kernel, bias, None
    mixing = tail.weight.detach()[:, :, 0, 0].t()
    return kernel, bias, _filled_up(F.pad(mixing, (0, 0, 0, len(bias) - len(mixing))), tail.bias)


def _filled_up(kernel: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
    """Kernel (..., O) and bias (O,) with zeros up to a good number of outputs."""
    outputs = kernel.shape[-1]
    bias = kernel.new_zeros(outputs) if bias is None else bias.detach()
    kernel, bias = (F.pad(t, (0, -outputs % _ALIGNMENT)) for t in (kernel, bias))
    return kernel.float().contiguous(), bias.float()


# --- strips of tiles, and the sparse sums over their pixels


class _Sums(NamedTuple):
    """Weighted sums of rows of a table: the transform of a strip in one direction."""

    rows: Tensor  # (n,) int32, the rows that are read, sum by sum
    starts: Tensor  # (sums + 1,) int32, where each sum begins in the two others
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
    """Cut a batch of maps into parts of about ``_STRIP`` tiles: rows of tiles of one image, or whole images.

    Yields the pixels that a strip reads, those that it writes, and its sizes (see ``_sums``).
    """
    reach, scale = algorithm(kind).into.shape[1], len(algorithm(kind).back) // _SIDE
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


@lru_cache(maxsize=64)
def _sums(
    kind: Kind, images: int, above: int, rows: int, width: int, height: int
) -> tuple[_Sums, _Sums, _Sums, _Sums]:
    """What turns the pixels of a strip into factors (down, then across) and products into pixels.

    Factors and products lie in the order (point down, point across, image, row of tiles, column of tiles).

    Args:
        images: that the strip covers.
        above: rows that it reads above its own, 0 or 1. Beyond what it reads there are zeros.
        rows, width: that it reads.
        height: its own rows.
    """
    into, back = algorithm(kind).into, algorithm(kind).back
    (points, reach), outputs = into.shape, len(back)
    scale = outputs // _SIDE
    tile_rows, tile_columns = -(-height // _SIDE), -(-width // _SIDE)

    image, row, point, x, tap = _grid(images, tile_rows, points, width, reach)
    y = row * _SIDE + tap - 1 + above
    inside = (y >= 0) & (y < rows)
    down = _as_sums((image * rows + y) * width + x, into[point, tap] * inside)

    point, other, image, row, column, tap = _grid(points, points, images, tile_rows, tile_columns, reach)
    x = column * _SIDE + tap - 1
    inside = (x >= 0) & (x < width)
    across = _as_sums(((image * tile_rows + row) * points + point) * width + x, into[other, tap] * inside)

    image, y, other, column, point = _grid(images, height * scale, points, tile_columns, points)
    tile = (image * tile_rows + y // outputs) * tile_columns + column
    tiles = images * tile_rows * tile_columns
    up = _as_sums((point * points + other) * tiles + tile, back[y % outputs, point])

    image, y, x, point = _grid(images, height * scale, width * scale, points)
    place = ((image * height * scale + y) * points + point) * tile_columns + x // outputs
    along = _as_sums(place, back[x % outputs, point])
    return down, across, up, along


def _grid(*sizes: int) -> tuple[Tensor, ...]:
    """Indices of an array of these sizes, to be broadcast."""
    return tuple(
        torch.arange(size).view(-1, *[1] * (len(sizes) - axis - 1)) for axis, size in enumerate(sizes)
    )
