"""Pictures as data URIs, small enough for a page that holds many of them."""

from __future__ import annotations

import base64

import cv2
import numpy as np

#: Pixels of the longer side of a picture, and of a heatmap over it, which is smooth.
LONGEST, HEATMAP = 480, 160
_MOST_ENLARGED = 3.0
_LEVELS = 16  # of a heatmap: few values compress well


def fitting_scale(width: int, height: int) -> float:
    """The factor by which an image of this size is resized for the page; small ones are enlarged."""
    return min(LONGEST / max(width, height), _MOST_ENLARGED)


def resized(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """An image (H, W, 3) of another size (width, height)."""
    smaller = size[0] < image.shape[1]
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA if smaller else cv2.INTER_CUBIC))


def as_jpeg(image: np.ndarray, quality: int = 80) -> str:
    """A picture (H, W, 3) uint8 RGB as a data URI."""
    _, content = cv2.imencode(
        ".jpg", np.ascontiguousarray(image[:, :, ::-1]), [cv2.IMWRITE_JPEG_QUALITY, quality]
    )
    return _uri("jpeg", content)


def heat_picture(heat: np.ndarray, size: tuple[int, int]) -> str:
    """A heatmap as a transparent picture: nothing at 0, through red, to yellow at 1.

    Args:
        heat: (H, W) float in [0, 1], of the picture's shape but of any size.
        size: (width, height) of the picture.
    """
    factor = min(1.0, HEATMAP / max(size))
    pixels = _heat(heat, (max(1, round(size[0] * factor)), max(1, round(size[1] * factor))))
    blue_first = pixels[:, :, [2, 1, 0, 3]]
    return _uri("png", cv2.imencode(".png", (blue_first * 255).round().astype(np.uint8))[1])


def laid_over(image: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """An image (H, W, 3) uint8 RGB with a heatmap of any size over it, as ``heat_picture`` shows it."""
    height, width = image.shape[:2]
    pixels = _heat(heat, (width, height))
    opacity = pixels[:, :, 3:]
    mixed = image * (1 - opacity) + 255 * pixels[:, :, :3] * opacity
    return np.asarray(mixed.round(), np.uint8)


def _heat(heat: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(H, W, 4) float32 in [0, 1]: red, green, blue and opacity."""
    smaller = size[0] < heat.shape[1]
    values = cv2.resize(
        heat.astype(np.float32), size, interpolation=cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
    )
    level = np.round(np.sqrt(np.clip(values, 0, 1)) * (_LEVELS - 1)) / (_LEVELS - 1)
    pixels = np.stack(
        [np.ones_like(level), np.clip(2 * level - 1, 0, 1), np.zeros_like(level), 0.85 * level], axis=2
    )
    pixels[level == 0] = 0
    return pixels


def overlay_of(on_black: np.ndarray, on_white: np.ndarray) -> tuple[str, tuple[int, int, int, int]] | None:
    """What was drawn, without a picture below it: a transparent picture, and where it lies.

    Args:
        on_black, on_white: (H, W, 3) uint8 RGB, the same drawing on a black and on a white picture: where it
            is transparent, they differ.

    Returns:
        A data URI, and x, y, width, height in pixels; None where nothing was drawn.
    """
    opacity = 255 - np.clip(on_white.astype(np.int16) - on_black, 0, 255).max(axis=2)
    drawn = opacity > 0
    rows, columns = np.flatnonzero(drawn.any(axis=1)), np.flatnonzero(drawn.any(axis=0))
    if not len(rows):
        return None
    top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    alpha = opacity[top:bottom, left:right, None]
    blue_first = on_black[top:bottom, left:right, ::-1].astype(np.float32)
    colour = np.minimum(blue_first * 255 / np.maximum(alpha, 1), 255).round()
    pixels = np.where(alpha == 0, 0, np.concatenate([colour, alpha], axis=2)).astype(np.uint8)
    place = (int(left), int(top), int(right - left), int(bottom - top))
    return _uri("png", cv2.imencode(".png", pixels, [cv2.IMWRITE_PNG_COMPRESSION, 9])[1]), place


def _uri(kind: str, content: np.ndarray) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content.tobytes()).decode('ascii')}"
