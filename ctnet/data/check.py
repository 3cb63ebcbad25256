"""Finding errors in a data set: records, ids, images, duplicates."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ctnet.base.progress import track
from ctnet.core.documents import annotation_warnings
from ctnet.core.task import Task
from ctnet.data.columns import RECORD_ERRORS, REPEATED_KEY
from ctnet.data.dataset import UNFIT, Dataset, open_splits
from ctnet.data.images import ImageError, read_image
from ctnet.data.problems import Problem
from ctnet.data.splitting import split_command
from ctnet.ops.boxes import box_iou

STRIDE = 4
DUPLICATE_IOU = 0.8
_PAIRS_AT_ONCE = 1 << 20
_LISTED = 10

REPEATED_IMAGE = "duplicate image id"
REPEATED_FILE = "duplicate image file name"
BAD_IMAGE = "image missing, broken or of the wrong size"
REPEATED_BOX = "duplicate box"

PROBLEMS = (*RECORD_ERRORS, UNFIT, REPEATED_IMAGE, REPEATED_FILE, REPEATED_BOX, BAD_IMAGE)
"""The kinds of bad records, in the order of the table."""

OVERLAPPING = f"two boxes of one category with IoU over {DUPLICATE_IOU}"
PARTLY_OUTSIDE = "box partly outside its image"
SMALL = "object smaller than one output cell"
CROWD = "crowd region"
NO_OBJECT = "image without annotation"
SHARED = "image shared with another split"
UNUSED = "category without objects"
ODD_AREA = "area that does not match its box"
REPEATED_ID = "duplicate annotation id"
GROUP = "category that only groups others"
OF_TASK = "annotation that the task can only partly use"

WARNINGS = (
    OVERLAPPING,
    PARTLY_OUTSIDE,
    SMALL,
    CROWD,
    ODD_AREA,
    REPEATED_ID,
    NO_OBJECT,
    SHARED,
    UNUSED,
    GROUP,
    OF_TASK,
)
"""The kinds of warnings."""

IDENTIFIERS = {
    REPEATED_KEY: "repeated-key",
    "unknown image": "unknown-image-id",
    "unknown category": "unknown-category-id",
    "crowd flag that is neither 0 nor 1": "bad-iscrowd",
    "box that is not four finite numbers": "bad-bbox",
    "box larger than any image": "bbox-too-large",
    "box without area": "empty-bbox",
    "box outside its image": "bbox-outside-image",
    UNFIT: "unfit-for-task",
    REPEATED_IMAGE: "duplicate-image-id",
    REPEATED_FILE: "duplicate-file-name",
    REPEATED_BOX: "duplicate-bbox",
    BAD_IMAGE: "bad-image",
    OVERLAPPING: "overlapping-bboxes",
    PARTLY_OUTSIDE: "bbox-partly-outside-image",
    SMALL: "smaller-than-a-cell",
    CROWD: "crowd",
    ODD_AREA: "area-unlike-bbox",
    REPEATED_ID: "duplicate-annotation-id",
    NO_OBJECT: "image-without-annotation",
    SHARED: "image-in-several-splits",
    UNUSED: "category-without-object",
    GROUP: "grouping-category",
    OF_TASK: "partly-usable-for-task",
}
"""Kind of record -> its key in JSON."""


@dataclass(frozen=True)
class SplitCheck:
    """The findings in one split.

    Attributes:
        split: its name.
        images, annotations: how many the file lists.
        problems: bad records; their kinds are ``PROBLEMS``.
        warnings: their kinds are ``WARNINGS``.
    """

    split: str
    images: int
    annotations: int
    problems: tuple[Problem, ...]
    warnings: tuple[Problem, ...]


@dataclass(frozen=True)
class CheckReport:
    """The findings in a data directory.

    Attributes:
        directory: the data directory.
        splits: the findings of each split.
        images_read: whether the image files were read.
        notes: anything else that the user should know, one line each.
    """

    directory: Path
    splits: tuple[SplitCheck, ...]
    images_read: bool
    notes: tuple[str, ...] = ()

    @property
    def bad(self) -> int:
        """Number of bad records."""
        return sum(len(split.problems) for split in self.splits)

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON values."""
        return {
            "directory": str(self.directory),
            "bad_records": self.bad,
            "images_read": self.images_read,
            "splits": [_split_dict(split) for split in self.splits],
            "notes": list(self.notes),
        }


def check_dataset(
    directory: str | Path,
    split: str | None = None,
    size: int | None = None,
    images: bool = True,
    task: str | None = None,
) -> CheckReport:
    """Examine a data directory.

    Args:
        directory: the data directory.
        split: its name; by default all splits.
        size: side of the square network input, pixels, to which images are scaled when counting objects
            smaller than an output cell; by default images are not scaled.
        images: read every image.
        task: check that task's annotations, and whether it can use them.

    Raises:
        CtnetError: when the directory or an annotation file cannot be read at all.
    """
    datasets = open_splits(directory, split, task)
    owners = _owners(datasets)
    checks = tuple(_check_split(dataset, owners, size, images) for dataset in datasets)
    notes = tuple(_missing_splits(Path(directory), datasets)) if split is None else ()
    return CheckReport(Path(directory), checks, images, notes)


def _missing_splits(directory: Path, datasets: Sequence[Dataset]) -> Iterator[str]:
    for wanted in ("train", "val"):
        if not any(dataset.split.startswith(wanted) for dataset in datasets):
            yield f"there is no split {wanted!r}; `{split_command(directory)}` makes one"


def _split_dict(check: SplitCheck) -> dict[str, Any]:
    return {
        "split": check.split,
        "images": check.images,
        "annotations": check.annotations,
        "problems": _grouped(check.problems, PROBLEMS),
        "warnings": _grouped(check.warnings, WARNINGS),
    }


def _grouped(found: Sequence[Problem], kinds: Sequence[str]) -> dict[str, list[dict[str, str]]]:
    """Records grouped by the identifier of their kind."""
    return {
        IDENTIFIERS[kind]: [{"where": p.where, "what": p.what} for p in found if p.kind == kind]
        for kind in kinds
    }


def _owners(datasets: Sequence[Dataset]) -> Mapping[str, list[str]]:
    """File name -> splits that list it."""
    owners: dict[str, list[str]] = {}
    for dataset in datasets:
        for name in {dataset.coco.file_name(row) for row in dataset.rows}:
            owners.setdefault(name, []).append(dataset.split)
    return owners


def _check_split(
    dataset: Dataset, owners: Mapping[str, list[str]], size: int | None, images: bool
) -> SplitCheck:
    dataset.coco.verify()
    repeated, overlapping = _duplicates(dataset)
    problems = [*dataset.problems, *_repeated_files(dataset), *repeated]
    if images:
        problems += _bad_images(dataset)
    warnings = [
        *overlapping,
        *_partly_outside(dataset),
        *_small(dataset, size),
        *_crowd(dataset),
        *_odd_areas(dataset),
        *_repeated_ids(dataset),
        *_images_without_annotation(dataset),
        *_shared(dataset, owners),
        *_unused_categories(dataset),
        *_of_task(dataset),
    ]
    annotations = len(dataset.coco.annotation_ids)
    return SplitCheck(dataset.split, len(dataset), annotations, tuple(problems), tuple(warnings))


# --- one function per check


def _repeated_files(dataset: Dataset) -> Iterator[Problem]:
    seen: set[str] = set()
    for index in range(len(dataset)):
        name = dataset.coco.file_name(dataset.rows[index])
        if name in seen:
            yield Problem(REPEATED_FILE, f"image {dataset.image_ids[index]}", name)
        seen.add(name)


def _bad_images(dataset: Dataset) -> Iterator[Problem]:
    def complaint(index: int) -> str:
        info = dataset.info(index)
        try:
            read_image(dataset.image_path(index), (info.width, info.height))
        except ImageError as error:
            return str(error)
        return ""

    indices = range(len(dataset))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        complaints = pool.map(complaint, indices)
        for index, text in enumerate(track(complaints, f"reading {dataset.split}", total=len(indices))):
            if text:
                yield Problem(BAD_IMAGE, f"image {dataset.image_ids[index]}", text)


def _duplicates(dataset: Dataset) -> tuple[list[Problem], list[Problem]]:
    """Boxes that equal an earlier one of their image and category, or overlap it by over DUPLICATE_IOU.

    A box is listed with only the first few such boxes, and boxes are compared in blocks, so that thousands of
    copies of one box do not exhaust memory.
    """
    coco = dataset.coco
    names = {int(category["id"]): category["name"] for category in dataset.categories}
    repeated, overlapping = [], []
    for image in dataset.rows:
        rows = coco.rows(image)
        rows = rows[~coco.crowd[rows]]
        for first, second, overlap in _earlier(coco.boxes[rows], coco.category_ids[rows]):
            pair = rows[[first, second]]
            ids = coco.annotation_ids[pair]
            where = f"annotations {ids[0]} and {ids[1]} of image {coco.image_ids[image]}"
            name = names[int(coco.category_ids[pair[0]])]
            if np.array_equal(coco.boxes[pair[0]], coco.boxes[pair[1]]):
                repeated.append(Problem(REPEATED_BOX, where, f"{name} {coco.boxes[pair[0]].tolist()}"))
            else:
                overlapping.append(Problem(OVERLAPPING, where, f"{name}, IoU {overlap:.2f}"))
    return repeated, overlapping


def _earlier(boxes: np.ndarray, category_ids: np.ndarray) -> Iterator[tuple[int, int, float]]:
    """(first, second, IoU) of boxes that equal or overlap an earlier one, a few of each kind.

    Args:
        boxes: (N, 4) xywh.
        category_ids: (N,); boxes of different categories are not compared.
    """
    corners = boxes.copy()
    corners[:, 2:] += corners[:, :2]
    step = max(1, _PAIRS_AT_ONCE // max(len(boxes), 1))
    for start in range(0, len(boxes), step):
        block = slice(start, start + step)
        same = category_ids[block, None] == category_ids[None, : start + step]
        overlap = np.tril(box_iou(corners[block], corners[: start + step]) * same, start - 1)
        alike = overlap > DUPLICATE_IOU
        for row in np.flatnonzero(alike.any(axis=1)):
            others = np.flatnonzero(alike[row])
            equal = (boxes[others] == boxes[start + row]).all(axis=1)
            for other in (*others[equal][:_LISTED], *others[~equal][:_LISTED]):
                yield int(other), start + int(row), float(overlap[row, other])


def _partly_outside(dataset: Dataset) -> Iterator[Problem]:
    coco = dataset.coco
    width, height = coco.widths[coco.image_index], coco.heights[coco.image_index]
    x, y, w, h = coco.boxes.T
    with np.errstate(invalid="ignore"):
        beyond = np.max([-x, -y, x + w - width, y + h - height], axis=0)
        rows = np.flatnonzero(coco.usable & (beyond > 1))
    for row in rows:
        yield Problem(PARTLY_OUTSIDE, _where(dataset, row), f"by {beyond[row]:.1f} px")


def _small(dataset: Dataset, size: int | None) -> Iterator[Problem]:
    """Objects smaller than one cell of the output grid, with the image scaled to the network input."""
    coco = dataset.coco
    longest = np.maximum(coco.widths, coco.heights)[coco.image_index]
    scale = np.ones(len(longest)) if size is None else size / longest
    with np.errstate(invalid="ignore"):
        sides = coco.boxes[:, 2:] * scale[:, None]
        small = (sides < STRIDE).all(axis=1) & coco.usable & ~coco.crowd
    for row in np.flatnonzero(small):
        yield Problem(SMALL, _where(dataset, row), "{:.1f} x {:.1f} px".format(*sides[row]))


def _crowd(dataset: Dataset) -> Iterator[Problem]:
    coco = dataset.coco
    for row in np.flatnonzero(coco.crowd & coco.usable):
        yield Problem(CROWD, _where(dataset, row), "{:.0f} x {:.0f} px".format(*coco.boxes[row, 2:]))


def _odd_areas(dataset: Dataset) -> Iterator[Problem]:
    coco = dataset.coco
    rows = np.flatnonzero(coco.odd_areas & coco.usable)
    for row, raw in zip(rows, coco.raw_annotations(rows), strict=True):
        what = "area {}, box {:g} x {:g} px".format(repr(raw["area"])[:40], *coco.boxes[row, 2:])
        yield Problem(ODD_AREA, _where(dataset, row), f"{what}; the area of the box is used")


def _repeated_ids(dataset: Dataset) -> Iterator[Problem]:
    ids = dataset.coco.annotation_ids
    repeated = np.ones(len(ids), bool)
    repeated[np.unique(ids, return_index=True)[1]] = False
    for row in np.flatnonzero(repeated & dataset.coco.usable):
        yield Problem(REPEATED_ID, _where(dataset, row), "ids are only used for messages")


def _images_without_annotation(dataset: Dataset) -> Iterator[Problem]:
    counts = np.diff(dataset.coco.first)
    for image in dataset.rows[counts[dataset.rows] == 0]:
        yield Problem(NO_OBJECT, f"image {dataset.coco.image_ids[image]}", dataset.coco.file_name(image))


def _shared(dataset: Dataset, owners: Mapping[str, list[str]]) -> Iterator[Problem]:
    for index in range(len(dataset)):
        name = dataset.coco.file_name(dataset.rows[index])
        others = [split for split in owners[name] if split != dataset.split]
        if others:
            what = f"{name}, also in {' and '.join(others)}"
            yield Problem(SHARED, f"image {dataset.image_ids[index]}", what)


def _unused_categories(dataset: Dataset) -> Iterator[Problem]:
    used = set(dataset.coco.category_ids[dataset.coco.usable].tolist())
    for category in dataset.categories:
        if int(category["id"]) not in used:
            yield Problem(UNUSED, f"category {category['id']}", str(category["name"]))
    for category in dataset.coco.groups:
        yield Problem(GROUP, f"category {category['id']}", str(category["name"]))


def _of_task(dataset: Dataset) -> Iterator[Problem]:
    """The warnings of the data set's task."""
    task, coco = dataset.task, dataset.coco
    if task is None or type(task).errors is Task.errors:
        return
    for image in dataset.rows:
        rows = np.setdiff1d(coco.rows(image), dataset.unfit)
        record, annotations = coco.raw_entries(image, rows)
        for row, annotation in zip(rows, annotations, strict=True):
            if warnings := annotation_warnings(task, annotation, record):
                yield Problem(OF_TASK, _where(dataset, row), "; ".join(warnings))


def _where(dataset: Dataset, row: np.intp) -> str:
    coco = dataset.coco
    return f"annotation {coco.annotation_ids[row]} of image {coco.image_ids[coco.image_index[row]]}"
