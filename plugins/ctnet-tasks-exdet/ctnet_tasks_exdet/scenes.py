"""Synthetic scenes of flat shapes that do not touch their boxes' sides in the middle."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from ctnet.plugin import Instances, Outline, Sample, blend, contrasting, coverage, scene_of
from ctnet_tasks_exdet.masks import extreme_points, reach_of

#: The categories as in a COCO file; label i is entry i.
SHAPES: tuple[dict[str, Any], ...] = (
    {"id": 1, "name": "triangle", "supercategory": "shape"},
    {"id": 2, "name": "kite", "supercategory": "shape"},
    {"id": 3, "name": "star", "supercategory": "shape"},
)

#: Distances of each shape's corners from its centre, in order.
_RADII = ([1.0, 1.0, 1.0], [1.0, 0.55, 1.0, 0.55], [1.0, 0.5] * 5)

_MOST = 5
_TRIES = 8


def draw_shapes(rng: np.random.Generator, size: tuple[int, int]) -> Sample:
    """Draw one to five shapes, each at a random rotation, that neither overlap nor leave the image.

    Args:
        rng: the only source of randomness; the same state gives the same scene.
        size: (width, height), pixels.
    """
    shapes: list[tuple[int, np.ndarray, np.ndarray]] = []  # label, outline, box
    for _ in range(int(rng.integers(1, _MOST + 1))):
        for _ in range(_TRIES):
            label = int(rng.integers(len(SHAPES)))
            outline = _place(rng, _outline(rng, label), size)
            box = reach_of([outline])
            if not any(_meet(box, other) for _, _, other in shapes):
                shapes.append((label, outline, box))
                break
    canvas = np.asarray(cv2.resize(rng.uniform(60, 190, (5, 5, 3)), size, interpolation=cv2.INTER_CUBIC))
    for _, outline, _ in shapes:
        cover = coverage([outline], size)
        inside = canvas[cover > 127]
        below = inside.mean(axis=0) if len(inside) else canvas.mean(axis=(0, 1))
        blend(canvas, cover, contrasting(rng, below))
    instances = Instances.of(
        [box for _, _, box in shapes],
        [label for label, _, _ in shapes],
        extreme_points=np.stack([extreme_points([outline], box) for _, outline, box in shapes]),
        outline=[Outline((outline.astype(np.float32),)) for _, outline, _ in shapes],
    )
    return scene_of(rng, canvas, 5.0, instances)


def _outline(rng: np.random.Generator, label: int) -> np.ndarray:
    """(V, 2), about the size of the unit circle, at a random rotation."""
    radii = np.array(_RADII[label])
    angles = np.arange(len(radii)) * 2 * np.pi / len(radii)
    if label == 0:
        angles = angles + rng.uniform(-0.3, 0.3, 3)
    elif label == 1:
        radii = radii * rng.uniform(0.85, 1.15, 4)
    turn = rng.uniform(0, 2 * np.pi)
    return np.stack([radii * np.cos(angles + turn), radii * np.sin(angles + turn)], axis=1)


def _place(rng: np.random.Generator, outline: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """An outline of random size and position inside the image, pixels."""
    low, high = outline.min(axis=0), outline.max(axis=0)
    longest = rng.uniform(0.18, 0.5) * min(size)
    shape = (outline - low) * longest / (high - low).max()
    room = np.array(size) - 1 - shape.max(axis=0)
    return np.asarray(shape + rng.uniform(0, 1, 2) * room)


def _meet(box: np.ndarray, other: np.ndarray) -> bool:
    return bool((np.maximum(box[:2], other[:2]) < np.minimum(box[2:], other[2:])).all())
