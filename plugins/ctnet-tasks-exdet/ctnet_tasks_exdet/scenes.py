"""Synthetic scenes of flat shapes that touch their boxes' sides in other places than the middle."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from ctnet.plugin import ImageInfo, Instances, Outline, Sample
from ctnet_tasks_exdet.masks import extreme_points

#: What is drawn, as a COCO file lists categories; label i is entry i.
SHAPES: tuple[dict[str, Any], ...] = (
    {"id": 1, "name": "triangle", "supercategory": "shape"},
    {"id": 2, "name": "kite", "supercategory": "shape"},
    {"id": 3, "name": "star", "supercategory": "shape"},
)

_MOST = 5
_TRIES = 8
_SUPERSAMPLING = 4


def draw_shapes(rng: np.random.Generator, size: tuple[int, int]) -> Sample:
    """Draw one to five shapes, each turned by any angle, that neither overlap nor leave the image.

    Args:
        rng: the only source of randomness; the same state gives the same scene.
        size: (width, height), pixels.
    """
    width, height = size
    shapes: list[tuple[int, np.ndarray, np.ndarray]] = []  # label, outline, box
    for _ in range(int(rng.integers(1, _MOST + 1))):
        for _ in range(_TRIES):
            label = int(rng.integers(len(SHAPES)))
            outline = _place(rng, _outline(rng, label), size)
            box = np.concatenate([outline.min(axis=0), outline.max(axis=0)])
            if not any(_meet(box, other) for _, _, other in shapes):
                shapes.append((label, outline, box))
                break
    image = cv2.resize(rng.uniform(60, 190, (5, 5, 3)), size, interpolation=cv2.INTER_CUBIC)
    for _, outline, _ in shapes:
        _fill(rng, np.asarray(image), outline)
    noisy = np.clip(image + rng.normal(0, 5, (height, width, 3)), 0, 255).astype(np.uint8)
    outlines = np.empty(len(shapes), object)
    outlines[:] = [Outline((outline.astype(np.float32),)) for _, outline, _ in shapes]
    instances = Instances.of(
        [box for _, _, box in shapes],
        [label for label, _, _ in shapes],
        extreme_points=np.stack([extreme_points([outline], box) for _, outline, box in shapes]),
        outline=outlines,
    )
    return Sample(noisy, instances, ImageInfo(0, "scene", width, height))


def _outline(rng: np.random.Generator, label: int) -> np.ndarray:
    """(V, 2), about as large as the unit circle, turned by any angle."""
    if label == 0:
        angles = np.array([0, 1, 2]) * 2 * np.pi / 3 + rng.uniform(-0.3, 0.3, 3)
        radii = np.ones(3)
    elif label == 1:
        angles = np.array([0, 1, 2, 3]) * np.pi / 2
        radii = np.array([1, 0.55, 1, 0.55]) * rng.uniform(0.85, 1.15, 4)
    else:
        angles = np.arange(10) * np.pi / 5
        radii = np.tile([1, 0.5], 5)
    turn = rng.uniform(0, 2 * np.pi)
    return np.stack([radii * np.cos(angles + turn), radii * np.sin(angles + turn)], axis=1)


def _place(rng: np.random.Generator, outline: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """An outline of random size somewhere inside the image, in pixels."""
    low, high = outline.min(axis=0), outline.max(axis=0)
    longest = rng.uniform(0.18, 0.5) * min(size)
    shape = (outline - low) * longest / (high - low).max()
    room = np.array(size) - 1 - shape.max(axis=0)
    placed: np.ndarray = shape + rng.uniform(0, 1, 2) * room
    return placed


def _meet(box: np.ndarray, other: np.ndarray) -> bool:
    return bool((np.maximum(box[:2], other[:2]) < np.minimum(box[2:], other[2:])).all())


def _fill(rng: np.random.Generator, image: np.ndarray, outline: np.ndarray) -> None:
    """Fill an outline in a colour that differs from what lies below it; pixel centres are whole."""
    height, width = image.shape[:2]
    fine = np.zeros((height * _SUPERSAMPLING, width * _SUPERSAMPLING), np.uint8)
    corners = np.round(((outline + 0.5) * _SUPERSAMPLING - 0.5) * 16).astype(np.int32)
    cv2.fillPoly(fine, [corners], 255, shift=4)
    cover = cv2.resize(fine, (width, height), interpolation=cv2.INTER_AREA)[..., None] / 255
    below = image[cover[..., 0] > 0.5].mean(axis=0) if (cover > 0.5).any() else image.mean(axis=(0, 1))
    colours = rng.uniform(10, 245, (5, 3))
    colour = colours[np.abs(colours - below).sum(axis=1).argmax()]
    image += cover * (colour - image)
