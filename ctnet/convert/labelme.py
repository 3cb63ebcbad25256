"""LabelMe's JSON, one file per image, to a COCO data directory."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from os.path import isfile  # unlike Path's, False for a name that is too long
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ctnet.base.choices import ImageMode
from ctnet.base.errors import CtnetError
from ctnet.base.files import atomic_write, read_json
from ctnet.base.progress import track
from ctnet.convert.coco import IMAGE_FOLDER, ImageRecord, category_names, numbered, write_splits
from ctnet.convert.image_finder import NOT_THERE, ImageFinder, name_in_split
from ctnet.convert.report import BadRecord, ConvertReport
from ctnet.convert.shapes import Point, annotation_of, around, check_finite, points_of, rectangle
from ctnet.convert.split_names import by_split
from ctnet.data.images import IMAGE_SUFFIXES, image_size
from ctnet.data.layouts import json_kind
from ctnet.data.problems import Problem, refuse

#: LabelMe shapes without area.
_WITHOUT_AREA = ("point", "points", "line", "linestrip")


def import_labelme(
    source: str | Path,
    target: str | Path,
    images: ImageMode = "link",
    strict: bool = False,
    split: str | None = None,
) -> ConvertReport:
    """Convert LabelMe's JSON files to a COCO data directory.

    Polygons keep their outline, masks become run-length encodings; rectangles and circles become boxes.
    Shapes of one label and ``group_id`` are one object. Flags, description and group are kept. A missing
    image is taken from the JSON file, if LabelMe has stored it there (``imageData``).

    Args:
        source: a folder with LabelMe's files and images, also in subfolders; ``train``, ``val`` and similar
            folders become splits, everything else is ``train``.
        target: the data directory to write; images go to ``images/<split>``.
        images: how the images get there, see `ctnet.convert.coco.place_image`.
        strict: refuse the data set for its first bad record instead of skipping bad records.
        split: the split of all files, instead of the folders' splits.

    Raises:
        CtnetError: when there is no such file, or with ``strict`` when a record is bad.
    """
    source, target = Path(source), Path(target)
    notes: list[str] = []
    problems: list[Problem] = []
    root = source if source.is_dir() else source.parent
    splits = {
        name: _read_split(files, root, problems)
        for name, files in by_split(_files(source, notes), root, split).items()
    }
    if strict:
        refuse(problems, source)
    for name, files in splits.items():
        for file in files:
            file.place_stored(target / "images" / name, images)
    records = {name: [file.record() for file in files] for name, files in splits.items()}
    described = f"converted from LabelMe, {root.name}"
    reports = write_splits(
        target, numbered(records), category_names(records), described, images, image_folder=IMAGE_FOLDER
    )
    return ConvertReport(target, reports, tuple(problems), tuple(notes))


@dataclass(frozen=True)
class _File:
    """One image and its objects. ``image`` is its file, ``data`` its bytes if stored by LabelMe."""

    name: str
    size: tuple[int, int]
    objects: Sequence[Mapping[str, Any]]
    image: Path | None
    data: bytes | None
    flags: Mapping[str, Any]

    def record(self) -> ImageRecord:
        extra = {"flags": dict(self.flags)} if self.flags else {}
        return ImageRecord(self.name, *self.size, self.objects, self.image, extra)

    def place_stored(self, folder: Path, mode: ImageMode) -> None:
        """Write an image that was stored in LabelMe's file."""
        if self.data is not None and mode != "none":
            with atomic_write(folder / self.name) as stream:
                stream.write(self.data)


def _files(source: Path, notes: list[str]) -> list[Path]:
    if source.is_file():
        return [source]
    found = sorted(source.rglob("*.json"))
    files = [path for path in found if json_kind(path) == "LabelMe"]
    if not files:
        raise CtnetError(f"no LabelMe file (JSON with shapes and imagePath) in {source}")
    if others := [path for path in found if path not in files]:
        notes.append(f"{len(others)} JSON files are not LabelMe's and were not read (first: {others[0]})")
    return files


def _read_split(files: Sequence[Path], root: Path, problems: list[Problem]) -> list[_File]:
    finder = ImageFinder(root)
    taken: dict[str, Path] = {}
    read = []
    for path in track(files, "reading annotations"):
        where = str(path.relative_to(root))
        try:
            document = read_json(path)
            found = _read_file(document, path, finder, taken)
        except BadRecord as error:
            problems.append(error.at(where))
            continue
        except CtnetError as error:
            problems.append(Problem("unreadable file", where, str(error)))
            continue
        objects = list(_objects(document["shapes"], found.size, where, problems))
        taken[found.name] = found.image or path
        read.append(_File(found.name, found.size, objects, found.image, found.data, found.flags))
    return read


def _read_file(document: Any, path: Path, finder: ImageFinder, taken: Mapping[str, Path]) -> _File:
    """Everything but the objects.

    Raises:
        BadRecord: when the file is not LabelMe's or has no image.
        ImageError: when the size must be read from an image that is broken.
    """
    if not isinstance(document, dict) or not isinstance(document.get("shapes"), list):
        raise BadRecord("file that is not LabelMe's", "it has no list of 'shapes'")
    stated = document.get("imagePath")
    image, data = _image(stated, path, finder), None
    if image is None:
        data = _embedded(document.get("imageData"), str(stated))
    name = name_in_split(image or path.with_suffix(Path(str(stated)).suffix or ".jpg"), finder.root, taken)
    width, height = document.get("imageWidth"), document.get("imageHeight")
    if type(width) is int and type(height) is int and width > 0 and height > 0:
        size = (width, height)
    elif image is not None:
        size = image_size(image)
    else:
        raise BadRecord("no image size", f"imageWidth is {width!r}, imageHeight {height!r}")
    flags = document.get("flags")
    return _File(name, size, (), image, data, flags if isinstance(flags, dict) else {})


def _image(stated: object, path: Path, finder: ImageFinder) -> Path | None:
    """The image that a file names, else the one next to it with the same stem."""
    if isinstance(stated, str) and stated:
        plain = path.parent / stated.replace("\\", "/")
        if isfile(plain):
            return plain.resolve() if ".." in plain.parts else plain
    beside = [path.with_suffix(suffix) for suffix in IMAGE_SUFFIXES]
    found = next((candidate for candidate in beside if isfile(candidate)), None)
    if found is None and isinstance(stated, str) and stated:
        try:
            found = finder.find(stated)
        except BadRecord as error:
            if error.kind != NOT_THERE:
                raise
    return found


def _embedded(text: object, stated: str) -> bytes:
    if not isinstance(text, str) or not text:
        raise BadRecord(NOT_THERE, f"{stated}, and the file does not hold it (imageData)")
    return _decoded(text)


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadRecord("stored image that cannot be read", str(error)) from error


def _objects(
    shapes: Sequence[Any], size: tuple[int, int], where: str, problems: list[Problem]
) -> Iterator[dict[str, Any]]:
    """The objects of a file; shapes of one label and group are one object."""
    groups: dict[tuple[object, ...], list[tuple[int, Any]]] = {}
    for index, shape in enumerate(shapes):
        group = shape.get("group_id") if isinstance(shape, dict) else None
        key = (str(shape.get("label")), str(group)) if group is not None else (index,)
        groups.setdefault(key, []).append((index, shape))
    for members in groups.values():
        parts = []
        for index, shape in members:
            try:
                parts.append(_Part.read(shape, size))
            except BadRecord as error:
                problems.append(error.at(f"{where} shape {index}"))
        if parts:
            try:
                yield _joined(parts, size)
            except BadRecord as error:
                problems.append(error.at(f"{where} shape {members[0][0]}"))


@dataclass(frozen=True)
class _Part:
    """One shape: its outline (a box's corners), and the pixels of a mask with their left and top."""

    label: str
    outline: Sequence[Point]
    outlined: bool
    mask: tuple[np.ndarray, int, int] | None
    extra: Mapping[str, Any]

    @classmethod
    def read(cls, shape: Any, size: tuple[int, int]) -> _Part:
        if not isinstance(shape, dict):
            raise BadRecord("shape that is not an object", repr(shape)[:60])
        label = shape.get("label")
        if not isinstance(label, str) or not label.strip():
            raise BadRecord("shape without label", repr(label))
        kind = shape.get("shape_type") or "polygon"
        if kind in _WITHOUT_AREA:
            raise BadRecord("shape without area", f"{label}, a {kind}")
        points = points_of(shape.get("points"))
        extra = {key: shape[key] for key in ("group_id", "description", "flags") if shape.get(key)}
        check_finite(extra)
        mask = None
        if kind == "rectangle":
            points = rectangle(points)
        elif kind == "circle" and len(points) == 2:
            (x, y), (edge_x, edge_y) = points
            radius = float(np.hypot(edge_x - x, edge_y - y))
            points = around(x, y, radius, radius)
        elif kind == "mask":
            pixels, left, top = _mask(shape, points)
            points = rectangle([(left, top), (left + pixels.shape[1], top + pixels.shape[0])])
            mask = pixels, left, top
        elif kind != "polygon":
            raise BadRecord("shape that is not known", f"{label}, a {kind} of {len(points)} points")
        return cls(label.strip(), points, kind == "polygon", mask, extra)


def _mask(shape: Mapping[str, Any], points: Sequence[Point]) -> tuple[np.ndarray, int, int]:
    """The pixels of a mask, cropped to its extent, and their position."""
    data = shape.get("mask")
    if not isinstance(data, str) or len(points) != 2:
        raise BadRecord("mask without image", f"{len(points)} points")
    pixels = cv2.imdecode(np.frombuffer(_decoded(data), np.uint8), cv2.IMREAD_GRAYSCALE) if data else None
    if pixels is None or not pixels.any():
        raise BadRecord("mask without image", "it is empty")
    left, top = (int(value) for value in points[0])
    if left < 0 or top < 0:
        raise BadRecord("mask outside the image", f"it begins at {left}, {top}")
    rows, columns = np.flatnonzero(pixels.any(axis=1)), np.flatnonzero(pixels.any(axis=0))
    shown = pixels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] > 0
    return shown, left + int(columns[0]), top + int(rows[0])


def _joined(parts: Sequence[_Part], size: tuple[int, int]) -> dict[str, Any]:
    """One object from all its parts. Its outline is kept if all parts have one."""
    first = parts[0]
    outlined = all(part.outlined for part in parts)
    annotation = annotation_of(
        first.label, [part.outline for part in parts], size, outlined, **dict(first.extra)
    )
    if all(part.mask for part in parts):
        canvas = np.zeros((size[1], size[0]), bool)
        for pixels, left, top in (part.mask for part in parts if part.mask):
            height, width = canvas[top : top + pixels.shape[0], left : left + pixels.shape[1]].shape
            canvas[top : top + height, left : left + width] |= pixels[:height, :width]
        annotation |= {"segmentation": _run_lengths(canvas), "area": int(canvas.sum())}
    return annotation


def _run_lengths(mask: np.ndarray) -> dict[str, Any]:
    """COCO's run lengths: column by column, starting with a run of zeros."""
    flat = mask.T.ravel()
    changes = np.flatnonzero(np.diff(flat)) + 1
    counts = np.diff([0, *changes, len(flat)]).tolist()
    return {"counts": [0, *counts] if flat[0] else counts, "size": list(mask.shape)}
