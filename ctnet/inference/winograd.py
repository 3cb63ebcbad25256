"""3x3 convolution with a quarter of the multiplications, for networks that no longer train, on the CPU."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_SIDE = 4  # outputs of a tile in each direction
_REACH = _SIDE + 2  # inputs that they read
_POINTS = (0.0, 0.75, -0.75, 1.5, -1.5)  # exact in binary; a fifth of the rounding error of (0, ±1, ±2)
_BAND = 128  # tiles that are worked on at once: their transforms stay near the cores
_FEWEST = 16  # tiles, below which reading the transformed kernel takes longer than the direct sum


class WinogradConv2d(nn.Conv2d):
    """A 3x3 convolution (stride 1, padding 1) that multiplies in Winograd's transformed domain.

    Tiles of 6x6 inputs become 36 numbers a channel, 36 small matrix products replace the convolution, and
    tiles of 4x4 outputs come back. Rounding errors are about four times those of the direct sum. Small maps,
    other types than float32 and recorded gradients take the direct way. The transformed kernel, four times as
    large as the kernel, is made when it is first wanted.

    Args:
        convolution: the layer to stand in for; its kernel must not change afterwards.

    Source:
        Lavin and Gray, Fast Algorithms for Convolutional Neural Networks, 2016, section 4.
    """

    def __init__(self, convolution: nn.Conv2d) -> None:
        if not fits_winograd(convolution):
            raise ValueError(f"{convolution} is no plain 3x3 convolution with stride 1 and padding 1")
        channels = (convolution.in_channels, convolution.out_channels)
        super().__init__(*channels, 3, padding=1, bias=convolution.bias is not None, device="meta")
        self.weight, self.bias = convolution.weight, convolution.bias
        self.train(convolution.training)
        self._constants: tuple[Tensor, Tensor, Tensor] | None = None

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, O, H, W), channels-last in memory."""
        recording = torch.is_grad_enabled() and (x.requires_grad or self.weight.requires_grad)
        autocast = torch.is_autocast_enabled(x.device.type)
        if x.dtype != torch.float32 or recording or autocast or _tiles(x) < _FEWEST:
            return super().forward(x)
        return self._winograd(x)

    def _winograd(self, x: Tensor) -> Tensor:
        batch, _, height, width = x.shape
        rows, columns = -(-height // _SIDE), -(-width // _SIDE)
        margin = (0, 0, 1, columns * _SIDE - width + 1, 1, rows * _SIDE - height + 1)
        tiles = F.pad(x.permute(0, 2, 3, 1), margin).unfold(1, _REACH, _SIDE).unfold(2, _REACH, _SIDE)
        out = x.new_empty(batch, rows * _SIDE, columns * _SIDE, self.out_channels)
        out_tiles = out.view(batch, rows, _SIDE, columns, _SIDE, self.out_channels)
        for images, band in _bands(batch, rows, columns):
            values = self._transform(tiles[images, band])
            if self.bias is None:
                out_tiles[images, band] = values
            else:
                torch.add(values, self.bias, out=out_tiles[images, band])
        return out[:, :height, :width].contiguous().permute(0, 3, 1, 2)

    def _transform(self, tiles: Tensor) -> Tensor:
        """Input tiles (b, rows, columns, C, 6, 6) -> outputs (b, rows, 4, columns, 4, O)."""
        if self._constants is None:
            self._constants = _constants(self.weight)
        into, kernel, back = self._constants
        inputs = tiles.permute(4, 5, 0, 1, 2, 3).reshape(_REACH**2, -1)
        transformed = (into @ inputs).view(_REACH**2, -1, self.in_channels)
        products = torch.bmm(transformed, kernel)
        outputs = (back @ products.view(_REACH**2, -1)).view(_SIDE, _SIDE, *tiles.shape[:3], -1)
        return outputs.permute(2, 3, 0, 4, 1, 5)


def fits_winograd(module: nn.Module) -> bool:
    """Whether a module is a convolution that ``WinogradConv2d`` can stand in for."""
    if type(module) is not nn.Conv2d or module.padding_mode != "zeros" or module.groups != 1:
        return False
    settings = (module.kernel_size, module.stride, module.padding, module.dilation)
    return settings == ((3, 3), (1, 1), (1, 1), (1, 1))


def _tiles(x: Tensor) -> int:
    return len(x) * -(-x.shape[2] // _SIDE) * -(-x.shape[3] // _SIDE)


def _bands(batch: int, rows: int, columns: int) -> Iterator[tuple[slice, slice]]:
    """Cut (batch, rows) into parts of about ``_BAND`` tiles: some rows of one image, or some whole images."""
    images = max(1, _BAND // (rows * columns))
    height = max(1, min(rows, _BAND // columns))
    for image in range(0, batch, images):
        for row in range(0, rows, height):
            yield slice(image, image + images), slice(row, row + height)


def _constants(weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The transform of tiles (36, 36), the transformed kernel (36, C, O), the transform back (16, 36)."""
    into, kernel, back = _matrices()
    outputs, inputs = weight.shape[:2]
    transformed = torch.kron(kernel, kernel) @ weight.detach().double().reshape(-1, 9).t()
    transformed = transformed.view(-1, outputs, inputs).transpose(1, 2)
    constants = (torch.kron(into, into), transformed, torch.kron(back, back))
    return tuple(matrix.float().contiguous() for matrix in constants)  # type: ignore[return-value]


def _matrices() -> tuple[Tensor, Tensor, Tensor]:
    """Cook and Toom's matrices for 4 outputs of a kernel of 3: of the input, the kernel, the output.

    Polynomials are multiplied by their values at ``_POINTS`` and at infinity, and interpolated (transposed).
    """
    points = torch.tensor(_POINTS, dtype=torch.float64)
    infinity = torch.zeros(1, _REACH, dtype=torch.float64)
    infinity[0, -1] = 1
    powers = points[:, None] ** torch.arange(_REACH)
    others = [points[points != point] for point in points]
    scales = torch.stack([(point - rest).prod() for point, rest in zip(points, others, strict=True)])
    into = torch.stack([_coefficients(roots) for roots in (*others, points)])
    kernel = torch.cat([powers[:, :3] / scales[:, None], infinity[:, -3:]])
    back = torch.cat([powers[:, :_SIDE], infinity[:, -_SIDE:]]).t()
    return into, kernel, back


def _coefficients(roots: Tensor) -> Tensor:
    """Coefficients of the polynomial with these roots, from the constant on, padded to six."""
    polynomial = torch.zeros(_REACH, dtype=torch.float64)
    polynomial[0] = 1
    for root in roots:
        polynomial = polynomial.roll(1) - root * polynomial
    return polynomial
