"""Affine maps between image, network input and output grid. Points are (x, y), integer at pixel centres."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ctnet.core.records import ImageInfo

#: How an image is fitted into an input, see ``Layout``.
Fit = Literal["inside", "width"]


@dataclass(frozen=True)
class Affine:
    """A 2x3 matrix that maps points (x, y, 1) of one frame to another.

    Attributes:
        matrix: (2, 3) float64.
    """

    matrix: np.ndarray

    @classmethod
    def identity(cls) -> Affine:
        """The identity map."""
        return cls(np.array([[1.0, 0, 0], [0, 1.0, 0]]))

    @classmethod
    def scaling(cls, x: float, y: float | None = None) -> Affine:
        """Multiply coordinates, about the origin."""
        return cls(np.array([[x, 0, 0], [0, x if y is None else y, 0]], np.float64))

    @classmethod
    def mirror(cls, width: float) -> Affine:
        """Mirror left and right in a frame ``width`` pixels wide: x -> width - 1 - x."""
        return cls(np.array([[-1.0, 0, width - 1], [0, 1, 0]]))

    @classmethod
    def centred(
        cls,
        centre: tuple[float, float],
        side: float,
        output: tuple[float, float],
        degrees: float = 0.0,
    ) -> Affine:
        """Map ``centre`` to the middle of an output whose width spans ``side`` pixels of the source.

        The map is a similarity: only the width sets the scale; the height follows.

        Args:
            centre: (x, y) in the source frame.
            side: source pixels across the output's width.
            output: (width, height) of the output.
            degrees: rotation of the crop window in the source, clockwise with y pointing down.

        Source: the released code's affine transform, in closed form.
        """
        factor = output[0] / side
        cos, sin = (factor * f(math.radians(degrees)) for f in (math.cos, math.sin))
        linear = np.array([[cos, sin], [-sin, cos]])
        shift = np.array(output, np.float64) / 2 - linear @ np.array(centre, np.float64)
        return cls(np.concatenate([linear, shift[:, None]], axis=1))

    def after(self, first: Affine) -> Affine:
        """The map that applies ``first`` and then this one."""
        linear = self.matrix[:, :2] @ first.matrix[:, :2]
        shift = self.matrix[:, :2] @ first.matrix[:, 2] + self.matrix[:, 2]
        return Affine(np.concatenate([linear, shift[:, None]], axis=1))

    def inverse(self) -> Affine:
        """The inverse map.

        Raises:
            ValueError: when the map is singular.
        """
        linear = self.matrix[:, :2]
        if abs(np.linalg.det(linear)) < 1e-12:
            raise ValueError(f"affine map {self.matrix.tolist()} has no inverse")
        back = np.linalg.inv(linear)
        return Affine(np.concatenate([back, -(back @ self.matrix[:, 2])[:, None]], axis=1))

    def points(self, points: np.ndarray) -> np.ndarray:
        """Map points (..., 2) of any float type; the dtype is kept, the arithmetic is float64."""
        moved = points.astype(np.float64) @ self.matrix[:, :2].T + self.matrix[:, 2]
        result: np.ndarray = moved.astype(points.dtype)
        return result

    def boxes(self, boxes: np.ndarray) -> np.ndarray:
        """Map xyxy boxes (..., 4) to the axis-aligned boxes around their mapped corners."""
        corners = self.points(boxes[..., [0, 1, 2, 1, 2, 3, 0, 3]].reshape(*boxes.shape[:-1], 4, 2))
        return np.concatenate([corners.min(axis=-2), corners.max(axis=-2)], axis=-1)

    def warp(self, image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """Resample an image (H, W, 3) uint8 bilinearly to ``size`` = (width, height), padded with black."""
        import cv2

        return np.asarray(cv2.warpAffine(image, self.matrix, size, flags=cv2.INTER_LINEAR))


@dataclass(frozen=True)
class View:
    """An image, and how the output grid maps to it.

    Attributes:
        info: identity and size of the image.
        affine: grid -> image pixels.
    """

    info: ImageInfo
    affine: Affine

    @classmethod
    def through(cls, info: ImageInfo, to_input: Affine, stride: int) -> View:
        """The view of an image that was mapped into the network's input.

        Args:
            info: the image.
            to_input: image pixels -> input pixels.
            stride: input pixels per cell of the grid.
        """
        return cls(info, Affine.scaling(1 / stride).after(to_input).inverse())
