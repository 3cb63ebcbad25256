"""Outlines of regions, from COCO's polygons and run-length encodings; the field that holds them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ctnet.base.numbers import LARGEST_COORDINATE
from ctnet.base.schema import shorten
from ctnet.core.fields import Columns, Field, is_finite
from ctnet.core.geometry import Affine

#: Factor by which outlines are enlarged for comparison.
_FINE = 8.0

#: Largest mask that is decoded: OpenCV reads no larger image.
_MOST_PIXELS = 2**30


@dataclass(frozen=True, eq=False)
class Outline:
    """A region of the plane: all points inside one of the polygons but not in a hole.

    Attributes:
        polygons, holes: closed, (V, 2) float32, (x, y).
    """

    polygons: tuple[np.ndarray, ...]
    holes: tuple[np.ndarray, ...] = ()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Outline):
            return NotImplemented
        pairs = ((self.polygons, other.polygons), (self.holes, other.holes))
        return all(len(a) == len(b) and all(map(np.array_equal, a, b)) for a, b in pairs)

    __hash__ = None  # type: ignore[assignment]  # it holds arrays

    def moved(self, affine: Affine) -> Outline:
        """In the frame that ``affine`` maps to."""
        return Outline(tuple(map(affine.points, self.polygons)), tuple(map(affine.points, self.holes)))

    def rasterise(self, width: int, height: int) -> np.ndarray:
        """(height, width) bool: pixels whose centre (integer coordinates) is in the region or on its edge."""
        import cv2

        canvas = np.zeros((height, width), np.uint8)
        shift = 8  # fractional bits of a coordinate
        rings = [*((ring, 1) for ring in self.polygons), *((ring, 0) for ring in self.holes)]
        # Large ones first, since a hole may contain an island.
        for ring, value in sorted(rings, key=lambda pair: -cv2.contourArea(pair[0])):
            points = [np.round(ring * 2**shift).astype(np.int32)]
            cv2.fillPoly(canvas, points, value, shift=shift)
            if not value:  # a hole's edge belongs to the region
                cv2.polylines(canvas, points, True, 1, shift=shift)
        return canvas.astype(bool)


@dataclass(frozen=True, kw_only=True)
class Mask(Field):
    """A region: a column (N,) of ``Outline`` objects, None where missing; polygons or RLE in files."""

    json: str = "segmentation"
    needed: Any = "never"

    def error(self, value: Any, found: bool = False, image: Mapping[str, Any] | None = None) -> str | None:
        if isinstance(value, Mapping):
            return _run_length_error(value, image)
        if not isinstance(value, Sequence) or isinstance(value, str):
            return f"is {type(value).__name__}, neither polygons nor a run-length encoding"
        errors = []
        for number, polygon in enumerate(value, start=1):
            is_list = isinstance(polygon, Sequence) and not isinstance(polygon, str)
            if not is_list or len(polygon) < 6 or len(polygon) % 2:
                count = f"{len(polygon)} numbers" if is_list else shorten(polygon)
                errors.append(f"has as polygon {number} {count}, not x and y of three or more points")
            elif not all(is_finite(number, LARGEST_COORDINATE) for number in polygon):
                errors.append(f"has a polygon {number} with values that are not finite numbers")
        return "; ".join(errors) or None

    def read(self, name: str, values: Sequence[Any], found: bool = False) -> dict[str, np.ndarray]:
        column = np.empty(len(values), object)
        column[:] = [outline_of(value) for value in values]
        return {name: column}

    def write(self, name: str, columns: Columns, found: bool = False) -> list[Any]:
        return [None if outline is None else self._polygons(outline) for outline in columns[name]]

    def _polygons(self, outline: Outline) -> list[list[float]]:
        rings = [ring.astype(np.float64).round(self.digits) for ring in _without_holes(outline)]
        return [ring.ravel().tolist() for ring in rings]

    def move(self, name: str, columns: Columns, affine: Affine) -> dict[str, np.ndarray]:
        column = np.empty(len(columns[name]), object)
        column[:] = [None if outline is None else outline.moved(affine) for outline in columns[name]]
        return {name: column}

    def distance(self, name: str, truth: Columns, found: Columns) -> np.ndarray:
        """(N,): 1 - IoU of two outlines, rasterised at eight times the resolution of their frame."""
        pairs = zip(truth[name], found[name], strict=True)
        return np.array([0.0 if one is None else _one_minus_iou(one, other) for one, other in pairs])


def _without_holes(outline: Outline) -> list[np.ndarray]:
    """Polygons of the same region without holes: each hole is joined to its surrounding polygon by a slit."""
    import cv2

    rings = list(outline.polygons)
    for hole in outline.holes:
        point = tuple(hole[0].tolist())
        rows = range(len(outline.polygons))
        around = [n for n in rows if cv2.pointPolygonTest(outline.polygons[n], point, False) >= 0]
        owner = min(around, key=lambda n: float(cv2.contourArea(outline.polygons[n])))
        rings[owner] = _joined(rings[owner], hole)
    return rings


def _joined(ring: np.ndarray, hole: np.ndarray) -> np.ndarray:
    """One ring from an outer and an inner one, joined by a slit between their nearest points."""
    gaps = ((ring[:, None] - hole) ** 2).sum(axis=2)
    end, start = np.unravel_index(gaps.argmin(), gaps.shape)
    inner = np.roll(hole, -int(start), axis=0)
    return np.concatenate([ring[: end + 1], inner, inner[:1], ring[end:]])


def outline_of(segmentation: Any) -> Outline | None:
    """The outline of a valid COCO segmentation; None for one that is missing or empty.

    Args:
        segmentation: polygons, or a run-length encoding, image pixels.
    """
    if not segmentation:
        return None
    if not isinstance(segmentation, Mapping):
        return Outline(tuple(np.asarray(polygon, np.float32).reshape(-1, 2) for polygon in segmentation))
    import cv2

    contours, levels = cv2.findContours(_decode(segmentation), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    if not contours:
        return None
    # A mask's pixel covers a whole unit of COCO's coordinates, so its centre is half a unit further.
    rings = [contour.reshape(-1, 2).astype(np.float32) + 0.5 for contour in contours]
    is_hole = [parent >= 0 for parent in levels[0][:, 3]]
    return Outline(
        tuple(ring for ring, hole in zip(rings, is_hole, strict=True) if not hole),
        tuple(ring for ring, hole in zip(rings, is_hole, strict=True) if hole),
    )


def _run_length_error(encoding: Mapping[str, Any], image: Mapping[str, Any] | None) -> str | None:
    size, counts = encoding.get("size"), encoding.get("counts")
    if not isinstance(size, Sequence) or len(size) != 2 or not all(map(_is_side, size)):
        return f"is a run-length mask of size {shorten(size)}, not [height, width]"
    if math.prod(size) > _MOST_PIXELS:
        return f"is a run-length mask of size {size}, larger than any image"
    if image is not None and list(size) != [image["height"], image["width"]]:
        return f"is a run-length mask of size {size}, its image [{image['height']}, {image['width']}]"
    if isinstance(counts, Sequence) and not isinstance(counts, str):
        sound = all(type(count) is int and count >= 0 for count in counts)
        if not sound or sum(counts) != math.prod(size):
            return f"is a run-length mask whose counts do not add up to {math.prod(size)} pixels"
    elif not isinstance(counts, str):
        return f"is a run-length mask with counts of type {type(counts).__name__}"
    try:
        _decode(encoding)
    except (ValueError, RuntimeError, OverflowError, TypeError) as error:
        return f"is a run-length mask that cannot be decoded: {error}"
    return None


def _is_side(value: Any) -> bool:
    return type(value) is int and value > 0


def _decode(encoding: Mapping[str, Any]) -> np.ndarray:
    """(H, W) uint8."""
    from pycocotools import mask as coco_mask

    if not isinstance(encoding["counts"], str):
        encoding = coco_mask.frPyObjects(dict(encoding), *encoding["size"])
    return np.asarray(coco_mask.decode(encoding))


def _one_minus_iou(one: Outline, other: Outline | None) -> float:
    if other is None:
        return 1.0
    points = np.concatenate([*one.polygons, *other.polygons])
    left, top = points.min(axis=0)
    shift = Affine(np.array([[_FINE, 0, -_FINE * left], [0, _FINE, -_FINE * top]]))
    width, height = np.ceil(_FINE * np.ptp(points, axis=0)).astype(int).tolist()
    first, second = (outline.moved(shift).rasterise(width + 2, height + 2) for outline in (one, other))
    return 1 - float((first & second).sum() / max((first | second).sum(), 1))
