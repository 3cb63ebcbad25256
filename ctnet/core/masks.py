"""Outlines of regions, from COCO's polygons and run-length encodings; the field that holds them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
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

#: Points further outside an image are moved this near to it before it is rasterised, pixels.
_BEYOND = 1e4


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

    def runs(self, width: int, height: int) -> RunLength:
        """The pixels of an image that the region covers, as COCO's tools rasterise its polygons.

        Args:
            width, height: of the image, in whose pixels the region is.
        """
        from pycocotools import mask as coco_mask

        # The tools read two points as a box, and write beyond their memory for a polygon far outside.
        reach = np.array([width, height], np.float64) + 2 * _BEYOND
        rings = [_clamped(ring, reach) for ring in _without_holes(self)]
        whole = [ring.ravel().tolist() for ring in rings if len(ring) >= 3]
        if not whole:
            return RunLength(width, height, RunLength.counts_of(np.zeros(0, np.int64), width * height))
        encoded = coco_mask.merge(coco_mask.frPyObjects(whole, height, width))
        return RunLength(width, height, encoded["counts"])


class RunLength:
    """Pixels of an image as the runs down its columns, compressed as in COCO's files: exact, and small.

    It is read like an ``Outline``; moved, it becomes one.

    Attributes:
        width, height: of the image.
        counts: COCO's compressed counts.
    """

    def __init__(self, width: int, height: int, counts: bytes) -> None:
        self.width, self.height, self.counts = width, height, counts

    @classmethod
    def of_coco(cls, encoding: Mapping[str, Any]) -> RunLength:
        """From a valid ``{"size": [height, width], "counts": ...}``, compressed or not."""
        from pycocotools import mask as coco_mask

        (height, width), counts = encoding["size"], encoding["counts"]
        if isinstance(counts, str):
            return cls(width, height, counts.encode())
        packed = coco_mask.frPyObjects({"size": [height, width], "counts": list(counts)}, height, width)
        return cls(width, height, packed["counts"])

    @classmethod
    def of_window(cls, window: np.ndarray, corner: tuple[int, int], size: tuple[int, int]) -> RunLength:
        """The pixels that are set in a part of an image; the rest of it is never held.

        Args:
            window: (h, w) bool.
            corner: (x, y) of its first pixel; the window lies in the image.
            size: (width, height) of the image.
        """
        width, height = size
        # A column of the window is a run of the image's column: one pixel more keeps two columns apart.
        framed = np.zeros((window.shape[1], window.shape[0] + 2), np.int8)
        framed[:, 1:-1] = window.T
        change = np.diff(framed, axis=1)
        column, row = np.nonzero(change)
        at = (corner[0] + column) * height + corner[1] + row
        # A run that ends where the next one starts goes on: both ends are left out.
        joint = at[1:-1:2] == at[2::2]
        kept = np.ones(len(at), bool)
        kept[1:-1:2][joint] = False
        kept[2::2][joint] = False
        return cls(width, height, cls.counts_of(at[kept], width * height, height))

    @staticmethod
    def counts_of(ends: np.ndarray, pixels: int, height: int = 1) -> bytes:
        """Compressed counts of the pixels where the value changes, of an image of so many pixels."""
        from pycocotools import mask as coco_mask

        last = [] if ends.size and ends[-1] == pixels else [pixels]
        counts = np.diff(np.concatenate([[0], ends, last])).astype(int).tolist()
        size = [height, pixels // height]
        packed: bytes = coco_mask.frPyObjects({"size": size, "counts": counts}, *size)["counts"]
        return packed

    def to_coco(self) -> dict[str, Any]:
        """As in COCO's files."""
        return {"size": [self.height, self.width], "counts": self.counts.decode()}

    @property
    def encoding(self) -> dict[str, Any]:
        """As pycocotools takes it."""
        return {"size": [self.height, self.width], "counts": self.counts}

    @property
    def area(self) -> int:
        """Number of pixels."""
        from pycocotools import mask as coco_mask

        return int(coco_mask.area(self.encoding))

    @property
    def box(self) -> np.ndarray:
        """(4,) float64 xyxy around the pixels; without area if there are none."""
        from pycocotools import mask as coco_mask

        x, y, width, height = coco_mask.toBbox(self.encoding)
        return np.array([x, y, x + width, y + height])

    @property
    def pixels(self) -> np.ndarray:
        """(height, width) bool."""
        from pycocotools import mask as coco_mask

        return np.asarray(coco_mask.decode(self.encoding)).astype(bool)

    @cached_property
    def _centres(self) -> Outline:
        """The outline through the centres of the outermost pixels."""
        return outline_of(self.to_coco()) or Outline(())

    @property
    def polygons(self) -> tuple[np.ndarray, ...]:
        """See ``Outline``."""
        return self._centres.polygons

    @property
    def holes(self) -> tuple[np.ndarray, ...]:
        """See ``Outline``."""
        return self._centres.holes

    @cached_property
    def edges(self) -> Outline:
        """The outline along the outer edges of the pixels, in COCO's coordinates."""
        import cv2

        left, top, right, bottom = self.box.astype(int).tolist()
        window = self.pixels[top:bottom, left:right]
        # Edges are the even rows and columns of a canvas of twice the size, pixels the odd ones.
        canvas = np.zeros([2 * side + 1 for side in window.shape], np.uint8)
        canvas[1::2, 1::2] = window
        canvas = np.asarray(cv2.dilate(canvas, np.ones((3, 3), np.uint8)))
        return _contours(canvas, lambda points: points / 2 + np.array([left, top]), corners=True)

    def moved(self, affine: Affine) -> Outline:
        """In the frame that ``affine`` maps to."""
        return self.edges.moved(affine)

    def rasterise(self, width: int, height: int) -> np.ndarray:
        """See ``Outline.rasterise``."""
        return self._centres.rasterise(width, height)

    def runs(self, width: int, height: int) -> RunLength:
        """See ``Outline.runs``; of an image of another size, it is moved into none: that of the outline."""
        return self if (width, height) == (self.width, self.height) else self.edges.runs(width, height)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RunLength) and self.to_coco() == other.to_coco()

    __hash__ = None  # type: ignore[assignment]  # as ``Outline``


@dataclass(frozen=True, kw_only=True)
class Mask(Field):
    """A region: a column (N,) of ``Outline`` (polygons in files) or ``RunLength``, None where missing."""

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
        column[:] = [_region_of(value) for value in values]
        return {name: column}

    def write(self, name: str, columns: Columns, found: bool = False) -> list[Any]:
        return [None if outline is None else self._written(outline) for outline in columns[name]]

    def _written(self, outline: Outline | RunLength) -> dict[str, Any] | list[list[float]]:
        if isinstance(outline, RunLength):
            return outline.to_coco()
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


def _clamped(ring: np.ndarray, reach: np.ndarray) -> np.ndarray:
    """A ring with points far outside an image moved nearer."""
    return np.clip(ring.astype(np.float64), -_BEYOND, reach)


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


def _gaps(ring: np.ndarray, other: np.ndarray) -> np.ndarray:
    """(V, W): squared distances of the points of two rings."""
    gaps: np.ndarray = ((ring[:, None] - other) ** 2).sum(axis=2)
    return gaps


def _joined(ring: np.ndarray, hole: np.ndarray) -> np.ndarray:
    """One ring from an outer and an inner one, joined by a slit between their nearest points."""
    gaps = _gaps(ring, hole)
    end, start = np.unravel_index(gaps.argmin(), gaps.shape)
    inner = np.roll(hole, -int(start), axis=0)
    return np.concatenate([ring[: end + 1], inner, inner[:1], ring[end:]])


def _region_of(segmentation: Any) -> Outline | RunLength | None:
    """As ``outline_of``, but a run-length encoding stays one."""
    if not segmentation or not isinstance(segmentation, Mapping):
        return outline_of(segmentation)
    region = RunLength.of_coco(segmentation)
    return region if region.area else None


def outline_of(segmentation: Any) -> Outline | None:
    """The outline of a valid COCO segmentation; None for one that is missing or empty.

    Args:
        segmentation: polygons, or a run-length encoding, image pixels.
    """
    if not segmentation:
        return None
    if not isinstance(segmentation, Mapping):
        return Outline(tuple(np.asarray(polygon, np.float32).reshape(-1, 2) for polygon in segmentation))
    # A mask's pixel covers a whole unit of COCO's coordinates, so its centre is half a unit further.
    outline = _contours(_decode(segmentation), lambda points: points + 0.5)
    return outline if outline.polygons else None


def one_ring(outline: Outline | RunLength) -> np.ndarray:
    """A region as a single closed polygon (V, 2) float32, for formats that have one for each object.

    Holes and parts are joined by slits without width, each from the ring so far to the nearest of the rest.
    """
    rings = _without_holes(outline.edges if isinstance(outline, RunLength) else outline)
    ring, rest = rings[0], rings[1:]
    while rest:
        nearest = min(range(len(rest)), key=lambda n: float(_gaps(ring, rest[n]).min()))
        ring = _joined(ring, rest.pop(nearest))
    return ring


def _contours(mask: np.ndarray, placed: Callable[[np.ndarray], np.ndarray], corners: bool = False) -> Outline:
    """The outline of a mask.

    Args:
        mask: (H, W) uint8.
        placed: maps points (V, 2) of the outline to where they belong.
        corners: leave out the points in the middle of straight lines.
    """
    import cv2

    method = cv2.CHAIN_APPROX_SIMPLE if corners else cv2.CHAIN_APPROX_NONE
    contours, levels = cv2.findContours(mask, cv2.RETR_CCOMP, method)
    if not contours:
        return Outline(())
    rings = [placed(contour.reshape(-1, 2)).astype(np.float32) for contour in contours]
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
    if isinstance(counts, str) and (covered := sum(_unpacked(counts))) != math.prod(size):
        return f"is a run-length mask whose counts cover {covered} of {math.prod(size)} pixels; is it cut?"
    return None


def _unpacked(text: str) -> list[int]:
    """The run lengths of a valid compressed encoding: six bits a character, differences from the third on."""
    counts: list[int] = []
    value = shift = 0
    for character in text:
        bits = ord(character) - 48
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:  # goes on
            continue
        if bits & 16:
            value -= 1 << shift
        counts.append(value + counts[-2] if len(counts) > 2 else value)
        value = shift = 0
    return counts


def _is_side(value: Any) -> bool:
    return type(value) is int and value > 0


def _decode(encoding: Mapping[str, Any]) -> np.ndarray:
    """(H, W) uint8."""
    from pycocotools import mask as coco_mask

    if not isinstance(encoding["counts"], str):
        encoding = coco_mask.frPyObjects(dict(encoding), *encoding["size"])
    return np.asarray(coco_mask.decode(encoding))


def _one_minus_iou(one: Outline | RunLength, other: Outline | RunLength | None) -> float:
    if isinstance(one, RunLength):
        one = one.edges
    if isinstance(other, RunLength):
        other = other.edges
    if other is None or not other.polygons or not one.polygons:
        return float(other is None or bool(other.polygons) != bool(one.polygons))
    points = np.concatenate([*one.polygons, *other.polygons])
    left, top = points.min(axis=0)
    shift = Affine(np.array([[_FINE, 0, -_FINE * left], [0, _FINE, -_FINE * top]]))
    width, height = np.ceil(_FINE * np.ptp(points, axis=0)).astype(int).tolist()
    first, second = (outline.moved(shift).rasterise(width + 2, height + 2) for outline in (one, other))
    return 1 - float((first & second).sum() / max((first | second).sum(), 1))
