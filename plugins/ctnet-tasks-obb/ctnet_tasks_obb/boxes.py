"""Rotated rectangles: from four corners to centre, size and axis, and back."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ctnet.plugin import rotated_iou


class Rectangles(NamedTuple):
    """Rectangles by their axes; the long side is always the first.

    A rectangle is symmetric under rotation by 180 degrees, so ``axis`` and ``-axis`` are equivalent.

    Attributes:
        centre: (N, 2) float64, (x, y) in the corners' frame.
        size: (N, 2) float64, length and width, length >= width.
        axis: (N,) complex128 of modulus 1, the direction of the long side (real part x, imaginary part y).
    """

    centre: np.ndarray
    size: np.ndarray
    axis: np.ndarray

    @property
    def angle(self) -> np.ndarray:
        """(N,) of the long side, rad in (-pi/2, pi/2], from the x axis towards the y axis."""
        return np.asarray(np.angle(self.axis**2) / 2)

    @property
    def corners(self) -> np.ndarray:
        """(N, 4, 2) float64, in order around each rectangle."""
        along, across = self.axis * self.size[:, 0] / 2, 1j * self.axis * self.size[:, 1] / 2
        middle = self.centre[:, 0] + 1j * self.centre[:, 1]
        points = np.stack([-along - across, along - across, along + across, across - along], axis=1)
        points += middle[:, None]
        return np.stack([points.real, points.imag], axis=2)


def rectangles(corners: np.ndarray) -> Rectangles:
    """The least-squares rectangles of four corners.

    The corners of a rectangle, in either direction and from any start, give that rectangle.

    Args:
        corners: (N, 4, 2) float, (x, y), in order around each rectangle.
    """
    points = corners[..., 0].astype(np.complex128) + 1j * corners[..., 1]
    along = (points[:, 1] - points[:, 0] + points[:, 2] - points[:, 3]) / 2
    across = (points[:, 3] - points[:, 0] + points[:, 2] - points[:, 1]) / 2
    # Squaring a complex number doubles its angle: opposite directions agree, and 90 degrees is a minus sign.
    doubled = along**2 - across**2
    axis = np.exp(0.5j * np.angle(doubled))
    size = np.stack([np.abs((along / axis).real), np.abs((across / axis).imag)], axis=1)
    lying = size[:, 1] > size[:, 0]
    centre = points.mean(axis=1)
    return Rectangles(
        np.stack([centre.real, centre.imag], axis=1),
        np.where(lying[:, None], size[:, ::-1], size),
        np.where(lying, 1j * axis, axis),
    )


def corners_iou(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """IoU (N, M) of the least-squares rectangles of corners (N, 4, 2) and (M, 4, 2); 0 without area."""
    one, other = (
        np.column_stack([boxes.centre, boxes.size, boxes.angle]) for boxes in map(rectangles, (first, second))
    )
    return rotated_iou(one[:, None], other[None])


def misfit(corners: np.ndarray) -> np.ndarray:
    """(N,): largest distance of a corner from the least-squares rectangle, in the corners' unit."""
    fitted = rectangles(corners).corners
    gaps = np.linalg.norm(corners[:, :, None] - fitted[:, None], axis=3)
    return np.asarray(gaps.min(axis=2).max(axis=1, initial=0))


def corners_of(centre: Tensor, size: Tensor, angle: Tensor) -> Tensor:
    """Corners (..., 4, 2), in order around each rectangle.

    Args:
        centre: (..., 2), (x, y).
        size: (..., 2), along and across the angle.
        angle: (...,), rad, from the x axis towards the y axis.
    """
    cos, sin = torch.cos(angle), torch.sin(angle)
    along = torch.stack([cos, sin], dim=-1) * size[..., :1] / 2
    across = torch.stack([-sin, cos], dim=-1) * size[..., 1:] / 2
    around = [-along - across, along - across, along + across, across - along]
    return centre.unsqueeze(-2) + torch.stack(around, dim=-2)
