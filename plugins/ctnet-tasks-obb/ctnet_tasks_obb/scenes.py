"""Synthetic harbours: ships, containers and rafts in every direction, some of which hide parts of others."""

from __future__ import annotations

from typing import Any, NamedTuple

import cv2
import numpy as np

from ctnet.plugin import Instances, Sample, blend, boxes_around, scene_of, visible_objects
from ctnet_tasks_obb.boxes import Rectangles

#: The categories of ``draw_harbour``; label i is entry i.
KINDS: tuple[dict[str, Any], ...] = tuple(
    {"id": number, "name": name} for number, name in enumerate(("ship", "container", "raft"), start=1)
)

#: Smallest and largest length of each kind, as fractions of the image's shorter side, and length / width.
_LENGTHS = ((0.22, 0.5), (0.16, 0.32), (0.12, 0.26))
_ASPECTS = ((2.6, 4.2), (1.6, 2.4), (1.0, 1.15))

#: Outlines along x from -1 to 1 and along y from -1 to 1: a ship has a bow and a stern.
_HULL = np.array(
    [
        *([-1, -0.75], [-0.85, -1], [0.35, -1], [0.8, -0.6], [1, 0]),
        *([0.8, 0.6], [0.35, 1], [-0.85, 1], [-1, 0.75]),
    ]
)
_BOX = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]], np.float64)
_SHAPES = (_HULL, _BOX, _BOX)

#: Details of each kind: a deck on a ship; lines across a container and along a raft, so that the two differ
#: even with similar shapes.
_MARKS = (
    (_HULL * 0.55,),
    [np.array([[along, -0.9], [along, 0.9]]) for along in np.linspace(-0.75, 0.75, 4)],
    [np.array([[-0.9, across], [0.9, across]]) for across in np.linspace(-0.75, 0.75, 3)],
)

_MOST_OBJECTS = 8
_MOST_HIDDEN = 0.4
_TRIES = 3  # for a place, on average
_LEAST_CONTRAST = 50.0  # of 255, in one channel at least
_MARGIN = 1.0  # pixels kept free at the image's border
_SHIFT = 6  # OpenCV's points in 64ths of a pixel


class _Thing(NamedTuple):
    """A placed object; ``box`` has one row."""

    label: int
    box: Rectangles
    body: np.ndarray  #: (H, W) uint8, its coverage of each pixel, up to 255

    @property
    def mask(self) -> np.ndarray:
        """(H, W) bool."""
        return self.body > 127


def draw_harbour(rng: np.random.Generator, size: tuple[int, int]) -> Sample:
    """Draw up to eight objects that are entirely inside the image; later ones may hide parts of earlier ones.

    Args:
        rng: the only source of randomness.
        size: (width, height), pixels.
    """
    canvas = _water(rng, size)
    things: list[_Thing] = []
    wanted = int(rng.integers(1, _MOST_OBJECTS + 1))
    for _ in range(_TRIES * wanted):
        thing = _place(rng, size)
        if len(things) == wanted or not _inside(thing.box, size):
            continue
        if len(visible_objects([*(other.mask for other in things), thing.mask], 1 - _MOST_HIDDEN)) > len(
            things
        ):
            _render(rng, canvas, thing)
            things.append(thing)
    corners = np.array([thing.box.corners[0] for thing in things], np.float32).reshape(-1, 4, 2)
    instances = Instances.of(boxes_around(corners), [thing.label for thing in things], corners=corners)
    return scene_of(rng, canvas, rng.uniform(2, 8), instances)


def _inside(box: Rectangles, size: tuple[int, int]) -> bool:
    corners = box.corners[0]
    return bool((corners > _MARGIN).all() and (corners < np.array(size) - 1 - _MARGIN).all())


def _place(rng: np.random.Generator, size: tuple[int, int]) -> _Thing:
    """An object of a random kind, at a random position."""
    label = int(rng.integers(len(KINDS)))
    length = rng.uniform(*_LENGTHS[label]) * min(size)
    breadth = length / rng.uniform(*_ASPECTS[label])
    centre = rng.uniform(0, 1, 2) * size
    axis = np.exp(1j * rng.uniform(0, 2 * np.pi))
    box = Rectangles(centre[None], np.array([[length, breadth]]), np.array([axis]))
    return _Thing(label, box, _drawn(box, _SHAPES[label], size))


def _drawn(box: Rectangles, shape: np.ndarray, size: tuple[int, int], filled: bool = True) -> np.ndarray:
    """(H, W) uint8: coverage of each pixel by a polygon or a thin line, up to 255.

    Args:
        box: one row.
        shape: (P, 2), points of the polygon or line, along and across the box in units of half its sides.
        size: (width, height), pixels.
        filled: whether it is a polygon.
    """
    points = shape * box.size[0] / 2
    turned = (points[:, 0] + 1j * points[:, 1]) * box.axis[0]
    placed = np.stack([turned.real, turned.imag], axis=1) + box.centre[0]
    at = [np.round(placed * 2**_SHIFT).astype(np.int32)]
    mask = np.zeros(size[::-1], np.uint8)
    if filled:
        return np.asarray(cv2.fillPoly(mask, at, 255, cv2.LINE_AA, _SHIFT))
    return np.asarray(cv2.polylines(mask, at, False, 255, 1, cv2.LINE_AA, _SHIFT))


def _render(rng: np.random.Generator, canvas: np.ndarray, thing: _Thing) -> None:
    """Render an object onto the canvas: its body, and with a deck, corrugation or planks."""
    colour = rng.uniform(60, 255, 3)
    while np.abs(colour - canvas.mean(axis=(0, 1))).max() < _LEAST_CONTRAST:
        colour = rng.uniform(60, 255, 3)
    other = np.clip(colour + rng.choice([-1, 1]) * rng.uniform(40, 80), 0, 255)
    blend(canvas, thing.body, colour)
    for shape in _MARKS[thing.label]:
        cover = _drawn(thing.box, shape, (canvas.shape[1], canvas.shape[0]), filled=thing.label == 0)
        blend(canvas, cover, other)


def _water(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """(H, W, 3) float64: soft colours, mostly blue and green, with ripples."""
    base = np.array([rng.uniform(20, 90), rng.uniform(60, 130), rng.uniform(80, 160)])
    waves = sum(
        np.asarray(cv2.resize(rng.uniform(-1, 1, (cells, cells)), size, interpolation=cv2.INTER_CUBIC))
        * strength
        for cells, strength in ((3, 30), (12, 12), (32, 8))
    )
    return np.asarray(base + np.asarray(waves)[..., None])
