"""A COCO JSON file as arrays: read once, checked, and cached in an index."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import os
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ctnet.base.cache import cache_folder
from ctnet.base.errors import CtnetError, os_error
from ctnet.base.files import atomic_write, is_plain_archive, require_regular
from ctnet.base.packs import Place, open_pack, place_of
from ctnet.data.columns import (
    RECORD_ERRORS,
    REPEATED_KEY,
    Columns,
    check_columns,
    checked_categories,
    read_columns,
)
from ctnet.data.json_reader import CHUNK, repeated_key
from ctnet.data.outlines import NO_BOX, outlined
from ctnet.data.problems import Problem

_log = logging.getLogger("ctnet")

VERSION = b"5"  # of the index; raise it when the columns or the checks change
_SHOWN = 60  # characters of a value in messages
_SMALL = 8 << 20  # bytes; for smaller files an index is not worth it


class CocoFile:
    """One COCO JSON file: the columns as arrays, everything else parsed from the file on demand.

    It takes about 75 bytes per annotation and 60 per image; polygons and other fields stay in the file. A
    pickled object (for a spawned worker) holds only the path and opens the file again.

    Attributes:
        path: the file.
        categories: as in the file, in its order, without ``groups``.
        groups: categories that only group those with joints: no annotation has them, they have no joints, and
            they are the supercategory of one that does.
        image_ids: (N,) int64, unique; a later entry with the same id is left out and is a problem.
        widths, heights: (N,) int32, pixels.
        first: (N + 1,) int64; image i has the annotations ``first[i]:first[i + 1]``. Rows from ``first[N]``
            on belong to images that the file does not list.
        annotation_ids: (M,) int64; those without an id get consecutive numbers after the largest.
        image_index: (M,) int32, -1 for an unknown image.
        category_ids: (M,) int64.
        boxes: (M, 4) float64, xywh, image pixels, exactly as in the file; the bounding box of the polygons
            where the file has only these; NaN where there is no valid box.
        areas: (M,) float64, square pixels; width x height of the box where the file has none, or a
            placeholder.
        odd_areas: (M,) bool: the file's area is impossible for the box.
        crowd: (M,) bool.
        columns: the same and more, as they are packed and indexed.
        errors: (M,) uint8, 0 for a usable annotation, else an index into ``columns.RECORD_ERRORS`` plus 1.
    """

    def __init__(
        self, path: Path, columns: Columns, digest: str, stamp: tuple[int, int], cache: bool
    ) -> None:
        self.path = path
        self.digest = digest
        self.columns = columns
        self._place = place_of(path)
        self._stamp = stamp
        self._cache = cache
        self.categories, self.groups = _without_groups(
            json.loads(columns.category_json.tobytes()), columns.category_ids
        )
        self.image_ids = columns.image_ids
        self.widths = columns.widths
        self.heights = columns.heights
        self.first = columns.first
        self.annotation_ids = columns.annotation_ids
        self.image_index = columns.image_index
        self.category_ids = columns.category_ids
        self.boxes = columns.boxes
        self.areas = columns.areas
        self.odd_areas = columns.odd_areas
        self.crowd = columns.crowd
        self.errors = columns.errors

    @classmethod
    def open(cls, path: str | Path, cache: bool = True) -> CocoFile:
        """Read a COCO JSON file, or the index written when the same content was first read.

        Args:
            path: the file.
            cache: cache the index of a large file in ``$CTNET_CACHE`` (default: the user's cache folder).

        Raises:
            CtnetError: when the file is missing, truncated, not a COCO file, or an image or category entry
                lacks a required key. Bad annotations do not raise: see ``problems``.
        """
        path = Path(path)
        require_regular(path)
        if place := place_of(path):
            return cls(path, *_packed(place), cache)
        try:
            stamp, digest = _stamp(path.stat()), _digest(path)
            kept = _index_path(digest) if cache and stamp[0] >= _SMALL else None
            columns = _load(kept) if kept else None
            if columns is None:
                columns = read_columns(path, stamp[0])
                if kept:
                    _keep(columns, kept)
        except OSError as error:
            raise os_error(error, "read", path) from error
        return cls(path, columns, digest, stamp, cache)

    def verify(self) -> None:
        """Compare the content with the checksum that it was packed with; nothing to do for a file on disk.

        Raises:
            CtnetError: when it is damaged.
        """
        if self._place is not None:
            self._place.read()

    def __len__(self) -> int:
        """Number of images."""
        return len(self.image_ids)

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen, (self.path, self._cache, self.digest)

    @property
    def usable(self) -> np.ndarray:
        """(M,) bool: annotations without an error."""
        usable: np.ndarray = self.errors == 0
        return usable

    def file_name(self, image: int) -> str:
        """The name in the image's entry."""
        ends = self.columns.name_ends
        return self.columns.names[ends[image] : ends[image + 1]].tobytes().decode("utf-8", "surrogatepass")

    def rows(self, image: int) -> np.ndarray:
        """The usable annotations of an image, as rows of the columns."""
        start, end = self.first[image : image + 2]
        rows: np.ndarray = start + np.flatnonzero(self.errors[start:end] == 0)
        return rows

    def raw_image(self, image: int) -> dict[str, Any]:
        """The image's whole entry, parsed from the file."""
        return next(self.raw_images([image]))

    def raw_images(self, images: Sequence[int] | np.ndarray) -> Iterator[dict[str, Any]]:
        """The images' whole entries, parsed from the file one by one."""
        return self._parse(self.columns.image_ranges[np.asarray(images, np.int64)])

    def raw_annotations(self, rows: Sequence[int] | np.ndarray) -> Iterator[dict[str, Any]]:
        """Whole annotations, parsed from the file one by one."""
        rows = np.asarray(rows, np.int64)
        raws = self._parse(self.columns.annotation_ranges[rows])
        return (self._with_box(raw, row) for raw, row in zip(raws, rows.tolist(), strict=True))

    def raw_entries(self, image: int, rows: np.ndarray) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """The image's whole entry and whole annotations, parsed with one opening of the file."""
        columns = self.columns
        ranges = np.concatenate([columns.image_ranges[[image]], columns.annotation_ranges[rows]])
        entry, *raws = self._parse(ranges)
        return entry, [self._with_box(raw, row) for raw, row in zip(raws, rows.tolist(), strict=True)]

    def _with_box(self, raw: dict[str, Any], row: int) -> dict[str, Any]:
        """The annotation, with the bounding box of its outline where it has none."""
        if raw.get("bbox") in NO_BOX and self.errors[row] == 0:
            raw["bbox"] = self.boxes[row].tolist()
        return raw

    @cached_property
    def problems(self) -> list[Problem]:
        """All records that are left out, images first."""
        repeated = [
            Problem("duplicate image id", f"image {image_id}", "the later entry is left out")
            for image_id in self.columns.repeated_images.tolist()
        ]
        rows = np.flatnonzero(self.errors)
        return repeated + [
            self._problem(row, raw)
            for row, raw in zip(rows.tolist(), self.raw_annotations(rows), strict=True)
        ]

    def _problem(self, row: int, raw: dict[str, Any]) -> Problem:
        kind = list(RECORD_ERRORS)[self.errors[row] - 1]
        where = f"annotation {raw.get('id', '(without id)')} of image {raw.get('image_id', '(without id)')}"
        if kind == REPEATED_KEY:
            return Problem(kind, where, f"{self._repeated_key(row)!r}; keep one of them")
        field = RECORD_ERRORS[kind]
        what = f"{field} {_shown(raw[field])}" if field in raw else f"no {field}"
        if field == "bbox" and outlined(raw):
            what += f", and no polygon to take it from: segmentation {_shown(raw['segmentation'])}"
        if kind == "box outside its image":
            image = self.image_index[row]
            what += f", image {self.widths[image]}x{self.heights[image]}"
        return Problem(kind, where, what)

    def _repeated_key(self, row: int) -> str | None:
        start, end = self.columns.annotation_ranges[row].tolist()
        with self._open() as stream:
            stream.seek(start + self._start)
            return repeated_key(stream.read(end - start))

    def _open(self) -> BinaryIO:
        return open(self._file, "rb")

    @property
    def _file(self) -> Path:
        """The file on disk: this one, or the pack that holds it."""
        return self.path if self._place is None else self._place.pack

    @property
    def _start(self) -> int:
        """The file's first byte in that on disk."""
        return 0 if self._place is None else self._place.start

    def _parse(self, ranges: np.ndarray) -> Iterator[dict[str, Any]]:
        """Read byte ranges. An open file is not kept: forked workers would share its position."""
        try:
            with self._open() as stream:
                self._check_unchanged(_stamp(os.fstat(stream.fileno())))
                for start, end in ranges.tolist():
                    stream.seek(start + self._start)
                    entry = json.loads(stream.read(end - start))
                    if not isinstance(entry, dict):
                        raise ValueError("not an object")
                    yield entry
        except OSError as error:
            raise os_error(error, "read", self.path) from error
        except (RecursionError, ValueError) as error:
            raise CtnetError(f"{self.path} is not valid JSON at byte {start} ({error})") from error

    def _check_unchanged(self, stamp: tuple[int, int]) -> None:
        if stamp != self._stamp:
            if self._place is not None or _digest(self.path) != self.digest:
                raise _changed(self.path)
            self._stamp = stamp  # touched, with the same content


def _without_groups(
    categories: list[dict[str, Any]], used: np.ndarray
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The categories, and separately those that only group others (see ``CocoFile.groups``)."""
    above = {str(category.get("supercategory")) for category in categories if category.get("keypoints")}
    groups = [
        category
        for category in categories
        if not category.get("keypoints") and category["name"] in above and int(category["id"]) not in used
    ]
    return [category for category in categories if category not in groups], groups


def _shown(value: Any) -> str:
    """The value as written in the file, shortened."""
    try:
        return json.dumps(value)[:_SHOWN]
    except RecursionError:
        return "values nested too deeply"


def _reopen(path: Path, cache: bool, digest: str) -> CocoFile:
    file = CocoFile.open(path, cache)
    if file.digest != digest:
        raise _changed(path)
    return file


def _packed(place: Place) -> tuple[Columns, str, tuple[int, int]]:
    """The columns of a packed file, its digest, and the stamp of the pack.

    Raises:
        CtnetError: when the pack has none, or those of another version of ctnet.
    """
    arrays = dict(open_pack(place.pack).columns(place.name) or {})
    digest = arrays.pop("digest", np.zeros(0, np.uint8)).tobytes().decode("ascii", "replace")
    version = arrays.pop("version", np.zeros(0, np.uint8)).tobytes()
    if version != VERSION or arrays.keys() != {field.name for field in dataclasses.fields(Columns)}:
        raise CtnetError(
            f"{place.pack} was packed by another version of ctnet; pack the data again with `ctnet data pack`"
        )
    columns = Columns(**arrays)
    try:
        checked_categories(json.loads(columns.category_json.tobytes()), place.pack / place.name)
        check_columns(columns, place.size)
    except (AttributeError, LookupError, TypeError, ValueError, RecursionError) as error:
        raise CtnetError(
            f"{place.name} in {place.pack} is damaged ({error}); pack the data again with `ctnet data pack`"
        ) from error
    return columns, digest, _stamp(place.pack.stat())


def _changed(path: Path) -> CtnetError:
    return CtnetError(f"{path} has changed since it was opened; start again")


def _stamp(status: os.stat_result) -> tuple[int, int]:
    return status.st_size, status.st_mtime_ns


# --- the index


def _digest(path: Path) -> str:
    digest = hashlib.sha256(VERSION)
    with open(path, "rb") as stream:
        while chunk := stream.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _index_path(digest: str) -> Path | None:
    """Path of the index of this content; None for a user without a home folder."""
    try:
        return cache_folder() / f"coco-{digest[:40]}.npz"
    except RuntimeError:
        return None


def _load(path: Path) -> Columns | None:
    """The columns of an index; None where there is none or it is damaged (the archive has checksums)."""
    try:
        if not is_plain_archive(path):
            raise ValueError("its content is larger than the file")
        with np.load(path, allow_pickle=False) as archive:
            return Columns(**{field.name: archive[field.name] for field in dataclasses.fields(Columns)})
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return None
    except Exception as error:  # numpy and zipfile can raise anything for a damaged archive
        _log.warning("the index %s is damaged (%s) and will be rebuilt", path, error)
        return None


def _keep(columns: Columns, path: Path) -> None:
    try:
        with atomic_write(path) as stream:
            np.savez(
                stream, **{field.name: getattr(columns, field.name) for field in dataclasses.fields(Columns)}
            )
    except CtnetError as error:
        _log.warning(
            "%s; the annotations will be read again each time (set CTNET_CACHE to use another folder)", error
        )
