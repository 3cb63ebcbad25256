"""Upright boxes: their centres, and how much they overlap pair by pair. Boxes are xyxy."""

from __future__ import annotations

import numpy as np


def box_centres(boxes: np.ndarray) -> np.ndarray:
    """Centres (..., 2) of boxes (..., 4), in the boxes' type."""
    centres: np.ndarray = (boxes[..., :2] + boxes[..., 2:]) / 2
    return centres


def box_iou(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Intersection over union of xyxy boxes (N, 4) and (M, 4) -> (N, M); 0 where neither has an area."""
    low = np.maximum(one[:, None, :2], other[None, :, :2])
    high = np.minimum(one[:, None, 2:], other[None, :, 2:])
    common = np.prod(np.clip(high - low, 0, None), axis=2)
    areas = [np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) for boxes in (one, other)]
    union = areas[0][:, None] + areas[1][None, :] - common
    overlap: np.ndarray = np.divide(common, union, out=np.zeros_like(common), where=union > 0)
    return overlap
