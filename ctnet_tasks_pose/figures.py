"""Synthetic scenes of jointed figures: stick figures on a cluttered background."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import cv2
import numpy as np

from ctnet.plugin import Instances, Sample, draw_scene, fine_points, scene_of, visible_objects

#: COCO's person: its keypoints and limbs, for the scenes of ``draw_figures``.
FIGURES: tuple[dict[str, Any], ...] = (
    {
        "id": 1,
        "name": "person",
        "keypoints": [
            "nose",
            *("left_eye", "right_eye", "left_ear", "right_ear"),
            *("left_shoulder", "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist"),
            *("left_hip", "right_hip", "left_knee", "right_knee", "left_ankle", "right_ankle"),
        ],
        "skeleton": [
            *([16, 14], [14, 12], [17, 15], [15, 13], [12, 13]),
            *([6, 12], [7, 13], [6, 7], [6, 8], [7, 9], [8, 10], [9, 11]),
            *([2, 3], [1, 2], [1, 3], [2, 4], [3, 5], [4, 6], [5, 7]),
        ],
    },
)

_NAMES: list[str] = FIGURES[0]["keypoints"]
_FIGURES = (1, 1, 1, 1, 2, 2, 3)  # drawn from at random
_LEAST_SEEN = 0.6  # of a figure's joints
_SUPERSAMPLING = 2
_SKIN = np.array([[245, 208, 175], [224, 172, 130], [176, 120, 80], [105, 70, 48]], np.float64)

# Proportions, as fractions of the height.
_HEAD, _NECK, _TORSO = 0.085, 0.05, 0.29
_SHOULDER, _HIP = 0.105, 0.065  # half the width
_UPPER_ARM, _FOREARM, _THIGH, _SHIN = 0.16, 0.15, 0.23, 0.22
_ARM_WIDTH, _LEG_WIDTH = 0.055, 0.075


@dataclass(frozen=True)
class _Figure:
    """A placed person.

    Attributes:
        joints: name -> (2,) point, image pixels.
        height: the height of the upright figure, pixels.
        faces_us: facing the camera; otherwise seen from behind: no face, and left is on the left.
        mask: (H, W) bool on the fine canvas, its pixels.
    """

    joints: dict[str, np.ndarray]
    height: float
    faces_us: bool
    mask: np.ndarray


def draw_figures(rng: np.random.Generator, size: tuple[int, int]) -> Sample:
    """Draw one to three figures in random poses, some seen from behind, some behind others or a board.

    The face shows which side is which: a figure that faces the camera has its left arm on the right of the
    image. An occluded joint is labelled as hidden; a joint outside the image, or of a face turned away, is
    unlabelled. A figure with less than 60 % of its joints visible is left out.

    Args:
        rng: the only source of randomness; the same state gives the same scene.
        size: (width, height) in pixels, at least 32 each.

    Returns:
        A sample with boxes around whole figures (clipped at the image's border), ``keypoints``,
        ``visibility``.
    """
    ground = cv2.GaussianBlur(draw_scene(rng, size).image, (0, 0), min(size) / 40)
    fine = (size[0] * _SUPERSAMPLING, size[1] * _SUPERSAMPLING)
    canvas = cv2.resize(ground, fine, interpolation=cv2.INTER_LINEAR)
    board = _board(rng, fine) if rng.random() < 0.25 else np.zeros(fine[::-1], bool)
    figures: list[_Figure] = []
    while not figures:
        candidates = [_place(rng, size, fine) for _ in range(int(rng.choice(_FIGURES)))]
        candidates.sort(key=lambda figure: figure.height)  # nearer figures are larger, and in front
        seen = visible_objects([figure.mask for figure in candidates], partial(_is_seen, candidates), board)
        figures = [candidates[number] for number in seen]
    for figure in figures:
        _render(rng, canvas, figure)
    canvas[board] = rng.integers(40, 216, 3)
    instances = Instances.of(
        [_box(figure.mask) for figure in figures],
        np.zeros(len(figures)),
        keypoints=np.array([[figure.joints[name] for name in _NAMES] for figure in figures], np.float32),
        visibility=np.array([_visibility(*pair) for pair in zip(figures, seen.values(), strict=True)]),
    )
    canvas = cv2.resize(canvas, size, interpolation=cv2.INTER_AREA)
    return scene_of(rng, canvas, rng.uniform(1, 5), instances)


def _place(rng: np.random.Generator, size: tuple[int, int], fine: tuple[int, int]) -> _Figure:
    """A figure with a random pose and position."""
    height = rng.uniform(0.65, 0.95) * min(size)
    faces_us = bool(rng.random() < 0.95)
    middle = rng.uniform([0.15, 0.42], [0.85, 0.58]) * size
    joints = {name: middle + height * point for name, point in _pose(rng, 1 if faces_us else -1).items()}
    mask = np.zeros(fine[::-1], np.uint8)
    for part in _parts(joints, height):
        _draw_part(mask, part, (1,))
    return _Figure(joints, height, faces_us, mask.astype(bool))


def _pose(rng: np.random.Generator, left: int) -> dict[str, np.ndarray]:
    """The joints of a figure of height 1 around the middle of its body, y downwards.

    Args:
        rng: draws the angles.
        left: 1 where the figure's left is on the right of the image, else -1.
    """
    lean = np.radians(rng.uniform(-15, 15))
    hip = np.array([0.0, 0.03])
    chest = hip + _turned(0, -_TORSO, lean)
    head = chest + _turned(0, -_NECK - _HEAD, lean + np.radians(rng.uniform(-15, 15)))
    joints = {"nose": head + np.array([rng.uniform(-0.015, 0.015), 0.015])}
    for name, side in (("left", left), ("right", -left)):
        joints[f"{name}_eye"] = head + _turned(side * 0.032, -0.015, lean)
        joints[f"{name}_ear"] = head + _turned(side * _HEAD, 0.0, lean)
        shoulder = chest + _turned(side * _SHOULDER, 0.0, lean)
        arm = np.radians(rng.uniform(5, 130)) * side
        elbow = shoulder + _turned(0, _UPPER_ARM, -arm)
        wrist = elbow + _turned(0, _FOREARM, -arm - np.radians(rng.uniform(-10, 100)) * side)
        socket = hip + _turned(side * _HIP, 0.0, lean)
        leg = np.radians(rng.uniform(-8, 40)) * side
        knee = socket + _turned(0, _THIGH, -leg)
        ankle = knee + _turned(0, _SHIN, -leg + np.radians(rng.uniform(-15, 50)) * side)
        joints |= {f"{name}_shoulder": shoulder, f"{name}_elbow": elbow, f"{name}_wrist": wrist}
        joints |= {f"{name}_hip": socket, f"{name}_knee": knee, f"{name}_ankle": ankle}
    return joints


def _turned(x: float, y: float, angle: float) -> np.ndarray:
    cos, sin = np.cos(angle), np.sin(angle)
    return np.array([cos * x - sin * y, sin * x + cos * y])


#: A part of the body: its name, its outline's points (one: a disc; two: a limb; more: a polygon), its width.
_Part = tuple[str, list[np.ndarray], float]


#: Back to front: the kind of part, the joints at its ends or corners, its width as a fraction of the height.
_BODY = (
    ("trousers", "left_hip left_knee", _LEG_WIDTH),
    ("trousers", "right_hip right_knee", _LEG_WIDTH),
    ("skin", "left_knee left_ankle", _LEG_WIDTH * 0.75),
    ("skin", "right_knee right_ankle", _LEG_WIDTH * 0.75),
    ("skin", "chest head", 0.05),
    ("shirt", "left_shoulder right_shoulder right_hip left_hip", _LEG_WIDTH),
    ("shirt", "left_shoulder left_elbow", _ARM_WIDTH),
    ("shirt", "right_shoulder right_elbow", _ARM_WIDTH),
    ("skin", "left_elbow left_wrist", _ARM_WIDTH * 0.8),
    ("skin", "right_elbow right_wrist", _ARM_WIDTH * 0.8),
    ("head", "head", 2 * _HEAD),
)


def _parts(joints: dict[str, np.ndarray], height: float) -> list[_Part]:
    """Back to front."""
    middles = {"chest": "shoulder", "head": "ear"}
    at = joints | {
        name: (joints[f"left_{side}"] + joints[f"right_{side}"]) / 2 for name, side in middles.items()
    }
    return [(what, [at[name] for name in names.split()], width * height) for what, names, width in _BODY]


def _draw_part(canvas: np.ndarray, part: _Part, colour: Any) -> None:
    """Fill a part of the body on the fine canvas."""
    _, points, width = part
    at = fine_points(np.array(points), _SUPERSAMPLING)
    thickness = max(1, round(width * _SUPERSAMPLING))
    if len(points) == 1:
        radius = round(width / 2 * _SUPERSAMPLING * 16)
        cv2.circle(canvas, at[0].tolist(), radius, colour, cv2.FILLED, shift=4)
    elif len(points) == 2:
        cv2.line(canvas, at[0].tolist(), at[1].tolist(), colour, thickness, shift=4)
    else:
        cv2.fillConvexPoly(canvas, at, colour, shift=4)
        cv2.polylines(canvas, [at], True, colour, thickness, shift=4)


def _render(rng: np.random.Generator, canvas: np.ndarray, figure: _Figure) -> None:
    skin = _SKIN[rng.integers(len(_SKIN))] * rng.uniform(0.9, 1.05)
    colours = {"skin": skin, "shirt": rng.uniform(20, 235, 3), "trousers": rng.uniform(20, 235, 3)}
    hair = rng.uniform(10, 90) * np.array([1.0, 0.8, 0.6])
    colours["head"] = skin if figure.faces_us else hair
    for part in _parts(figure.joints, figure.height):
        shaded = colours[part[0]] * rng.uniform(0.85, 1.1)
        _draw_part(canvas, part, np.clip(shaded, 0, 255).tolist())
    if figure.faces_us:
        face = [figure.joints[name] for name in ("left_eye", "right_eye", "nose")]
        for point, width, colour in zip(
            face, (0.022, 0.022, 0.03), (hair * 0.3, hair * 0.3, skin * 0.6), strict=True
        ):
            _draw_part(canvas, ("face", [point], width * figure.height), colour.tolist())


def _board(rng: np.random.Generator, fine: tuple[int, int]) -> np.ndarray:
    """A plank in front of everything, (H, W) bool."""
    board = np.zeros(fine[::-1], np.uint8)
    ends = rng.uniform([-0.1, 0.2], [1.1, 0.9], (2, 2)) * fine
    start, end = ends.astype(int).tolist()
    cv2.line(board, start, end, (1,), int(rng.uniform(0.05, 0.12) * min(fine)))
    return board.astype(bool)


def _is_seen(figures: list[_Figure], number: int, cover: np.ndarray) -> bool:
    return float((_visibility(figures[number], cover) == 2).mean()) >= _LEAST_SEEN


def _visibility(figure: _Figure, cover: np.ndarray) -> np.ndarray:
    """(J,) int64: 0 not labelled, 1 hidden by what is in front (H, W) on the fine canvas, 2 seen."""
    points = np.array([figure.joints[name] for name in _NAMES])
    last = np.array(cover.shape[::-1]) // _SUPERSAMPLING - 1
    turned_away = np.array([not figure.faces_us and name.endswith(("nose", "eye")) for name in _NAMES])
    labelled = (points >= 0).all(axis=1) & (points <= last).all(axis=1) & ~turned_away
    column, row = ((points.clip(0, last) + 0.5) * _SUPERSAMPLING).astype(int).T
    return np.where(labelled, np.where(cover[row, column], 1, 2), 0)


def _box(mask: np.ndarray) -> list[float]:
    """xyxy around a figure's pixels, image pixels."""
    x, y, width, height = cv2.boundingRect(mask.astype(np.uint8))
    return [edge / _SUPERSAMPLING for edge in (x, y, x + width, y + height)]
