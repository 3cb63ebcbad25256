"""What synthetic scenes are made of: outlines with soft edges, colours that can be seen, noise."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import cv2
import numpy as np

from ctnet.core.records import ImageInfo, Instances, Sample

_SUPERSAMPLING = 4


def in_sight(
    masks: Sequence[np.ndarray],
    enough: float | Callable[[int, np.ndarray], bool],
    cover: np.ndarray | bool = False,
) -> dict[int, np.ndarray]:
    """Of which objects enough can be seen, when later ones hide parts of earlier ones.

    Args:
        masks: (H, W) bool, the pixels of each object, in the order in which they are drawn.
        enough: the share of an object's pixels, or a function of its number and of what lies in front of it.
        cover: (H, W) bool, what lies in front of all; False for nothing.

    Returns:
        Their numbers, ascending, and what lies in front of each.
    """
    kept: dict[int, np.ndarray] = {}
    for number, mask in reversed([*enumerate(masks)]):
        hidden = np.broadcast_to(cover, mask.shape)
        if callable(enough):
            shows = enough(number, hidden)
        else:
            shows = (mask & ~hidden).sum() >= enough * mask.sum() > 0
        if shows:
            kept[number] = hidden
            cover = hidden | mask
    return {number: kept[number] for number in sorted(kept)}


def coverage(outlines: Sequence[np.ndarray], size: tuple[int, int]) -> np.ndarray:
    """How much of each pixel outlines cover: filled at four times the resolution, then averaged.

    Args:
        outlines: (P, 2) each, points (x, y) in pixels, whose centres are whole numbers; an outline within
            another cuts a hole.
        size: (width, height), pixels.

    Returns:
        (H, W) uint8, up to 255.
    """
    width, height = size
    fine = np.zeros((height * _SUPERSAMPLING, width * _SUPERSAMPLING), np.uint8)
    cv2.fillPoly(fine, [fine_points(outline, _SUPERSAMPLING) for outline in outlines], 255, shift=4)
    return np.asarray(cv2.resize(fine, size, interpolation=cv2.INTER_AREA))


def fine_points(points: np.ndarray, times: int) -> np.ndarray:
    """Points of an image in sixteenths of a pixel of a canvas that is finer: for OpenCV's ``shift=4``.

    Args:
        points: (..., 2), (x, y) in image pixels, whose centres are whole numbers.
        times: how many of the canvas's pixels are one of the image, across and down.
    """
    return np.asarray(np.round(((points + 0.5) * times - 0.5) * 16), np.int32)


def blend(canvas: np.ndarray, cover: np.ndarray, colour: np.ndarray) -> None:
    """Put a colour over a canvas where something covers it.

    Args:
        canvas: (H, W, 3) float; changed.
        cover: (H, W) uint8, how much of each pixel, up to 255.
        colour: (3,), or one for each pixel.
    """
    canvas += cover[..., None] / 255 * (colour - canvas)


def contrasting(rng: np.random.Generator, below: np.ndarray) -> np.ndarray:
    """Of five random colours the one that differs most from what lies below, (3,)."""
    colours = rng.uniform(10, 245, (5, 3))
    return np.asarray(colours[np.abs(colours - below).sum(axis=1).argmax()])


def scene_of(
    rng: np.random.Generator,
    canvas: np.ndarray,
    noise: float,
    instances: Instances,
    record: Mapping[str, Any] | None = None,
) -> Sample:
    """A finished scene: the canvas with noise on it, and a placeholder for its identity.

    Args:
        rng: draws the noise.
        canvas: (H, W, 3), what was drawn, 0 to 255.
        noise: its standard deviation.
        instances: what is shown, image pixels.
        record: what else the image's entry of a COCO file says (a camera, say).
    """
    noisy = canvas + rng.normal(0, noise, canvas.shape)
    height, width = canvas.shape[:2]
    info = ImageInfo(0, "scene", width, height, record or {})
    return Sample(np.clip(noisy, 0, 255).astype(np.uint8), instances, info)
