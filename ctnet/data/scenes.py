"""Building blocks of synthetic scenes: antialiased outlines, contrasting colours, noise."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import cv2
import numpy as np

from ctnet.core.records import ImageInfo, Instances, Sample

_SUPERSAMPLING = 4


def visible_objects(
    masks: Sequence[np.ndarray],
    enough: float | Callable[[int, np.ndarray], bool],
    cover: np.ndarray | bool = False,
) -> dict[int, np.ndarray]:
    """The objects of which enough is visible, when later ones hide parts of earlier ones.

    Args:
        masks: (H, W) bool, the pixels of each object, in the order in which they are drawn.
        enough: the minimum visible fraction of an object's pixels, or a function of its number and the pixels
            in front of it.
        cover: (H, W) bool, pixels in front of all objects; False for none.

    Returns:
        Their numbers, ascending, and the pixels in front of each.
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
    """The coverage of each pixel by outlines: filled at four times the resolution, then averaged.

    Args:
        outlines: (P, 2) each, points (x, y) in pixels, with integer pixel centres; an outline within another
            cuts a hole.
        size: (width, height), pixels.

    Returns:
        (H, W) uint8, up to 255.
    """
    width, height = size
    fine = np.zeros((height * _SUPERSAMPLING, width * _SUPERSAMPLING), np.uint8)
    cv2.fillPoly(fine, [fine_points(outline, _SUPERSAMPLING) for outline in outlines], 255, shift=4)
    return np.asarray(cv2.resize(fine, size, interpolation=cv2.INTER_AREA))


def fine_points(points: np.ndarray, times: int) -> np.ndarray:
    """Image points in sixteenths of a pixel of a finer canvas, for OpenCV's ``shift=4``.

    Args:
        points: (..., 2), (x, y) in image pixels, with integer pixel centres.
        times: canvas pixels per image pixel, in each direction.
    """
    return np.asarray(np.round(((points + 0.5) * times - 0.5) * 16), np.int32)


def blend(canvas: np.ndarray, cover: np.ndarray, colour: np.ndarray) -> None:
    """Blend a colour into a canvas by coverage.

    Args:
        canvas: (H, W, 3) float; changed.
        cover: (H, W) uint8, coverage of each pixel, up to 255.
        colour: (3,), or one per pixel.
    """
    canvas += cover[..., None] / 255 * (colour - canvas)


def contrasting(rng: np.random.Generator, below: np.ndarray) -> np.ndarray:
    """The one of five random colours that differs most from the pixels below, (3,)."""
    colours = rng.uniform(10, 245, (5, 3))
    return np.asarray(colours[np.abs(colours - below).sum(axis=1).argmax()])


def scene_of(
    rng: np.random.Generator,
    canvas: np.ndarray,
    noise: float,
    instances: Instances,
    record: Mapping[str, Any] | None = None,
) -> Sample:
    """A finished scene: the canvas with noise, and placeholder metadata.

    Args:
        rng: draws the noise.
        canvas: (H, W, 3), the drawn scene, 0 to 255.
        noise: its standard deviation.
        instances: the drawn objects, image pixels.
        record: further keys of the image's entry of a COCO file (such as a camera).
    """
    noisy = canvas + rng.normal(0, noise, canvas.shape)
    height, width = canvas.shape[:2]
    info = ImageInfo(0, "scene", width, height, record or {})
    return Sample(np.clip(noisy, 0, 255).astype(np.uint8), instances, info)
