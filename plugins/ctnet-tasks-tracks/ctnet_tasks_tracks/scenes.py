"""Synthetic videos: shapes that move, cross, hide each other, enter and leave."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from ctnet.plugin import SHAPES, ImageInfo, Instances, Sample, box_centres, contrasting, coverage

_FEWEST, _MOST = 3, 6  # of a video in which nothing moves; more of one that fast shapes leave
#: Size of a shape, as a fraction of the image's shorter side.
_SIZES = (0.14, 0.32)
#: Motion per frame of the slowest and of the fastest video, as fractions of the shorter side.
SPEEDS = (0.01, 0.16)
_LEAST_VISIBLE = 0.3
#: Fraction of the shapes that aim at the place of an earlier one, and cross it.
_CROSSING = 0.5
_TURN = 0.25  # radians per frame, standard deviation
_SHIFT, _ZOOM = 0.08, 0.05


@dataclass(frozen=True)
class _Shape:
    """A moving shape.

    Attributes:
        label: index into ``SHAPES``.
        outlines: (P, 2) each, around the origin, pixels; a second one cuts a hole.
        colour: (3,) float32.
        path: (frames, 2) float64, its centre in every frame, pixels.
    """

    label: int
    outlines: Sequence[np.ndarray]
    colour: np.ndarray
    path: np.ndarray


def draw_pair(rng: np.random.Generator, size: tuple[int, int]) -> Sample:
    """Two frames of a video: the second, with the first as the one before. Every shape is in both.

    Args:
        rng: the only source of randomness.
        size: (width, height), pixels.
    """
    while True:
        first, second = film(rng, size, 2, speeds=(0.01, 0.06))
        kept = np.isin(second.instances.track_id, first.instances.track_id)
        if kept.all() and kept.size:
            return replace(second, previous=first)


def film(
    rng: np.random.Generator, size: tuple[int, int], frames: int, speeds: tuple[float, float] = SPEEDS
) -> list[Sample]:
    """A video of shapes over a still background.

    Some are there from the beginning, others enter; they cross, hide each other, and leave. A shape of which
    less than 30 % is visible is not annotated in that frame, and has the same identity when it comes back.

    Args:
        rng: the only source of randomness.
        size: (width, height), pixels.
        frames: how many.
        speeds: motion per frame of the slowest and of the fastest video, fractions of the shorter side.
    """
    background = _background(rng, size)
    low, high = np.log(speeds)
    speed = float(np.exp(rng.uniform(low, high))) * min(size)
    shapes: list[_Shape] = []
    crossings = max(1.0, frames * speed / min(size))
    for _ in range(round(float(rng.uniform(_FEWEST, _MOST)) * crossings)):
        shapes.append(_shape(rng, background, size, frames, speed, shapes))
    shown = [_frame(rng, background, shapes, number) for number in range(frames)]
    samples = []
    for number, (image, boxes, rows) in enumerate(shown):
        last = dict(zip(shown[number - 1][2], shown[number - 1][1], strict=True))
        unknown = np.full(4, np.nan, np.float32)
        earlier = np.array([last.get(row, unknown) if number else unknown for row in rows], np.float32)
        instances = Instances.of(
            boxes,
            [shapes[row].label for row in rows],
            track_id=np.array(rows, np.int64) + 1,
            before=box_centres(earlier.reshape(-1, 4)).astype(np.float32),
        )
        samples.append(Sample(image, instances, ImageInfo(0, "frame", *size)))
    return samples


def second_view(rng: np.random.Generator, sample: Sample) -> Sample:
    """A scene with a shifted copy of itself as the frame before, for tasks without videos.

    Args:
        rng: the only source of randomness.
        sample: the scene, without identities.
    """
    height, width = sample.image.shape[:2]
    shift = np.round(rng.uniform(-_SHIFT, _SHIFT, 2) * min(width, height))
    matrix = np.array([[1, 0, shift[0]], [0, 1, shift[1]]], np.float64)
    image = np.asarray(cv2.warpAffine(sample.image, matrix, (width, height)))
    boxes = (sample.instances.boxes + np.tile(shift, 2)).astype(np.float32)
    identity = np.arange(1, len(boxes) + 1)
    before = sample.instances.replace(
        boxes=boxes, track_id=identity, before=np.full((len(boxes), 2), np.nan, np.float32)
    )
    now = sample.instances.replace(track_id=identity, before=box_centres(boxes).astype(np.float32))
    return replace(sample, instances=now, previous=Sample(image, before, sample.info))


def _shape(
    rng: np.random.Generator,
    background: np.ndarray,
    size: tuple[int, int],
    frames: int,
    speed: float,
    others: Sequence[_Shape],
) -> _Shape:
    """A shape that is in the image at some time, where it may meet another."""
    label = int(rng.integers(len(SHAPES)))
    side = min(size) * np.exp(rng.uniform(*np.log(_SIZES)))
    when = int(rng.integers(frames))
    place = rng.uniform(0.1, 0.9, 2) * size
    if others and rng.random() < _CROSSING:
        met = others[int(rng.integers(len(others)))].path[when]
        if ((met > 0) & (met < size)).all():
            place = met + rng.normal(0, 0.1 * side, 2)
    angle = rng.uniform(0, 2 * np.pi) + np.cumsum(rng.normal(0, _TURN, frames))
    steps = speed * rng.uniform(0.6, 1.2) * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    path = np.cumsum(steps, axis=0)
    path += place - path[when]
    x, y = np.clip(place, 0, np.array(size) - 1).astype(int)
    colour = contrasting(rng, background[y, x]).astype(np.float32)
    stretch = np.exp(rng.uniform(-0.15, 0.15, 2))
    outlines = [outline * side / 2 * stretch for outline in _outlines(str(SHAPES[label]["name"]))]
    return _Shape(label, outlines, colour, path)


def _outlines(name: str) -> list[np.ndarray]:
    """The closed outlines of a kind of shape, within -1 and 1."""
    turn = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    circle = np.stack([np.cos(turn), np.sin(turn)], axis=1)
    a, b = 0.35, 1.0
    cross = [(-a, -b), (a, -b), (a, -a), (b, -a), (b, a), (a, a), (a, b), (-a, b), (-a, a), (-b, a)]
    return {
        "ball": [circle],
        "square": [np.array([(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)])],
        "triangle": [np.array([(0, -1), (1, 0.9), (-1, 0.9)])],
        "ring": [circle, 0.5 * circle],
        "cross": [np.array([*cross, (-b, -a), (-a, -a)])],
    }[name]


def _frame(
    rng: np.random.Generator, background: np.ndarray, shapes: Sequence[_Shape], number: int
) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """A frame's image, and boxes and numbers of the shapes that are visible in it."""
    height, width = background.shape[:2]
    canvas, cover = background.copy(), np.zeros((height, width), np.float32)
    masks = [
        coverage([one + shape.path[number] for one in shape.outlines], (width, height)) for shape in shapes
    ]
    boxes, rows = [], []
    for row in reversed(range(len(shapes))):
        mask = masks[row].astype(np.float32) / 255
        outline = shapes[row].outlines[0] + shapes[row].path[number]
        box = np.concatenate([outline.min(axis=0), outline.max(axis=0)])
        shown = np.clip(box, 0, [width, height] * 2)
        whole = _area(shapes[row].outlines)
        if (mask * (1 - cover)).sum() >= _LEAST_VISIBLE * whole and ((shown[2:] - shown[:2]) >= 4).all():
            boxes.append(shown)
            rows.append(row)
        cover = np.maximum(cover, mask)
    for shape, mask in zip(shapes, masks, strict=True):
        part = mask[:, :, None].astype(np.float32) / 255
        canvas += part * (shape.colour - canvas)
    canvas += rng.normal(0, 3, canvas.shape).astype(np.float32)
    image = np.clip(canvas, 0, 255).astype(np.uint8)
    return image, np.array(boxes[::-1], np.float32).reshape(-1, 4), rows[::-1]


def _area(outlines: Sequence[np.ndarray]) -> float:
    """Square pixels within the first outline and outside the second."""
    outer, *holes = (abs(float(cv2.contourArea(outline.astype(np.float32)))) for outline in outlines)
    return outer - sum(holes)


def _background(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """(H, W, 3) float32: a colour with clouds of several sizes."""
    width, height = size
    canvas = np.full((height, width, 3), rng.uniform(60, 195, 3), np.float32)
    for cells, strength in ((2, 40), (6, 25), (20, 15)):
        clouds = rng.uniform(-1, 1, (cells, cells, 3)).astype(np.float32) * rng.uniform(0, strength)
        canvas += np.asarray(cv2.resize(clouds, size, interpolation=cv2.INTER_LINEAR))
    return canvas
