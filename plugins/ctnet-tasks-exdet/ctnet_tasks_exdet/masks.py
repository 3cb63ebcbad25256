"""Extreme points of outlines."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

#: Points within this part of the mask's extent from its edge lie on the edge.
_EDGE = 0.02
#: By how much a mask may miss its box and still be its mask: a part of the box's side, or pixels.
_SLACK, _SLACK_PIXELS = 0.05, 2.0


def reach_of(contours: Sequence[np.ndarray]) -> np.ndarray:
    """The box (4,) xyxy around outlines."""
    points = np.concatenate(contours)
    return np.concatenate([points.min(axis=0), points.max(axis=0)])


def mask_fits(contours: Sequence[np.ndarray], box: np.ndarray) -> bool:
    """Whether outlines reach as far as their box (4,) xyxy and no further, with some slack."""
    slack = np.maximum(_SLACK * np.tile(box[2:] - box[:2], 2), _SLACK_PIXELS)
    return bool((np.abs(reach_of(contours) - box) <= slack).all())


def extreme_points(contours: Sequence[np.ndarray], box: np.ndarray) -> np.ndarray:
    """Where an object touches the four sides of its box.

    On each side it is the middle of the stretch of outline that lies on the side, as far as it is connected.
    The outline says where along the side; across, the point lies on the box, which is what is measured.

    Args:
        contours: closed outlines (V, 2), at least one, that fit the box.
        box: (4,) xyxy.

    Returns:
        (4, 2) float32: top, left, bottom, right.

    Source: ExtremeNet (Zhou et al. 2019), section 5.1: the middle of an edge that is less steep than 3
    degrees; 2 percent of the extent is the release's measure of it.
    """
    reach = reach_of(contours)
    tolerance = _EDGE * (reach[2:] - reach[:2])
    x1, y1, x2, y2 = box
    x = [_touching(contours, axis=1, sign=sign, tolerance=tolerance[1]) for sign in (1, -1)]
    y = [_touching(contours, axis=0, sign=sign, tolerance=tolerance[0]) for sign in (1, -1)]
    (top, bottom), (left, right) = np.clip(x, x1, x2), np.clip(y, y1, y2)
    return np.array([[top, y1], [x1, left], [bottom, y2], [x2, right]], np.float32)


def _touching(contours: Sequence[np.ndarray], axis: int, sign: int, tolerance: float) -> float:
    """The other coordinate of the middle of the stretch where sign * coordinate is smallest."""
    depth, contour = min(((sign * c[:, axis], c) for c in contours), key=lambda pair: float(pair[0].min()))
    first = int(depth.argmin())
    near = np.roll(depth - depth[first] <= tolerance, -first)  # the extreme vertex comes first
    along = np.roll(contour[:, 1 - axis], -first)
    ahead = len(near) if near.all() else int(near.argmin())
    behind = 0 if near.all() else int(near[::-1].argmin())
    stretch = np.concatenate([along[:ahead], along[len(along) - behind :]])
    return float(stretch.min() + stretch.max()) / 2
