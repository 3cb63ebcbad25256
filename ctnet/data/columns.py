"""Reading a COCO JSON file into columns, and checking them."""

from __future__ import annotations

import json
import math
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ctnet.base.errors import CtnetError
from ctnet.base.files import is_text
from ctnet.base.numbers import LARGEST_COORDINATE
from ctnet.base.progress import track
from ctnet.data import json_reader
from ctnet.data.json_reader import JsonReader
from ctnet.data.outlines import outlined, read_boxes

_FILLED_IN = 16.0  # square pixels; an area of 0 or 1 in a box this large is a placeholder
_ABSENT = -(2**63)  # marks an id that is missing or not an integer

REPEATED_KEY = "key that occurs twice"

RECORD_ERRORS = {
    REPEATED_KEY: "",
    "unknown image": "image_id",
    "unknown category": "category_id",
    "crowd flag that is neither 0 nor 1": "iscrowd",
    "box that is not four finite numbers": "bbox",
    "box larger than any image": "bbox",
    "box without area": "bbox",
    "box outside its image": "bbox",
}
"""The errors of an annotation, and the field in question, where it is one; the first that applies counts."""


@dataclass(frozen=True)
class Columns:
    """The columns of a file (see ``CocoFile``), annotations sorted by image, then as in the file."""

    category_json: np.ndarray
    image_ids: np.ndarray
    widths: np.ndarray
    heights: np.ndarray
    image_ranges: np.ndarray
    names: np.ndarray
    name_ends: np.ndarray
    repeated_images: np.ndarray
    first: np.ndarray
    annotation_ids: np.ndarray
    image_index: np.ndarray
    category_ids: np.ndarray
    boxes: np.ndarray
    areas: np.ndarray
    odd_areas: np.ndarray
    crowd: np.ndarray
    errors: np.ndarray
    annotation_ranges: np.ndarray


def read_columns(path: Path, size: int) -> Columns:
    """Read a whole file.

    Args:
        path: the COCO JSON file.
        size: its size in bytes, for the progress bar.

    Raises:
        CtnetError: see ``CocoFile.open``.
        OSError: when the file cannot be read.
    """
    chunk = json_reader.CHUNK
    with open(path, "rb") as stream:
        steps = track(range(math.ceil(size / chunk)), f"reading {path.name}", unit="MB")
        reader = JsonReader((stream.read(chunk) for _ in steps), path)
        images, annotations, categories = _read_document(reader, path)
    annotations.take_boxes_of_outlines(path)
    return _arrange(images, annotations, categories)


def _read_document(reader: JsonReader, path: Path) -> tuple[_Images, _AnnotationRows, list[dict[str, Any]]]:
    images = categories = annotations = None
    if reader.peek() != "{":
        value, _, _ = reader.value()
        raise CtnetError(
            f"{path} holds {_kind(value)}, not an object with images, annotations and categories; "
            "is it a file of results?"
        )
    for key in reader.entries():
        if key == "images":
            images = _Images.read(_with_keys_once(reader, "image", path), path)
        elif key == "annotations":
            annotations = _AnnotationRows()
            for value, start, end in _items(reader, "annotation", path, skim=True):
                if reader.repeated_key(value, start, end) is not None:
                    annotations.repeated.append(len(annotations.starts))
                annotations.add(value, start, end)
        elif key == "categories":
            categories = _checked_categories(
                [value for value, _, _ in _with_keys_once(reader, "category", path)], path
            )
        else:
            reader.value()
    reader.end()
    if images is None:
        raise CtnetError(f"{path} has no 'images'; a COCO file lists them next to its annotations")
    annotations = annotations or _AnnotationRows()
    if categories is None and len(annotations.starts):
        raise CtnetError(f"{path} has annotations but no 'categories'; is it a file of captions?")
    return images, annotations, categories or []


def _items(
    reader: JsonReader, noun: str, path: Path, skim: bool = False
) -> Iterator[tuple[dict[str, Any], int, int]]:
    plural = "categories" if noun == "category" else f"{noun}s"
    if reader.peek() != "[":
        value, start, _ = reader.value()
        raise CtnetError(f"{path} has {_kind(value)} as {plural!r} at byte {start}; it must be a list")
    for number, item in enumerate(reader.items(noun, skim), start=1):
        if not isinstance(item[0], dict):
            raise CtnetError(
                f"{noun} {number} of {path} (byte {item[1]}) is {_kind(item[0])}; it must be an object"
            )
        yield item


def _with_keys_once(reader: JsonReader, noun: str, path: Path) -> Iterator[tuple[dict[str, Any], int, int]]:
    for number, item in enumerate(_items(reader, noun, path), start=1):
        if (key := reader.repeated_key(*item)) is not None:
            raise CtnetError(
                f"{noun} {number} of {path} (byte {item[1]}) has the key {key!r} twice; keep one of them"
            )
        yield item


def _kind(value: Any) -> str:
    names = {list: "a list", dict: "an object", str: "a string", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")


def _checked_categories(categories: list[dict[str, Any]], path: Path) -> list[dict[str, Any]]:
    seen = set()
    names: dict[str, int] = {}
    for number, category in enumerate(categories, start=1):
        category_id = _whole(category.get("id"))
        if category_id == _ABSENT or not isinstance(category.get("name"), str):
            raise CtnetError(f"category {number} of {path} needs a whole number 'id' and a string 'name'")
        if category_id in seen:
            raise CtnetError(
                f"category {number} of {path} has the id {category_id} of an earlier one; renumber it"
            )
        if not is_text(category["name"]):
            raise CtnetError(
                f"category {number} of {path} (id {category_id}) is called {category['name']!a}, which "
                "holds an unpaired surrogate; rename it"
            )
        try:
            json.dumps(category, allow_nan=False)
        except ValueError as error:
            raise CtnetError(
                f"category {number} of {path} (id {category_id}) holds NaN or infinity, which JSON does not "
                "have; correct it"
            ) from error
        seen.add(category_id)
        if (other := names.setdefault(category["name"], category_id)) != category_id:
            raise CtnetError(
                f"categories {other} and {category_id} of {path} are both called {category['name']!r}; "
                "rename one, or make them one category"
            )
    return categories


class _Images:
    """Columns of the images while they are read."""

    def __init__(self) -> None:
        self.ids, self.ranges = array("q"), array("q")
        self.widths, self.heights = array("i"), array("i")
        self.names, self.name_ends = bytearray(), array("q", [0])
        self.repeated = array("q")

    @classmethod
    def read(cls, items: Iterator[tuple[dict[str, Any], int, int]], path: Path) -> _Images:
        images = cls()
        seen: set[int] = set()
        for number, (entry, start, end) in enumerate(items, start=1):
            image_id, name, width, height = _checked_image(entry, number, path)
            if image_id in seen:
                images.repeated.append(image_id)
                continue
            seen.add(image_id)
            images.ids.append(image_id)
            images.widths.append(width)
            images.heights.append(height)
            images.ranges.extend((start, end))
            images.names += name.encode("utf-8", "surrogatepass")
            images.name_ends.append(len(images.names))
        return images


def _checked_image(entry: Mapping[str, Any], number: int, path: Path) -> tuple[int, str, int, int]:
    image_id, name = _whole(entry.get("id")), entry.get("file_name")
    if image_id == _ABSENT:
        raise CtnetError(f"image {number} of {path} needs a whole number 'id', has {entry.get('id')!r}")
    if not isinstance(name, str) or not name:
        raise CtnetError(f"image {number} of {path} (id {image_id}) needs a 'file_name', has {name!r}")
    width, height = _whole(entry.get("width")), _whole(entry.get("height"))
    for field, value in (("width", width), ("height", height)):
        if not 0 < value < 2**31:
            raise CtnetError(
                f"image {number} of {path} (id {image_id}, {name}) needs its {field!r} in pixels, "
                f"has {entry.get(field)!r}; write the size of the image there"
            )
    return image_id, name, width, height


class _AnnotationRows:
    """Columns of the annotations while they are read, in the file's order."""

    def __init__(self) -> None:
        self.ids, self.image_ids, self.category_ids = array("q"), array("q"), array("q")
        self.boxes, self.areas = array("d"), array("d")
        self.crowd = array("b")
        self.starts, self.ends = array("q"), array("q")
        self.repeated = array("q")  # rows with a key that occurs twice
        self.outlined = array("q")  # rows whose box is the bounding box of their outline

    def add(self, annotation: Mapping[str, Any], start: int, end: int) -> None:
        get = annotation.get
        self.ids.append(_whole(get("id")))
        self.image_ids.append(_whole(get("image_id")))
        self.category_ids.append(_whole(get("category_id")))
        box = _box(get("bbox"))
        self.boxes.extend(box)
        self.areas.append(_area(get("area")))
        self.crowd.append(_flag(get("iscrowd")))
        if box[0] != box[0] and outlined(annotation):  # not a number
            self.outlined.append(len(self.starts))
        self.starts.append(start)
        self.ends.append(end)

    def take_boxes_of_outlines(self, path: Path) -> None:
        """Outlines were skipped while the file was read; those that are needed are parsed now."""
        ranges = [(self.starts[row], self.ends[row]) for row in self.outlined]
        for row, box in zip(self.outlined, read_boxes(path, ranges), strict=True):
            self.boxes[4 * row : 4 * row + 4] = array("d", box)


def _whole(value: Any) -> int:
    """An id as int64; ``_ABSENT`` for anything else."""
    if type(value) is float and value.is_integer():
        value = int(value)
    return value if type(value) is int and -(2**63) <= value < 2**63 else _ABSENT


def _box(value: Any) -> tuple[float, float, float, float]:
    try:
        x, y, width, height = value
        return x + 0.0, y + 0.0, width + 0.0, height + 0.0
    except (TypeError, ValueError, OverflowError):
        return math.nan, math.nan, math.nan, math.nan


def _flag(value: Any) -> int:
    """0 or 1; -1 for anything else."""
    if value is None:
        return 0
    return int(value) if isinstance(value, (int, float)) and value in (0, 1) else -1


def _area(value: Any) -> float:
    """NaN where it is missing, -1 where it is not a valid area."""
    if value is None:
        return math.nan
    try:
        area: float = value + 0.0
    except (TypeError, OverflowError):
        return -1.0
    return area if math.isfinite(area) else -1.0


# --- from columns in the file's order to arrays by image


def _arrange(images: _Images, annotations: _AnnotationRows, categories: list[dict[str, Any]]) -> Columns:
    image_ids = np.array(images.ids, np.int64)
    widths, heights = np.array(images.widths, np.int32), np.array(images.heights, np.int32)
    image_index = _positions(image_ids, np.array(annotations.image_ids, np.int64))
    order = np.argsort(np.where(image_index < 0, len(image_ids), image_index), kind="stable")
    image_index = image_index[order]
    given_ids = np.array(annotations.ids, np.int64)
    category_ids = np.array(annotations.category_ids, np.int64)[order]
    boxes = np.array(annotations.boxes, np.float64).reshape(-1, 4)[order]
    areas = np.array(annotations.areas, np.float64)[order]
    box_areas = _box_areas(boxes)
    odd_areas = (areas <= 0) | ((areas <= 1) & (box_areas >= _FILLED_IN))
    crowd = np.array(annotations.crowd, np.int8)[order]
    known = np.array([_whole(category["id"]) for category in categories], np.int64)
    repeated = np.isin(order, np.array(annotations.repeated, np.int64))
    known_images = image_index[image_index >= 0]
    return Columns(
        category_json=np.frombuffer(json.dumps(categories).encode(), np.uint8),
        image_ids=image_ids,
        widths=widths,
        heights=heights,
        image_ranges=np.array(images.ranges, np.int64).reshape(-1, 2),
        names=np.frombuffer(bytes(images.names), np.uint8),
        name_ends=np.array(images.name_ends, np.int64),
        repeated_images=np.array(images.repeated, np.int64),
        first=np.searchsorted(known_images, np.arange(len(image_ids) + 1)),
        annotation_ids=_numbered(given_ids)[order],
        image_index=image_index.astype(np.int32),
        category_ids=category_ids,
        boxes=boxes,
        areas=np.where(odd_areas | np.isnan(areas), box_areas, areas),
        odd_areas=odd_areas,
        crowd=crowd == 1,
        errors=_errors(
            repeated, image_index, boxes, widths, heights, np.isin(category_ids, known), crowd < 0
        ),
        annotation_ranges=np.stack([annotations.starts, annotations.ends], axis=1).astype(np.int64)[order],
    )


def _positions(ids: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Position of each wanted id in ``ids``; -1 where it is missing."""
    if not len(ids):
        return np.full(len(wanted), -1)
    order = np.argsort(ids)
    found: np.ndarray = order[np.searchsorted(ids, wanted, sorter=order).clip(max=len(ids) - 1)]
    return np.where(ids[found] == wanted, found, -1)


def _numbered(ids: np.ndarray) -> np.ndarray:
    """Number entries without an id, from the largest id on."""
    absent = ids == _ABSENT
    start = max(ids.max(initial=0), 0) + 1
    return np.where(absent, start + np.cumsum(absent) - 1, ids)


def _box_areas(boxes: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore", invalid="ignore"):
        areas: np.ndarray = boxes[:, 2] * boxes[:, 3]
    return areas


def _errors(
    repeated_key: np.ndarray,
    image_index: np.ndarray,
    boxes: np.ndarray,
    widths: np.ndarray,
    heights: np.ndarray,
    known_category: np.ndarray,
    bad_crowd: np.ndarray,
) -> np.ndarray:
    """(M,) uint8: 0, or the number of the error in ``RECORD_ERRORS``; partly outside is not an error."""
    x, y, width, height = boxes.T
    known_image = image_index >= 0
    image_width = np.append(widths, 0)[image_index]
    image_height = np.append(heights, 0)[image_index]
    with np.errstate(invalid="ignore", over="ignore"):
        outside = (x >= image_width) | (y >= image_height) | (x + width <= 0) | (y + height <= 0)
        conditions = [
            repeated_key,
            ~known_image,
            ~known_category,
            bad_crowd,
            ~np.isfinite(boxes).all(axis=1),
            (np.abs(boxes) > LARGEST_COORDINATE).any(axis=1),  # its area may not be a number
            (width <= 0) | (height <= 0),
            outside,
        ]
    return np.select(conditions, range(1, len(RECORD_ERRORS) + 1), 0).astype(np.uint8)
