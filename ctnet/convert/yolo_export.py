"""A COCO data directory to YOLO labels: one text file per image, relative to its width and height."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import numpy as np

from ctnet.base.choices import ImageMode
from ctnet.base.errors import CtnetError
from ctnet.base.files import atomic_write
from ctnet.base.progress import track
from ctnet.base.schema import shorten
from ctnet.convert.data_yaml import write_data_yaml
from ctnet.convert.exports import ExportedImage, exported_images, write_text
from ctnet.convert.files import place_image
from ctnet.convert.report import ConvertReport, SplitReport
from ctnet.convert.yolo_keypoints import description_entries, keypoint_error, label_text, shared_names
from ctnet.core.masks import Mask, one_ring
from ctnet.data.dataset import Dataset
from ctnet.data.directory import splits
from ctnet.data.problems import Problem, refuse

_SPLIT_KEYS = ("train", "val", "test")
_VISIBLE_PIXELS = 0.01  # clipping less than this is rounding


def export_yolo(
    source: str | Path,
    target: str | Path,
    images: ImageMode = "link",
    strict: bool = False,
    prefix: str | None = None,
    polygons: bool = False,
) -> ConvertReport:
    """Write the boxes of a COCO data directory as YOLO labels, with a ``data.yaml``.

    Where the categories have keypoints, these are written after the boxes, with their visibility.

    Classes are numbered from 0 in the order of the category ids. Boxes are clipped to the image, since
    readers of YOLO labels refuse anything outside. Crowd regions have no counterpart: they are left out and
    counted.

    Args:
        source: the data directory.
        target: the folder to write: ``images/<split>``, ``labels/<split>``, and ``data.yaml`` last.
        images: how the images get there, see ``ctnet.convert.files.place_image``.
        strict: refuse the data set for its first bad record instead of skipping bad records.
        prefix: the prefix of the annotation files (``person_keypoints``); by default ``instances``, else the
            only one.
        polygons: write masks instead of boxes, each as one polygon: its parts and holes are joined by lines.

    Raises:
        CtnetError: when ``source`` is not a data directory, its splits differ in their categories, categories
            differ in their keypoints, or with ``strict`` when a record is bad.
    """
    source, target = Path(source), Path(target)
    datasets = [Dataset.open(source, split, prefix=prefix) for split in splits(source)]
    names = _class_names(datasets, source)
    joints = shared_names([category for dataset in datasets for category in dataset.categories], source)
    if polygons and joints:
        raise CtnetError(f"{source} has keypoints, which polygons leave no room for; leave --polygons out")
    problems = [problem for dataset in datasets for problem in dataset.problems]
    labels = {
        dataset.split: list(_labels(dataset, problems, images != "none", len(joints), polygons))
        for dataset in datasets
    }
    if strict:
        refuse(problems, source)
    for split, items in labels.items():
        for item in track(items, f"writing {split}"):
            if item.image.source is not None:
                place_image(item.image.source, target / "images" / split / item.image.name, images)
            # Not atomic: an interrupted export is recognised by its missing data.yaml.
            write_text(target / "labels" / split / item.image.name.with_suffix(".txt"), item.lines)
    with atomic_write(target / "data.yaml", "w") as stream:
        described = description_entries(joints, len(names)) if joints else {}
        stream.write(write_data_yaml(_split_keys(list(labels)), names, described))
    reports = tuple(_split_report(split, items, names) for split, items in labels.items())
    return ConvertReport(target, reports, tuple(problems), tuple(_notes(labels.values())))


@dataclass(frozen=True)
class _Label:
    """The label file of one image.

    Attributes:
        image: the image, with its name below ``images/<split>``.
        classes: (N,) class numbers.
        boxes: (N, 4) centre, width and height relative to the image's size.
        keypoints: the rest of each line.
        crowd, clipped: number of crowd regions left out, and of boxes clipped at the border.
        outside: number of keypoints outside the image.
        polygons: the polygon of each object, in place of its box; None for labels of boxes.
        without_mask: number of objects whose polygon is their box.
    """

    image: ExportedImage
    classes: np.ndarray
    boxes: np.ndarray
    keypoints: list[str]
    crowd: int
    clipped: int
    outside: int
    polygons: list[np.ndarray] | None = None
    without_mask: int = 0

    @property
    def lines(self) -> list[str]:
        if self.polygons is not None:
            texts = [" ".join(f"{value:.8f}" for value in ring.ravel()) for ring in self.polygons]
            return [f"{number} {text}" for number, text in zip(self.classes.tolist(), texts, strict=True)]
        rows = zip(self.classes.tolist(), self.boxes.tolist(), self.keypoints, strict=True)
        return [
            f"{number} {x:.8f} {y:.8f} {w:.8f} {h:.8f} {rest}".rstrip() for number, (x, y, w, h), rest in rows
        ]


def _class_names(datasets: Sequence[Dataset], source: Path) -> list[str]:
    by_split = {
        dataset.split: [str(c["name"]) for c in sorted(dataset.categories, key=lambda c: int(c["id"]))]
        for dataset in datasets
    }
    first, *others = by_split
    for split in others:
        if by_split[split] != by_split[first]:
            raise CtnetError(
                f"{source}: {first} and {split} differ in their categories; make them equal first"
            )
    return by_split[first]


def _labels(
    dataset: Dataset, problems: list[Problem], need_images: bool, joints: int, polygons: bool
) -> Iterator[_Label]:
    found = exported_images(dataset, lambda name: _plain_name(name, dataset.split), problems, need_images)
    for image in found:
        label = _label(dataset, image, joints, problems)
        yield _with_polygons(dataset, label, problems) if polygons else label


def _with_polygons(dataset: Dataset, label: _Label, problems: list[Problem]) -> _Label:
    """The label of an image with its objects' masks; objects with masks that cannot be used are listed."""
    info, coco, field = dataset.info(label.image.index), dataset.coco, Mask()
    rows = coco.rows(int(dataset.rows[label.image.index]))
    rows = rows[~coco.crowd[rows]]
    size = np.array([info.width, info.height], np.float64)
    kept, rings, without = [], [], 0
    for number, annotation in enumerate(coco.raw_annotations(rows)):
        value = annotation.get("segmentation")
        error = field.error(value, image={"width": info.width, "height": info.height}) if value else None
        region = field.read("mask", [value])["mask"][0] if error is None else None
        if error is not None:
            where = f"annotation {coco.annotation_ids[rows[number]]} of image {info.image_id}"
            problems.append(Problem("unusable mask", where, f"segmentation {error}"))
            continue
        if region is None:
            without += 1
            centre, half = label.boxes[number, :2], label.boxes[number, 2:] / 2
            ring = centre + half * np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
        else:
            ring = one_ring(region) / size
        kept.append(number)
        rings.append(ring.clip(0, 1))
    chosen = {name: getattr(label, name)[kept] for name in ("classes", "boxes")}
    return replace(
        label,
        **chosen,
        keypoints=[label.keypoints[number] for number in kept],
        polygons=rings,
        without_mask=without,
    )


def _plain_name(file_name: str, split: str) -> PurePosixPath:
    """The name below images/<split>: readers find labels by replacing the last ``images`` of a path."""
    plain = file_name.replace("\\", "/")  # Windows' separators
    parts = [part for part in PurePosixPath(plain).parts if part not in ("/", "..")]
    folders = [part for part in parts[:-1] if part not in ("images", split)]
    return PurePosixPath(*folders, *parts[-1:])


def _label(dataset: Dataset, image: ExportedImage, joints: int, problems: list[Problem]) -> _Label:
    coco, row = dataset.coco, int(dataset.rows[image.index])
    rows = coco.rows(row)
    crowd = coco.crowd[rows]
    rows, texts, outside = _keypoints(dataset, image.index, rows[~crowd], joints, problems)
    boxes = coco.boxes[rows]
    size = np.array([coco.widths[row], coco.heights[row]], np.float64)
    low = boxes[:, :2].clip(0, size)
    high = (boxes[:, :2] + boxes[:, 2:]).clip(0, size)
    clipped = (boxes[:, 2:] - (high - low) > _VISIBLE_PIXELS).any(axis=1)
    classes = np.searchsorted(np.sort([int(c["id"]) for c in dataset.categories]), coco.category_ids[rows])
    shares = np.concatenate([(low + high) / 2 / size, (high - low) / size], axis=1)
    return _Label(image, classes, shares, texts, int(crowd.sum()), int(clipped.sum()), outside)


def _keypoints(
    dataset: Dataset, index: int, rows: np.ndarray, joints: int, problems: list[Problem]
) -> tuple[np.ndarray, list[str], int]:
    """The annotations with valid keypoints, the ends of their lines, and the number of points outside."""
    if not joints:
        return rows, [""] * len(rows), 0
    kept, texts, outside = [], [], 0
    info = dataset.info(index)
    for row, annotation in zip(rows, dataset.coco.raw_annotations(rows), strict=True):
        values = annotation.get("keypoints") or [0] * (3 * joints)
        if problem := keypoint_error(values, joints):
            where = f"annotation {dataset.coco.annotation_ids[row]} of image {info.image_id}"
            problems.append(Problem(problem, where, shorten(values)))
            continue
        text, beyond = label_text(values, info.width, info.height)
        kept.append(row)
        texts.append(text)
        outside += beyond
    return np.array(kept, np.int64), texts, outside


def _split_keys(names: Sequence[str]) -> dict[str, str]:
    """The key of each split in data.yaml and its folder; train2017 has the key train if it can."""
    keys = {}
    for split in names:
        plain = split.rstrip("0123456789")
        rivals = [name for name in names if name.rstrip("0123456789") == plain]
        keys[plain if plain in _SPLIT_KEYS and len(rivals) == 1 else split] = f"images/{split}"
    return keys


def _split_report(split: str, items: Sequence[_Label], names: Sequence[str]) -> SplitReport:
    counts = Counter(number for item in items for number in item.classes.tolist())
    return SplitReport(split, len(items), {name: counts[number] for number, name in enumerate(names)})


def _notes(splits: Iterable[list[_Label]]) -> Iterator[str]:
    items = [item for split in splits for item in split]
    if crowd := sum(item.crowd for item in items):
        yield f"{crowd} crowd regions were left out: YOLO labels cannot express them"
    if clipped := sum(item.clipped for item in items):
        yield f"{clipped} boxes were clipped at the border of their image"
    if boxes := sum(item.without_mask for item in items):
        yield f"{boxes} objects without a mask were written as their boxes"
    if outside := sum(item.outside for item in items):
        yield f"{outside} keypoints outside their image were written as unlabelled"
