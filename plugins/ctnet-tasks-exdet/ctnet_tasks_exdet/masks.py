"""Extreme points of outlines."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

#: Points within this fraction of the mask's extent from its edge are on the edge.
_EDGE = 0.02
#: Tolerance between a mask and its box: a fraction of the box's side, or pixels.
_SLACK, _SLACK_PIXELS = 0.05, 2.0


def reach_of(contours: Sequence[np.ndarray]) -> np.ndarray:
    """The box (4,) xyxy around outlines."""
    points = np.concatenate(contours)
    return np.concatenate([points.min(axis=0), points.max(axis=0)])


def mask_fits(contours: Sequence[np.ndarray], box: np.ndarray) -> bool:
    """Whether outlines have the extent of their box (4,) xyxy, within a tolerance."""
    slack = np.maximum(_SLACK * np.tile(box[2:] - box[:2], 2), _SLACK_PIXELS)
    return bool((np.abs(reach_of(contours) - box) <= slack).all())


def extreme_points(contours: Sequence[np.ndarray], box: np.ndarray) -> np.ndarray:
    """The points where an object touches the four sides of its box.

    On each side it is the middle of the connected part of the outline on that side. The outline gives the
    position along the side; the point is always on the box, which is evaluated.

    Args:
        contours: closed outlines (V, 2), at least one, that fit the box.
        box: (4,) xyxy.

    Returns:
        (4, 2) float32: top, left, bottom, right.

    Source: ExtremeNet (Zhou et al. 2019), section 5.1: the middle of an edge that is less steep than 3
    degrees; the released code uses 2 percent of the extent.
    """
    reach = reach_of(contours)
    tolerance = _EDGE * (reach[2:] - reach[:2])
    x1, y1, x2, y2 = box
    x = [_touching(contours, axis=1, sign=sign, tolerance=tolerance[1]) for sign in (1, -1)]
    y = [_touching(contours, axis=0, sign=sign, tolerance=tolerance[0]) for sign in (1, -1)]
    (top, bottom), (left, right) = np.clip(x, x1, x2), np.clip(y, y1, y2)
    return np.array([[top, y1], [x1, left], [bottom, y2], [x2, right]], np.float32)


def _touching(contours: Sequence[np.ndarray], axis: int, sign: int, tolerance: float) -> float:
    """The other coordinate of the middle of the part where sign * coordinate is smallest."""
    depth, contour = min(((sign * c[:, axis], c) for c in contours), key=lambda pair: float(pair[0].min()))
    first = int(depth.argmin())
    near = np.roll(depth - depth[first] <= tolerance, -first)  # the extreme vertex comes first
    along = np.roll(contour[:, 1 - axis], -first)
    ahead = len(near) if near.all() else int(near.argmin())
    behind = 0 if near.all() else int(near[::-1].argmin())
    stretch = np.concatenate([along[:ahead], along[len(along) - behind :]])
    return float(stretch.min() + stretch.max()) / 2
