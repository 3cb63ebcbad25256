"""Synthetic streets: cars, pedestrians and cyclists made of shaded blocks, seen by a camera like KITTI's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np

from ctnet.plugin import Instances, Sample, boxes_around, fine_points, scene_of, visible_objects
from ctnet_tasks_ddd.camera import box_corners, project, wrap
from ctnet_tasks_ddd.fields import CATEGORIES

_FOCAL = 0.581  # of the image's width
_PRINCIPAL = (0.491, 0.46)  # of the image's width and height
_BESIDE = (0.0622, 0.0003, 0.0027)  # the camera's offset in its frame, m
_CAMERA_HEIGHT = 1.65  # m, above the ground
_MOST_OBJECTS = 6
_LEAST_HEIGHT = 26  # pixels of a box: KITTI's evaluation counts objects from 25 on
_LEAST_SEEN = 0.5  # of an object's pixels
_SUPERSAMPLING = 2
_LIGHT = np.array([0.45, -0.8, -0.4])  # towards the sun

#: Height, width, length, m: from, to.
_DIMENSIONS = {
    "Pedestrian": ((1.55, 0.5, 0.5), (1.9, 0.75, 0.9)),
    "Car": ((1.35, 1.5, 3.2), (1.7, 1.85, 4.6)),
    "Cyclist": ((1.6, 0.5, 1.5), (1.85, 0.7, 1.9)),
}

#: The corners of a face, see ``camera.box_corners``: front, back, left, right, roof.
_FACES = ((0, 1, 5, 4), (2, 3, 7, 6), (3, 0, 4, 7), (1, 2, 6, 5), (4, 5, 6, 7))
_NORMALS = ((1, 0, 0), (-1, 0, 0), (0, 0, 1), (0, 0, -1), (0, -1, 0))


class _Block(NamedTuple):
    """Cuboid in fractions of its object: lengthwise (front 0.5), up from the bottom, across (left 0.5)."""

    along: tuple[float, float]
    up: tuple[float, float]
    across: tuple[float, float]
    colour: str
    front: str = ""  #: colour of its front, if different


#: The blocks of each class; some colours are random per object, see ``_colours``.
_BLOCKS = {
    "Pedestrian": (
        _Block((0, 0.5), (0, 0.5), (-0.35, -0.05), "trousers"),
        _Block((-0.5, 0), (0, 0.5), (0.05, 0.35), "trousers"),
        _Block((-0.25, 0.25), (0.45, 0.84), (-0.5, 0.5), "body"),
        _Block((-0.2, 0.25), (0.85, 1), (-0.25, 0.25), "dark", "skin"),
    ),
    "Cyclist": (
        _Block((-0.5, -0.15), (0, 0.38), (-0.06, 0.06), "dark"),
        _Block((0.15, 0.5), (0, 0.38), (-0.06, 0.06), "dark"),
        _Block((-0.15, 0.15), (0.15, 0.5), (-0.3, 0.3), "trousers"),
        _Block((-0.2, 0.12), (0.45, 0.84), (-0.5, 0.5), "body"),
        _Block((-0.1, 0.15), (0.85, 1), (-0.25, 0.25), "dark", "skin"),
    ),
    "Car": (
        _Block((-0.5, 0.5), (0, 0.15), (-0.48, 0.48), "dark"),
        _Block((-0.5, 0.5), (0.15, 0.6), (-0.5, 0.5), "body"),
        _Block((-0.38, 0.2), (0.6, 0.95), (-0.44, 0.44), "window", "windscreen"),
        _Block((-0.36, 0.15), (0.95, 1), (-0.42, 0.42), "body"),
        _Block((0.5, 0.5), (0.35, 0.5), (-0.48, -0.22), "headlamp"),
        _Block((0.5, 0.5), (0.35, 0.5), (0.22, 0.48), "headlamp"),
        _Block((-0.5, -0.5), (0.35, 0.5), (-0.48, -0.22), "rear lamp"),
        _Block((-0.5, -0.5), (0.35, 0.5), (0.22, 0.48), "rear lamp"),
    ),
}
_COLOURS = {"windscreen": (150, 190, 215), "headlamp": (255, 250, 205), "rear lamp": (215, 20, 20)}


@dataclass(frozen=True)
class _Object:
    label: int
    dimensions: np.ndarray
    location: np.ndarray
    rotation_y: float

    @property
    def corners(self) -> np.ndarray:
        """(8, 3)."""
        body = self.dimensions[None], self.location[None], np.array([self.rotation_y])
        return np.asarray(box_corners(*body)[0])

    @property
    def turn(self) -> np.ndarray:
        """(3, 3): from its own axes (length, up, left) to the camera's."""
        cos, sin = np.cos(self.rotation_y), np.sin(self.rotation_y)
        return np.array([[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]])

    def part(self, block: _Block) -> _Object:
        """The corners of a block."""
        height, width, length = self.dimensions
        sides = np.array([block.up, block.across, block.along])
        own = np.array([length * sides[2].mean(), -height * block.up[0], width * sides[1].mean()])
        extent = (sides[:, 1] - sides[:, 0]) * self.dimensions
        return _Object(self.label, extent, self.location + self.turn @ own, self.rotation_y)


def draw_street(rng: np.random.Generator, size: tuple[int, int]) -> Sample:
    """Draw one to six objects on a plane; lamps and faces show their orientation.

    All are entirely inside the image and at least half visible.

    Args:
        rng: the only source of randomness; the same state gives the same scene.
        size: (width, height), pixels.
    """
    camera = camera_for(size)
    objects: list[_Object] = []
    while not objects:
        count = int(rng.integers(1, _MOST_OBJECTS + 1))
        placed: list[_Object] = []
        for _ in range(4 * count):
            candidate = _place(rng, camera, size)
            if len(placed) < count and _fits(candidate, placed, camera, size):
                placed.append(candidate)
        placed.sort(key=lambda thing: -np.hypot(*thing.location[[0, 2]]))
        seen = visible_objects([_mask(thing, camera, size) for thing in placed], _LEAST_SEEN)
        objects = [placed[number] for number in seen]
    canvas = _ground(rng, camera, size)
    for thing in objects:
        _draw(canvas, thing, rng, camera)
    corners = project(np.stack([thing.corners for thing in objects]), camera)
    location = np.array([thing.location for thing in objects])
    rotation_y = np.array([thing.rotation_y for thing in objects])
    instances = Instances.of(
        boxes_around(corners),
        [thing.label for thing in objects],
        dimensions=np.array([thing.dimensions for thing in objects]),
        location=location,
        rotation_y=rotation_y,
        alpha=wrap(rotation_y - np.arctan2(location[:, 0], location[:, 2])),
    )
    image = cv2.resize(canvas, size, interpolation=cv2.INTER_AREA)
    return scene_of(rng, image, rng.uniform(1, 4), instances, {"calib": camera.tolist()})


def camera_for(size: tuple[int, int]) -> np.ndarray:
    """A camera (3, 4) like KITTI's for images of ``size`` (width, height), pixels."""
    focal = _FOCAL * size[0]
    x, y = (side * share for side, share in zip(size, _PRINCIPAL, strict=True))
    intrinsic = np.array([[focal, 0, x], [0, focal, y], [0, 0, 1]])
    return np.concatenate([intrinsic, intrinsic @ np.array(_BESIDE)[:, None]], axis=1)


def _place(rng: np.random.Generator, camera: np.ndarray, size: tuple[int, int]) -> _Object:
    """An object of a random class, somewhere in front of the camera."""
    label = int(rng.choice(len(CATEGORIES), p=(0.3, 0.45, 0.25)))
    dimensions = rng.uniform(*_DIMENSIONS[CATEGORIES[label]])
    farthest = max(camera[0, 0] * dimensions[0] / _LEAST_HEIGHT, 6.0)
    z = float(rng.uniform(max(4.0, 0.35 * farthest), farthest))
    x = float(rng.uniform(-0.5, 0.5)) * size[0] / camera[0, 0] * z
    turn = rng.uniform(-np.pi, np.pi)
    if rng.random() < 0.5:  # along the road, or against it
        turn = np.copysign(np.pi / 2, turn) + rng.normal(0, 0.15)
    return _Object(label, dimensions, np.array([x, _CAMERA_HEIGHT, z]), float(wrap(turn)))


def _fits(candidate: _Object, others: list[_Object], camera: np.ndarray, size: tuple[int, int]) -> bool:
    """Whether an object is inside the image and apart from the others."""
    points = project(candidate.corners, camera)
    if candidate.corners[:, 2].min() < 1 or (points < 0).any() or (points > np.array(size) - 1).any():
        return False
    length = np.hypot(*candidate.dimensions[1:])
    return all(
        np.hypot(*(candidate.location - other.location)[[0, 2]])
        > (length + np.hypot(*other.dimensions[1:])) / 2
        for other in others
    )


def _mask(thing: _Object, camera: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(H, W) bool: the pixels of an object's hull."""
    hull = cv2.convexHull(project(thing.corners, camera).astype(np.float32))
    mask = np.zeros(size[::-1], np.uint8)
    return cv2.fillConvexPoly(mask, np.round(hull).astype(np.int32), (1,)).astype(bool)


def _draw(canvas: np.ndarray, thing: _Object, rng: np.random.Generator, camera: np.ndarray) -> None:
    """Draw an object's shadow and its blocks: farthest first, and lower ones before those above."""
    floor = thing.corners[:4]
    _fill(canvas, project(floor + 0.12 * (floor - floor.mean(axis=0)), camera), np.array([45.0, 45, 48]))
    colours = _colours(rng)
    parts = [(thing.part(block), block) for block in _BLOCKS[CATEGORIES[thing.label]]]
    x, y, z = np.array([part.corners.mean(axis=0) for part, _ in parts]).T
    for row in np.argsort(-(np.hypot(x, z) + 0.5 * y), kind="stable"):
        part, block = parts[row]
        _render(canvas, part, colours[block.front or block.colour], colours[block.colour], camera)


def _colours(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """The colours of one object, see ``_BLOCKS``."""
    drawn = {
        "body": rng.uniform(40, 235, 3),
        "dark": rng.uniform(15, 45, 3),
        "skin": np.array([222, 178, 145]) * rng.uniform(0.5, 1.1),
        "trousers": rng.uniform(20, 150, 3),
    }
    return drawn | {"window": 2 * drawn["dark"]} | {name: np.array(rgb) for name, rgb in _COLOURS.items()}


def _render(
    canvas: np.ndarray, part: _Object, front: np.ndarray, colour: np.ndarray, camera: np.ndarray
) -> None:
    """Fill the visible faces of a block, shaded by their angle to the sun."""
    for number, (face, normal) in enumerate(zip(_FACES, _NORMALS, strict=True)):
        corners, outward = part.corners[list(face)], part.turn @ np.array(normal)
        if outward @ corners.mean(axis=0) < 0:
            bright = 0.6 + 0.45 * max(float(outward @ _LIGHT), 0)
            shaded = np.clip((colour if number else front) * bright, 0, 255)
            _fill(canvas, project(corners, camera), shaded)


def _fill(canvas: np.ndarray, points: np.ndarray, colour: np.ndarray) -> None:
    """Fill a convex polygon of image pixels on the fine canvas."""
    hull = cv2.convexHull(fine_points(points, _SUPERSAMPLING))
    cv2.fillConvexPoly(canvas, hull, colour.tolist(), cv2.LINE_AA, 4)


def _ground(rng: np.random.Generator, camera: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The empty street on the fine canvas: sky, a row of houses, asphalt with lines."""
    width, height = (side * _SUPERSAMPLING for side in size)
    horizon = int(camera[1, 2] * _SUPERSAMPLING)
    canvas = np.empty((height, width, 3), np.uint8)
    sky = np.linspace(0, 40, max(horizon, 1))[:, None] + rng.uniform((130, 160, 190), (180, 200, 225))
    canvas[:horizon] = np.clip(sky, 0, 255)[:horizon, None]
    asphalt = np.linspace(0, 25, height - horizon) + rng.uniform(80, 115, 3).mean()
    canvas[horizon:] = np.clip(asphalt, 0, 255)[:, None, None]
    x = 0
    while x < width:
        step, top = int(rng.uniform(0.03, 0.12) * width) + 1, int(rng.uniform(0.2, 0.95) * horizon)
        canvas[top:horizon, x : x + step] = rng.uniform(70, 190, 3)
        x += step
    white, middle_line = np.array([205.0, 205, 195]), rng.uniform(-2, 2)
    for start in np.arange(3.0, 60, 6.0):
        line = np.array([[side, _CAMERA_HEIGHT, z] for side in (-0.08, 0.08) for z in (start, start + 3)])
        for lane in (-3.5, 0.0, 3.5):
            _fill(canvas, project(line + np.array([middle_line + lane, 0, 0]), camera), white)
    grain = rng.normal(0, 5, (height // 2 + 1, width // 2 + 1))
    grown = cv2.resize(grain, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(np.clip(canvas + grown[..., None], 0, 255), np.uint8)
