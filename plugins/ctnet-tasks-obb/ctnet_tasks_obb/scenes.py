"""Synthetic harbours: ships, containers and rafts in every direction, some of which hide parts of others."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from ctnet.plugin import ImageInfo, Instances, Sample
from ctnet_tasks_obb.boxes import Rectangles, upright

#: The categories of ``draw_harbour``; label i is entry i.
KINDS: tuple[dict[str, Any], ...] = tuple(
    {"id": number, "name": name} for number, name in enumerate(("ship", "container", "raft"), start=1)
)

#: Least and largest length of each kind, in shares of the image's shorter side, and of length / breadth.
_LENGTHS = ((0.22, 0.5), (0.16, 0.32), (0.12, 0.26))
_ASPECTS = ((2.6, 4.2), (1.6, 2.4), (1.0, 1.15))

#: Outlines along x from -1 to 1 and along y from -1 to 1: a ship has a bow and a stern.
_HULL = np.array(
    [[-1, -0.75], [-0.85, -1], [0.35, -1], [0.8, -0.6], [1, 0], [0.8, 0.6], [0.35, 1], [-0.85, 1]]
)
_HULL = np.concatenate([_HULL, [[-1, 0.75]]])
_BOX = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]], np.float64)

_MOST_OBJECTS = 8
_MOST_HIDDEN = 0.4
_TRIES = 3  # for a place, on average
_LEAST_CONTRAST = 50.0  # of 255, in one channel at least
_MARGIN = 1.0  # pixels that are left free at the image's border
_SHIFT = 6  # OpenCV's points in 64ths of a pixel


def draw_harbour(rng: np.random.Generator, size: tuple[int, int]) -> Sample:
    """Draw up to eight objects that lie wholly inside the image; a later one may hide parts of earlier ones.

    Args:
        rng: the only source of randomness.
        size: (width, height), pixels.
    """
    canvas = _water(rng, size)
    seen = np.zeros(size[::-1], np.int64)  # the number of the object seen at each pixel, 0 for water
    areas: list[int] = []
    corners: list[np.ndarray] = []
    labels: list[int] = []
    wanted = int(rng.integers(1, _MOST_OBJECTS + 1))
    for _ in range(_TRIES * wanted):
        label, box = _place(rng, size)
        body = _filled(_outline(box, label), size)
        covers = body > 127
        if len(labels) == wanted or not _inside(box, size) or _hides_too_much(covers, seen, areas):
            continue
        _render(rng, canvas, box, label, body)
        corners.append(box.corners[0])
        labels.append(label)
        areas.append(int(covers.sum()))
        seen[covers] = len(areas)
    noisy = canvas + rng.normal(0, rng.uniform(2, 8), canvas.shape)
    found = np.array(corners, np.float32).reshape(-1, 4, 2)
    instances = Instances.of(upright(found), labels, corners=found)
    return Sample(np.clip(noisy, 0, 255).astype(np.uint8), instances, ImageInfo(0, "harbour", *size))


def _inside(box: Rectangles, size: tuple[int, int]) -> bool:
    corners = box.corners[0]
    return bool((corners > _MARGIN).all() and (corners < np.array(size) - 1 - _MARGIN).all())


def _hides_too_much(covers: np.ndarray, seen: np.ndarray, areas: list[int]) -> bool:
    """Whether too little would be seen of any earlier object; ``areas`` are those of the objects, pixels."""
    left = np.bincount(seen[~covers], minlength=len(areas) + 1)[1:]
    return bool((left < (1 - _MOST_HIDDEN) * np.array(areas)).any())


def _place(rng: np.random.Generator, size: tuple[int, int]) -> tuple[int, Rectangles]:
    """A kind, and where it lies."""
    label = int(rng.integers(len(KINDS)))
    length = rng.uniform(*_LENGTHS[label]) * min(size)
    breadth = length / rng.uniform(*_ASPECTS[label])
    centre = rng.uniform(0, 1, 2) * size
    axis = np.exp(1j * rng.uniform(0, 2 * np.pi))
    return label, Rectangles(centre[None], np.array([[length, breadth]]), np.array([axis]))


def _outline(box: Rectangles, label: int, shrink: float = 1.0) -> np.ndarray:
    """(P, 2): the outline of an object in image pixels."""
    shape = (_HULL if label == 0 else _BOX) * shrink * box.size[0] / 2
    turned = (shape[:, 0] + 1j * shape[:, 1]) * box.axis[0]
    points: np.ndarray = np.stack([turned.real, turned.imag], axis=1) + box.centre[0]
    return points


def _filled(points: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(H, W) uint8: how much of each pixel an outline covers, up to 255."""
    mask = np.zeros(size[::-1], np.uint8)
    cv2.fillPoly(mask, [np.round(points * 2**_SHIFT).astype(np.int32)], 255, cv2.LINE_AA, _SHIFT)
    return mask


def _render(
    rng: np.random.Generator, canvas: np.ndarray, box: Rectangles, label: int, body: np.ndarray
) -> None:
    """Render an object onto the canvas: its body, and a deck, corrugation or planks on it."""
    size = (canvas.shape[1], canvas.shape[0])
    colour = rng.uniform(60, 255, 3)
    while np.abs(colour - canvas.mean(axis=(0, 1))).max() < _LEAST_CONTRAST:
        colour = rng.uniform(60, 255, 3)
    other = np.clip(colour + rng.choice([-1, 1]) * rng.uniform(40, 80), 0, 255)
    layers = [(body, colour)]
    if label == 0:
        layers.append((_filled(_outline(box, label, 0.55), size), other))
    else:
        for share in np.linspace(-0.75, 0.75, 4 if label == 1 else 3):
            # Across a container, along a raft: so the two differ even where their shapes are alike.
            line = [[share, -0.9], [share, 0.9]] if label == 1 else [[-0.9, share], [0.9, share]]
            layers.append((_stroke(box, np.array(line), size), other))
    for cover, ink in layers:
        where = cover > 0
        canvas[where] += (ink - canvas[where]) * (cover[where, None] / 255)


def _stroke(box: Rectangles, line: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(H, W) uint8: a thin line between two points given in halves of the box's sides."""
    ends = line * box.size[0] / 2
    turned = (ends[:, 0] + 1j * ends[:, 1]) * box.axis[0]
    points = np.stack([turned.real, turned.imag], axis=1) + box.centre[0]
    mask = np.zeros(size[::-1], np.uint8)
    cv2.polylines(mask, [np.round(points * 2**_SHIFT).astype(np.int32)], False, 255, 1, cv2.LINE_AA, _SHIFT)
    return mask


def _water(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """(H, W, 3) float64: soft colours, mostly blue and green, with ripples."""
    base = np.array([rng.uniform(20, 90), rng.uniform(60, 130), rng.uniform(80, 160)])
    waves = sum(
        np.asarray(cv2.resize(rng.uniform(-1, 1, (cells, cells)), size, interpolation=cv2.INTER_CUBIC))
        * strength
        for cells, strength in ((3, 30), (12, 12), (32, 8))
    )
    return np.asarray(base + np.asarray(waves)[..., None])
