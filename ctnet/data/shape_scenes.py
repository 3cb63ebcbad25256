"""Synthetic scenes of shapes with known boxes: what ``ctnet demo`` trains on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from ctnet.core.records import ImageInfo, Instances, Sample
from ctnet.data.scenes import contrasting, coverage
from ctnet.ops.boxes import boxes_around

#: The categories of ``draw_scene`` as a COCO file lists them; label i is entry i.
SHAPES: tuple[dict[str, Any], ...] = tuple(
    {"id": number, "name": name, "supercategory": "shape"}
    for number, name in enumerate(("ball", "square", "triangle", "ring", "cross"), start=1)
)

_MOST_OBJECTS = 8
_LEAST_VISIBLE = 0.3


def draw_scene(rng: np.random.Generator, size: tuple[int, int], classes: int = len(SHAPES)) -> Sample:
    """Draw shapes of several kinds, sizes and colours over a textured background.

    Later shapes hide parts of earlier ones; a shape with less than 30 % visible is left out.
    A box is tight around the whole shape, hidden parts included, and clipped to the image.

    Args:
        rng: the only source of randomness; the same state gives the same scene.
        size: (width, height), pixels, at least 32 each.
        classes: how many of ``SHAPES`` to use, from the first; larger numbers mean all.

    Returns:
        A sample with one to eight instances, boxes in image pixels, and placeholder metadata.
    """
    width, height = size
    if min(size) < 32:
        raise ValueError(f"a scene must be at least 32 pixels wide and high, got {width}x{height}")
    outlines = _OUTLINES[: max(1, classes)]
    count = int(rng.integers(1, _MOST_OBJECTS + 1))
    shapes: list[_Shape] = []
    while not shapes:  # all can be outside the image
        shapes = _drop_hidden([_place(rng, size, outlines) for _ in range(count)], size)
    canvas = _background(rng, width, height)
    for shape in shapes:
        _render(rng, canvas, shape)
    canvas += (rng.random(canvas.shape, np.float32) - 0.5) * np.float32(rng.uniform(4, 20))
    image = np.clip(canvas, 0, 255).astype(np.uint8)
    limits = np.array([width, height, width, height], np.float32)
    boxes = np.clip(np.stack([shape.box for shape in shapes]), 0, limits)
    instances = Instances.of(boxes, [shape.label for shape in shapes])
    return Sample(image, instances, ImageInfo(0, "scene", width, height))


@dataclass(frozen=True)
class _Shape:
    """A placed shape.

    Attributes:
        label: index into ``SHAPES``.
        box: (4,) float32 xyxy, image pixels, not clipped.
        x, y: the image pixel of the mask's first element; may lie outside the image.
        coverage: (h, w) float32, the fraction of each pixel that the shape covers.
    """

    label: int
    box: np.ndarray
    x: int
    y: int
    coverage: np.ndarray

    def overlap(self, width: int, height: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
        """The overlap of shape and image: rows and columns of the image, and of the mask."""
        left, top = max(self.x, 0), max(self.y, 0)
        right = min(self.x + self.coverage.shape[1], width)
        bottom = min(self.y + self.coverage.shape[0], height)
        mask = slice(top - self.y, bottom - self.y), slice(left - self.x, right - self.x)
        return (slice(top, bottom), slice(left, right)), mask


def _regular(corners: int, radius: float = 1.0) -> np.ndarray:
    """A regular polygon, (corners, 2); with many corners, a circle."""
    angles = np.pi / 2 + (np.arange(corners) + 0.5) * 2 * np.pi / corners  # the lowest side is horizontal
    return radius * np.stack([np.cos(angles), np.sin(angles)], 1)


def _plus(arm: float) -> np.ndarray:
    quarter = np.array([[1, -arm], [1, arm], [arm, arm]])
    turns = [np.array([[0, -1], [1, 0]]), np.array([[-1, 0], [0, -1]]), np.array([[0, 1], [-1, 0]])]
    return np.concatenate([quarter, *(quarter @ turn.T for turn in turns)])


# One entry per shape: closed outlines around the origin; a second outline cuts a hole.
_OUTLINES = (
    [_regular(72)],
    [_regular(4)],
    [_regular(3)],
    [_regular(72), _regular(72, 0.55)],
    [_plus(0.32)],
)


# Brightness over a ball's box, lit from the upper left.
_BALL_SHADING = np.array(
    [
        [1.1, 1.3, 1.1, 0.9, 0.7],
        [1.3, 1.7, 1.4, 1.0, 0.8],
        [1.1, 1.4, 1.2, 0.9, 0.6],
        [0.9, 1.0, 0.9, 0.7, 0.5],
        [0.7, 0.8, 0.6, 0.5, 0.4],
    ],
    np.float32,
)


def _place(
    rng: np.random.Generator, size: tuple[int, int], outlines: Sequence[Sequence[np.ndarray]]
) -> _Shape:
    """Choose kind, size, stretch, rotation and position of a shape, and compute the pixels that it covers."""
    label = int(rng.integers(len(outlines)))
    shorter = min(size)
    longer_side = np.exp(rng.uniform(np.log(max(12, shorter / 20)), np.log(shorter / 2)))
    stretch = np.exp(rng.uniform(-0.15, 0.15, 2))
    angle = np.radians(rng.uniform(-20, 20))  # a triangle stays upright, a cross a plus
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    contours = [(outline * stretch) @ turn.T for outline in outlines[label]]
    low, high = contours[0].min(0), contours[0].max(0)
    center = rng.uniform(0.08, 0.92, 2) * size
    scale = longer_side / (high - low).max()
    contours = [(contour - (low + high) / 2) * scale + center for contour in contours]
    box = boxes_around(contours[0])
    x, y = np.floor(box[:2]).astype(int)
    columns, rows = np.ceil(box[2:]).astype(int) - (x, y)
    # Outlines and boxes have integer coordinates at the edges of pixels, not at their centres.
    covered = coverage([contour - (x, y) - 0.5 for contour in contours], (columns, rows))
    return _Shape(label, box.astype(np.float32), int(x), int(y), covered.astype(np.float32) / 255)


def _drop_hidden(shapes: Sequence[_Shape], size: tuple[int, int]) -> list[_Shape]:
    """The shapes, drawn in this order, of which enough stays visible."""
    width, height = size
    kept: list[_Shape] = []
    hidden = np.zeros((height, width), np.float32)
    for shape in reversed(shapes):
        inside, part = shape.overlap(width, height)
        seen = (shape.coverage[part] * (1 - hidden[inside])).sum()
        if seen >= _LEAST_VISIBLE * shape.coverage.sum():
            kept.append(shape)
            hidden[inside] = np.maximum(hidden[inside], shape.coverage[part])
    return kept[::-1]


def _background(rng: np.random.Generator, width: int, height: int) -> np.ndarray:
    """A (height, width, 3) float32 canvas: colour gradients, clouds and grain, often stripes."""
    canvas = np.full((height, width, 3), rng.uniform(70, 185, 3), np.float32)
    for cells, strength in ((2, 45), (6, 28), (24, 16), (80, 12)):
        values = rng.uniform(-1, 1, (cells, cells, 3)).astype(np.float32) * rng.uniform(0, strength)
        canvas += cv2.resize(values, (width, height), interpolation=cv2.INTER_LINEAR)
    if rng.random() < 0.5:
        canvas += _stripes(rng, width, height)
    return canvas


def _stripes(rng: np.random.Generator, width: int, height: int) -> np.ndarray:
    period = np.exp(rng.uniform(np.log(6), np.log(max(width, height) / 3)))
    angle = rng.uniform(0, np.pi)
    x = np.arange(width) * (np.cos(angle) * 2 * np.pi / period)
    y = np.arange(height) * (np.sin(angle) * 2 * np.pi / period)
    wave = np.sin((x + y[:, None]).astype(np.float32))
    striped: np.ndarray = wave[:, :, None] * rng.uniform(-25, 25, 3).astype(np.float32)
    return striped


def _render(rng: np.random.Generator, canvas: np.ndarray, shape: _Shape) -> None:
    """Render a shape onto the canvas in a colour that contrasts with the pixels below, lightly shaded."""
    inside, part = shape.overlap(canvas.shape[1], canvas.shape[0])
    below = canvas[inside]
    colour = contrasting(rng, below.mean((0, 1))).astype(np.float32)
    shading = 1 + rng.uniform(-0.25, 0.25, (2, 2)).astype(np.float32)
    if SHAPES[shape.label]["name"] == "ball":
        shading = _BALL_SHADING * shading.mean()
    shaded = cv2.resize(shading, shape.coverage.shape[::-1])[part][:, :, None] * colour
    below += shape.coverage[part][:, :, None] * (shaded - below)
