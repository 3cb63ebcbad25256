"""The shapes of annotation tools (rectangles, outlines, circles, ellipses) as COCO annotations."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from ctnet.base.numbers import LARGEST_COORDINATE
from ctnet.convert.coco import box_annotation, plain
from ctnet.convert.report import BadRecord

Point = tuple[float, float]
_DIGITS = 3  # of a pixel


def number(value: object, name: str) -> float:
    """A number of a record that a coordinate can have.

    Raises:
        BadRecord: for anything else.
    """
    try:
        result = float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else math.nan
    except OverflowError:
        result = math.inf
    if not abs(result) <= LARGEST_COORDINATE:
        raise BadRecord("coordinate that is not a number", f"{name} is {json.dumps(value)[:40]}")
    return result


def check_finite(fields: Mapping[str, Any]) -> None:
    """Refuse NaN and infinity in fields that are kept: JSON has neither.

    Raises:
        BadRecord: naming the field.
    """
    for name, value in fields.items():
        try:
            json.dumps(value, allow_nan=False)
        except ValueError as error:
            raise BadRecord("value that is not a number", f"{name} is {json.dumps(value)[:40]}") from error


def points_of(value: object) -> list[Point]:
    """[[x, y], ...] of a JSON file.

    Raises:
        BadRecord: for anything else.
    """
    if not isinstance(value, list) or not all(isinstance(p, list) and len(p) == 2 for p in value):
        raise BadRecord("points that are not pairs", json.dumps(value)[:60])
    return [(number(x, "x"), number(y, "y")) for x, y in value]


def rectangle(points: Sequence[Point]) -> list[Point]:
    """The corners of the box around points.

    Raises:
        BadRecord: for fewer than two points.
    """
    if len(points) < 2:
        raise BadRecord("shape with too few points", f"{len(points)}")
    (left, right), (top, bottom) = ((min(values), max(values)) for values in zip(*points, strict=True))
    return [(left, top), (right, top), (right, bottom), (left, bottom)]


def around(x: float, y: float, horizontal: float, vertical: float) -> list[Point]:
    """The corners of the box around a centre, given its half width and half height."""
    return rectangle([(x - horizontal, y - vertical), (x + horizontal, y + vertical)])


def ellipse(x: float, y: float, rx: float, ry: float, turn: float) -> list[Point]:
    """The corners of the box around an ellipse whose first axis is rotated by ``turn`` (radians)."""
    cosine, sine = math.cos(turn), math.sin(turn)
    return around(x, y, math.hypot(rx * cosine, ry * sine), math.hypot(rx * sine, ry * cosine))


def annotation_of(
    category: str, outlines: Sequence[Sequence[Point]], size: tuple[int, int], outlined: bool, **extra: Any
) -> dict[str, Any]:
    """An annotation of one object (with ``category`` for ``category_id``).

    Args:
        category: its name.
        outlines: its parts, image pixels.
        size: (width, height) of the image.
        outlined: whether the parts are outlines, kept as ``segmentation``, or corners of boxes.
        extra: further keys.

    Raises:
        BadRecord: when it has no area or lies outside its image.
    """
    if any(len(outline) < 3 for outline in outlines):
        raise BadRecord("shape with too few points", f"{min(map(len, outlines))}")
    points = [point for outline in outlines for point in outline]
    (left, top), _, (right, bottom), _ = rectangle(points)
    shown = f"x {left:g} to {right:g}, y {top:g} to {bottom:g}"
    if right <= left or bottom <= top:
        raise BadRecord("box without area", shown)
    if left >= size[0] or top >= size[1] or right <= 0 or bottom <= 0:
        raise BadRecord("box outside the image", f"{shown}; the image has {size[0]}x{size[1]}")
    box = [round(value, _DIGITS) for value in (left, top, right - left, bottom - top)]
    if outlined:
        area = plain(round(sum(map(_area, outlines)), _DIGITS))
        flat = [[plain(round(v, _DIGITS)) for point in outline for v in point] for outline in outlines]
        extra = {"area": area, "segmentation": flat, **extra}
    return box_annotation(category, box) | extra


def _area(outline: Sequence[Point]) -> float:
    pairs = zip(outline, [*outline[1:], outline[0]], strict=True)
    return abs(sum(x * next_y - next_x * y for (x, y), (next_x, next_y) in pairs)) / 2
