"""Synthetic scenes of flat shapes that are concave, have holes, touch and hide parts of each other."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from ctnet.plugin import Instances, RunLength, Sample, blend, contrasting, coverage, scene_of, visible_objects

#: The categories as in a COCO file; label i is entry i.
SHAPES: tuple[dict[str, Any], ...] = (
    {"id": 1, "name": "star", "supercategory": "shape"},
    {"id": 2, "name": "ring", "supercategory": "shape"},
    {"id": 3, "name": "crescent", "supercategory": "shape"},
)

_MOST = 4
_TRIES = 6
#: Smallest and largest diameter, fractions of the image's shorter side.
_DIAMETERS = (0.28, 0.55)
#: The fraction of a shape that must be visible, and its least contrast to what it covers, of 255.
_VISIBLE = 0.6
_CONTRAST = 60.0
#: How often a shape is placed beside another one, touching it.
_TOUCHING = 0.4


def draw_shapes(rng: np.random.Generator, size: tuple[int, int]) -> Sample:
    """Draw one to four shapes inside the image; later ones may touch or hide parts of earlier ones.

    Args:
        rng: the only source of randomness; the same state gives the same scene.
        size: (width, height), pixels.
    """
    canvas = np.asarray(cv2.resize(rng.uniform(60, 190, (5, 5, 3)), size, interpolation=cv2.INTER_CUBIC))
    labels: list[int] = []
    covers: list[np.ndarray] = []
    for _ in range(int(rng.integers(1, _MOST + 1))):
        for _ in range(_TRIES):
            label = int(rng.integers(len(SHAPES)))
            cover = coverage(_placed(rng, _outlines(rng, label), covers, size), size)
            masks = [*(other > 127 for other in covers), cover > 127]
            if len(visible_objects(masks, _VISIBLE)) == len(masks):
                _paint(rng, canvas, cover)
                labels.append(label)
                covers.append(cover)
                break
    visible = visible_objects([cover > 127 for cover in covers], _VISIBLE)
    seen = [(covers[number] > 127) & ~hidden for number, hidden in visible.items()]
    shown = [RunLength.of_window(mask, (0, 0), size) for mask in seen]
    return scene_of(rng, canvas, 4.0, Instances.of([mask.box for mask in shown], labels, mask=shown))


def _outlines(rng: np.random.Generator, label: int) -> list[np.ndarray]:
    """(V, 2) each, about the unit circle, turned at random; an outline within another is a hole."""
    angles = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    if label == 0:
        radii = np.tile([1.0, rng.uniform(0.35, 0.5)], 5)[:, None]
        shape = [circle[::4] * radii]
    elif label == 1:
        shape = [circle, circle * rng.uniform(0.45, 0.6)]
    else:
        gap = rng.uniform(0.6, 1.0)  # half the angle that is left open
        along = np.linspace(gap, 2 * np.pi - gap, 30)
        arc = np.stack([np.cos(along), np.sin(along)], axis=1)
        shape = [np.concatenate([arc, arc[::-1] * rng.uniform(0.4, 0.55)])]
    turn = rng.uniform(0, 2 * np.pi)
    turned = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    return [ring @ turned * [1, rng.uniform(0.75, 1)] for ring in shape]


def _placed(
    rng: np.random.Generator, outlines: list[np.ndarray], covers: list[np.ndarray], size: tuple[int, int]
) -> list[np.ndarray]:
    """Outlines of a random size inside the image, sometimes beside another shape."""
    low, high = outlines[0].min(axis=0), outlines[0].max(axis=0)
    scale = rng.uniform(*_DIAMETERS) * min(size) / (high - low).max()
    span = (high - low) * scale
    room = np.array(size) - 2 - span
    corner = 0.5 + rng.uniform(0, 1, 2) * room
    if covers and rng.uniform() < _TOUCHING:
        rows, columns = np.nonzero(covers[int(rng.integers(len(covers)))] > 127)
        beside = [columns.max() + 1 if corner[0] > columns.mean() else columns.min() - span[0], rows.mean()]
        corner = np.clip(np.array(beside) - [0, span[1] / 2], 0.5, 0.5 + room)
    return [(ring - low) * scale + corner for ring in outlines]


def _paint(rng: np.random.Generator, canvas: np.ndarray, cover: np.ndarray) -> None:
    inside = canvas[cover > 127]
    below = inside.mean(axis=0) if len(inside) else canvas.mean(axis=(0, 1))
    colour = contrasting(rng, below)
    while np.abs(colour - below).max() < _CONTRAST:
        colour = contrasting(rng, below)
    blend(canvas, cover, colour)
