"""Camera geometry: projection, 3D boxes, angles.

The camera's frame: x right, y down, z forward, metres, as in KITTI's labels. A camera is its matrix P (3x4)
from there to homogeneous pixels, whose last column (the camera's offset from the frame's origin) is used.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from ctnet.plugin import LARGEST_COORDINATE

#: Points nearer than this, or behind the camera, are projected as if at this distance, metres.
NEAR = 0.1

#: The corner that each one becomes when the scene is mirrored, see ``box_corners``.
MIRRORED_CORNERS = (1, 0, 3, 2, 5, 4, 7, 6)

# Corners of a box of height, width and length 1 whose bottom centre is the origin: floor, then roof.
_CORNERS = np.array(
    [
        [x, y, z]
        for y in (0.0, -1.0)
        for x, z in ((0.5, 0.5), (0.5, -0.5), (-0.5, -0.5), (-0.5, 0.5))
    ]
)  # fmt: skip


def camera_of(record: Mapping[str, Any]) -> np.ndarray | None:
    """The camera of an image, (3, 4) float64; None where its entry has no ``calib``.

    Args:
        record: the image's entry of the COCO file.

    Raises:
        ValueError: for a ``calib`` that is not a 3x4 matrix of finite numbers with positive focal lengths.
    """
    if record.get("calib") is None:
        return None
    try:
        matrix = np.array(record["calib"], np.float64)
    except (TypeError, ValueError, OverflowError):
        matrix = np.zeros(0)
    if matrix.shape != (3, 4) or not (np.abs(matrix) <= LARGEST_COORDINATE).all():
        raise ValueError("calib is not a 3x4 matrix of finite numbers")
    if not (matrix[0, 0] > 0 and matrix[1, 1] > 0 and matrix[2, 2] > 0):
        raise ValueError("calib has a focal length that is not positive")
    return matrix


def known_camera(record: Mapping[str, Any]) -> np.ndarray | None:
    """As ``camera_of``; None also where it would raise, for callers that report it elsewhere."""
    try:
        return camera_of(record)
    except ValueError:
        return None


def project(points: np.ndarray, camera: np.ndarray) -> np.ndarray:
    """Points (..., 3) of the camera's frame -> (..., 2) image pixels; see ``NEAR``."""
    x, y, z = np.moveaxis(np.asarray(points, np.float64), -1, 0)
    seen = np.stack([x, y, np.maximum(z, NEAR - camera[2, 3])], axis=-1)
    homogeneous = seen @ camera[:, :3].T + camera[:, 3]
    return np.asarray(homogeneous[..., :2] / homogeneous[..., 2:])


def unproject(pixels: np.ndarray, depth: np.ndarray, camera: np.ndarray) -> np.ndarray:
    """Points of the camera's frame from pixels and depths.

    Args:
        pixels: (N, 2), image pixels.
        depth: (N,), metres along the optical axis from the camera itself: z plus the camera's own offset
            ``camera[2, 3]``.
        camera: (3, 4), without skew.

    Returns:
        (N, 3), metres.

    Source: section 4.1; the released code's inverse of the projection.
    """
    z = depth - camera[2, 3]
    focal, principal = camera[[0, 1], [0, 1]], camera[:2, 2]
    across = (pixels * depth[:, None] - camera[:2, 3] - principal * z[:, None]) / focal
    return np.concatenate([across, z[:, None]], axis=1)


def box_corners(dimensions: np.ndarray, location: np.ndarray, rotation_y: np.ndarray) -> np.ndarray:
    """The corners of boxes: bottom (front left, front right, back right, back left), then top.

    Left is the driver's left: an unrotated box faces along x, with z on its left.

    Args:
        dimensions: (N, 3) height, width, length, metres.
        location: (N, 3), bottom centre.
        rotation_y: (N,), rad, about the y axis.

    Returns:
        (N, 8, 3).
    """
    height, width, length = dimensions.T
    local = _CORNERS * np.stack([length, height, width], axis=1)[:, None]
    cos, sin = np.cos(rotation_y)[:, None], np.sin(rotation_y)[:, None]
    x, y, z = np.moveaxis(local, 2, 0)
    return np.asarray(location[:, None] + np.stack([cos * x + sin * z, y, cos * z - sin * x], axis=2))


def heading(dimensions: np.ndarray, location: np.ndarray, rotation_y: np.ndarray) -> np.ndarray:
    """(N, 2, 3): from each box's bottom centre one length ahead; arguments as ``box_corners``."""
    ahead = np.stack([np.cos(rotation_y), np.zeros_like(rotation_y), -np.sin(rotation_y)], axis=1)
    return np.stack([location, location + dimensions[:, 2:] * ahead], axis=1)


def middle(dimensions: np.ndarray, location: np.ndarray) -> np.ndarray:
    """(N, 3): the centres of boxes whose bottom centres are ``location`` (N, 3)."""
    raised = np.array(location, np.float64)
    raised[:, 1] -= dimensions[:, 0] / 2
    return raised


def wrap(angle: Any) -> Any:
    """The same angle in [-pi, pi)."""
    return (angle + math.pi) % (2 * math.pi) - math.pi


def rotation_of(alpha: Any, x: Any, camera: np.ndarray) -> Any:
    """Rotation about the y axis from the observation angle and the direction of the ray to the object.

    Args:
        alpha: observation angle, rad.
        x: x coordinate of the object's pixel.
        camera: (3, 4).
    """
    return wrap(alpha + np.arctan2(x - camera[0, 2], camera[0, 0]))


def observation_of(rotation_y: Any, x: Any, camera: np.ndarray) -> Any:
    """Observation angle from the rotation about the y axis; the inverse of ``rotation_of``."""
    return wrap(rotation_y - np.arctan2(x - camera[0, 2], camera[0, 0]))
