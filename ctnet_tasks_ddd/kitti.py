"""The KITTI object benchmark (labels, calibration, images) to a COCO data directory with 3D fields.

Source: Geiger, Lenz, Urtasun: Are we ready for autonomous driving? The KITTI vision benchmark suite, CVPR
2012, development kit.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ctnet.plugin import (
    IMAGE_SUFFIXES,
    BadRecord,
    ConvertReport,
    CtnetError,
    ImageError,
    ImageMode,
    ImageRecord,
    Problem,
    check_folder,
    image_size,
    place_image,
    read_lines,
    refuse,
    track,
    write_split,
)
from ctnet_tasks_ddd.calibration import Calibrations, check_size, known_size
from ctnet_tasks_ddd.fields import CATEGORIES, DONT_CARE, IGNORED, entry_of_fields
from ctnet_tasks_ddd.frame_files import FrameFiles
from ctnet_tasks_ddd.objects import FIELDS, LABEL_COLUMNS, check_fields

_CATEGORIES = {name.lower(): name for name in CATEGORIES}
_IGNORED = {name.lower(): category for name, category in IGNORED.items()}

#: Records that one note names.
_NAMED = 5


def convert_kitti(
    source: str | Path,
    target: str | Path,
    split_files: Sequence[str | Path] = (),
    images: ImageMode = "link",
    strict: bool = False,
) -> ConvertReport:
    """Convert KITTI's training data to a COCO data directory with 3D fields.

    Pedestrian, Car and Cyclist become categories. What is like one of them (Van, Truck, Person_sitting)
    becomes an ignore region (``iscrowd`` and ``ignore`` 1) of that category, a DontCare region one of every
    category; all other classes are kept in the image's entry, under ``others``. Nothing of a label is lost:
    see ``write_labels``.

    Args:
        source: a folder as the benchmark unpacks, with ``training/label_2``, ``training/calib`` and, if they
            are there, ``training/image_2`` and ``ImageSets``; labels and calibration may be in their zips.
        target: the data directory to write.
        split_files: lists of frames, one a line; a split is called as its file. Without any, the lists in
            ``ImageSets`` (but ``test.txt``, whose frames have no labels); without these, all frames are
            ``train``.
        images: how the images get to ``target/images``, see ``ctnet.plugin.place_image``.
        strict: refuse the data set for its first bad record instead of skipping bad records.

    Raises:
        CtnetError: when ``source`` has not this layout, or with ``strict`` when a record is bad.
    """
    source, target = Path(source), Path(target)
    kitti = _Source.open(source, need_images=images != "none")
    problems: list[Problem] = []
    splits = kitti.splits([Path(file) for file in split_files], problems)
    frames = kitti.read(splits, problems)
    if strict:
        refuse(problems, source)
    for frame in track(frames.values(), "placing images"):
        if frame.image_file is not None:
            place_image(frame.image_file, target / frame.image["file_name"], images)
    reports = []
    for split, names in splits.items():
        records = {frames[name].image["id"]: frames[name].record() for name in names if name in frames}
        description = f"converted from KITTI, {source.name}"
        reports.append(write_split(target, split, records, CATEGORIES, description))
    return ConvertReport(target, tuple(reports), tuple(problems), tuple(kitti.notes(splits, frames)))


@dataclass(frozen=True)
class _Frame:
    """One frame on its way into COCO JSON: the image's entry, and annotations without ids."""

    image: Mapping[str, Any]
    annotations: Sequence[Mapping[str, Any]]
    image_file: Path | None

    def record(self) -> ImageRecord:
        """As it is written."""
        own = ("id", "file_name", "width", "height")
        extra = {key: value for key, value in self.image.items() if key not in own}
        name, width, height = (self.image[key] for key in own[1:])
        return ImageRecord(name, width, height, self.annotations, self.image_file, extra)


@dataclass(frozen=True)
class _Source:
    """KITTI's training data where it lies."""

    folder: Path
    labels: FrameFiles
    calibrations: Calibrations
    images: Mapping[str, Path]  # by frame
    need_images: bool

    @classmethod
    def open(cls, folder: Path, need_images: bool) -> _Source:
        check_folder(folder)
        images = {
            path.stem: path
            for place in (folder / "training" / "image_2", folder / "image_2")
            for path in sorted(place.glob("*"))
            if path.suffix.lower() in IMAGE_SUFFIXES
        }
        return cls(
            folder, _open_labels(folder), Calibrations.open(folder), images, need_images and bool(images)
        )

    def splits(self, files: Sequence[Path], problems: list[Problem]) -> dict[str, list[str]]:
        """Split name to frames, in the order of the lists."""
        files = files or [path for path in sorted(self.folder.glob("ImageSets/*.txt")) if path.stem != "test"]
        if not files:
            return {"train": list(self.labels.names)}
        splits: dict[str, list[str]] = {}
        for path in files:
            names: dict[str, None] = {}
            for number, line in enumerate(read_lines(path), start=1):
                name = line.strip()
                if name in names:
                    problems.append(Problem("frame listed twice", f"{path}:{number}", name))
                elif name:
                    names[name] = None
            if not names:
                raise CtnetError(f"{path} lists no frame; write one a line, as 000012")
            split = path.stem.replace(
                "_", "-"
            )  # the name of an annotation file is cut at its last underscore
            if split in splits:
                raise CtnetError(f"two lists are called {split}; a split is called as its file: rename one")
            splits[split] = list(names)
        return splits

    def read(self, splits: Mapping[str, Sequence[str]], problems: list[Problem]) -> dict[str, _Frame]:
        """Frame name to frame for all that can be read; the rest goes to ``problems``."""
        ids = {name: number for number, name in enumerate(self.labels.names, start=1)}
        listed: dict[str, str] = {}
        for split, names in splits.items():
            for name in names:
                listed.setdefault(name, f"listed in {split}")
        for name in self.images.keys() - self.labels.names:
            listed.setdefault(name, "it has an image")
        frames = {}
        for name in track(sorted(listed), "reading frames"):
            try:
                if name not in ids:
                    raise BadRecord("no label file", listed[name])
                frames[name] = self._frame(name, ids[name], problems)
            except BadRecord as error:
                problems.append(error.at(f"{name}.txt"))
        return frames

    def _frame(self, name: str, image_id: int, problems: list[Problem]) -> _Frame:
        """One frame; raises BadRecord when it cannot be used at all."""
        matrix = self.calibrations.matrix(name)
        file = self.images.get(name)
        if file is None and self.need_images:
            raise BadRecord("no file in image_2", f"looked for {name}.png")
        size = self.calibrations.size(name) or _size(file) or known_size(matrix)
        if size is None:
            raise BadRecord("no image size", "there is no image, and the camera is none of the benchmark's")
        check_size(matrix, size)
        annotations: list[dict[str, Any]] = []
        others: list[dict[str, Any]] = []
        for number, line in enumerate(self.labels.read(name).splitlines(), start=1):
            try:
                if line.strip():
                    _place(_entry(line.split(), number, size), annotations, others, problems, name)
            except BadRecord as error:
                problems.append(error.at(f"{name}.txt:{number}"))
        file_name = f"images/{file.name if file else f'{name}.png'}"
        image = {"id": image_id, "file_name": file_name, "width": size[0], "height": size[1], "calib": matrix}
        return _Frame(image | ({"others": others} if others else {}), annotations, file)

    def notes(self, splits: Mapping[str, Sequence[str]], frames: Mapping[str, _Frame]) -> Iterator[str]:
        behind = [
            f"{name}.txt:{e['line']}" for name in frames for e in frames[name].annotations if _passes(e)
        ]
        if behind:
            shown = ", ".join(behind[:_NAMED]) + (", ..." if len(behind) > _NAMED else "")
            yield (
                "ignore regions, for the image cuts them and their middle is behind the camera, where there "
                f"is no depth to learn: {shown}"
            )
        listed = {name for names in splits.values() for name in names}
        unlisted = len(set(self.labels.names) - listed)
        if unlisted:
            yield f"{unlisted} frames with labels are in no list and were left out"
        if (self.folder / "ImageSets" / "test.txt").is_file() and "test" not in splits:
            yield "ImageSets/test.txt lists frames of the testing part, which have no labels; it was left out"
        if not self.images:
            yield "there is no folder image_2: labels and calibration were converted without images"
        elif not self.need_images:
            yield "the images were left where they are; put them into the target's folder images yourself"


def _open_labels(folder: Path) -> FrameFiles:
    inside = ("training/label_2", "label_2")
    if not any((folder / place).is_dir() for place in inside):
        for archive in sorted(folder.glob("*label*.zip")):
            return FrameFiles.open(archive, inside)
        raise CtnetError(f"{folder} is no KITTI data: it has neither training/label_2 nor a label_2.zip")
    return FrameFiles.open(folder, inside)


def _size(image: Path | None) -> tuple[int, int] | None:
    try:
        return None if image is None else image_size(image)
    except ImageError as error:
        raise BadRecord("image that cannot be read", str(error)) from error


def _entry(fields: Sequence[str], number: int, size: tuple[int, int]) -> dict[str, Any]:
    """A label line as an entry; raises BadRecord."""
    check_fields(fields, LABEL_COLUMNS)
    try:
        entry = entry_of_fields(fields, number)
    except ArithmeticError as error:  # decimals have exponents that floats take for zero
        raise BadRecord("box that is no four finite numbers", " ".join(fields[4:8])[:60]) from error
    x, y, width, height = entry["bbox"]
    corners = "left {}, top {}, right {}, bottom {}".format(*fields[4:8])
    if width <= 0 or height <= 0:
        raise BadRecord("box without area", corners)
    if x >= size[0] or y >= size[1] or x + width <= 0 or y + height <= 0:
        raise BadRecord("box outside the image", f"{corners}; the image has {size[0]}x{size[1]}")
    if "dim" in entry and min(entry["dim"]) <= 0:
        named = zip(FIELDS[8:11], fields[8:11], strict=True)
        raise BadRecord(
            "dimensions that are not positive", ", ".join(f"{name} {value}" for name, value in named)
        )
    return entry


def _place(
    entry: dict[str, Any],
    annotations: list[dict[str, Any]],
    others: list[dict[str, Any]],
    problems: list[Problem],
    frame: str,
) -> None:
    """Put an entry where it belongs: objects, ignore regions of one category or of all, or neither."""
    name = entry["type"].lower()
    region = {"iscrowd": 1, "ignore": 1}
    if name == DONT_CARE.lower():
        annotations.extend({"category": category, **entry, **region} for category in CATEGORIES)
    elif name in _IGNORED:
        annotations.append({"category": _IGNORED[name], **entry, **region})
    elif name not in _CATEGORIES:
        others.append(entry)
    elif entry["depth"] > 0:
        annotations.append({"category": _CATEGORIES[name], **entry, "iscrowd": 0, "ignore": 0})
    else:
        # There is no depth to learn, but the object is in sight.
        annotations.append({"category": _CATEGORIES[name], **entry, **region})
        if _passes(entry):
            return
        what = f"z {entry['depth']:g}; kept as an ignore region"
        problems.append(Problem("location behind the camera", f"{frame}.txt:{entry['line']}", what))


def _passes(entry: Mapping[str, Any]) -> bool:
    """Whether an object with its middle behind the camera is cut by the image and still reaches into it."""
    if entry["type"].lower() not in _CATEGORIES or entry["depth"] > 0 or entry["truncated"] <= 0:
        return False
    _, width, length = entry["dim"]
    return bool(entry["depth"] > -math.hypot(width, length) / 2)
