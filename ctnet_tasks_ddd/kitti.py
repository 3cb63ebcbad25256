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
    BadRecord,
    ConvertReport,
    CtnetError,
    ImageMode,
    ImageRecord,
    Problem,
    check_folder,
    image_files,
    listed_names,
    read_each,
    readable_size,
    refuse,
    track,
    write_splits,
)
from ctnet_tasks_ddd.calibration import Calibrations, check_size, known_size
from ctnet_tasks_ddd.fields import CATEGORIES, DONT_CARE, IGNORED, entry_of_fields
from ctnet_tasks_ddd.frame_files import FrameFiles
from ctnet_tasks_ddd.objects import LABEL_COLUMNS, check_fields

#: Classes of objects and of ignore regions, by the categories that they count for.
_OBJECTS: dict[str, tuple[str, ...]] = {name.lower(): (name,) for name in CATEGORIES}
_PLACES = _OBJECTS | {name.lower(): (category,) for name, category in IGNORED.items()}
_PLACES |= {DONT_CARE.lower(): CATEGORIES}

#: Records listed in one note.
_NAMED = 5


def convert_kitti(
    source: str | Path,
    target: str | Path,
    split_files: Sequence[str | Path] = (),
    images: ImageMode = "link",
    strict: bool = False,
) -> ConvertReport:
    """Convert KITTI's training data to a COCO data directory with 3D fields.

    Pedestrian, Car and Cyclist become categories. Similar classes (Van, Truck, Person_sitting) become ignore
    regions (``iscrowd`` and ``ignore`` 1) of that category, DontCare regions those of every category; all
    other classes are kept in the image's entry, under ``others``. No information is lost, see
    ``write_labels``.

    Args:
        source: a folder in the benchmark's layout, with ``training/label_2``, ``training/calib`` and
            optionally ``training/image_2`` and ``ImageSets``; labels and calibration may be in their zips.
        target: the data directory to write.
        split_files: lists of frames, one per line; a split is named after its file. By default the lists in
            ``ImageSets`` (except ``test.txt``, whose frames have no labels); without these, all frames are
            ``train``.
        images: how the images get to ``target/images``, see ``ctnet.plugin.place_image``.
        strict: refuse the data set for its first bad record instead of skipping bad records.

    Raises:
        CtnetError: when ``source`` does not have this layout, or with ``strict`` when a record is bad.
    """
    source, target = Path(source), Path(target)
    kitti = _Source.open(source, need_images=images != "none")
    problems: list[Problem] = []
    splits = kitti.splits([Path(file) for file in split_files], problems)
    frames = kitti.read(splits, problems)
    if strict:
        refuse(problems, source)
    written = {
        split: {kitti.ids[name]: frames[name] for name in names if name in frames}
        for split, names in splits.items()
    }
    description = f"converted from KITTI, {source.name}"
    reports = write_splits(target, written, CATEGORIES, description, images)
    return ConvertReport(target, reports, tuple(problems), tuple(kitti.notes(splits, frames)))


@dataclass(frozen=True)
class _Source:
    """The files of KITTI's training data."""

    folder: Path
    labels: FrameFiles
    calibrations: Calibrations
    ids: Mapping[str, int]  # by frame
    images: Mapping[str, Path]  # by frame
    need_images: bool

    @classmethod
    def open(cls, folder: Path, need_images: bool) -> _Source:
        check_folder(folder)
        labels = FrameFiles.first_of(
            [folder / "training" / "label_2", folder / "label_2", *sorted(folder.glob("*label*.zip"))],
            ("training/label_2", "label_2"),
            f"{folder} is not KITTI data: it has neither training/label_2 nor a label_2.zip",
        )
        ids = {name: number for number, name in enumerate(labels.names, start=1)}
        places = (folder / "training" / "image_2", folder / "image_2")
        images = {path.stem: path for place in places for path in image_files(place)}
        return cls(folder, labels, Calibrations.open(folder), ids, images, need_images and bool(images))

    def splits(self, files: Sequence[Path], problems: list[Problem]) -> dict[str, list[str]]:
        """Split name -> frames, in the order of the lists."""
        files = files or [path for path in sorted(self.folder.glob("ImageSets/*.txt")) if path.stem != "test"]
        if not files:
            return {"train": list(self.labels.names)}
        splits: dict[str, list[str]] = {}
        for path in files:
            names = listed_names(path, problems, "frame")
            if not names:
                raise CtnetError(f"{path} lists no frame; write one per line, as 000012")
            # The split is the part of an annotation file's name after its last underscore.
            split = path.stem.replace("_", "-")
            if split in splits:
                raise CtnetError(f"two lists are called {split}; a split is named after its file: rename one")
            splits[split] = list(names)
        return splits

    def read(self, splits: Mapping[str, Sequence[str]], problems: list[Problem]) -> dict[str, ImageRecord]:
        """Frame name -> record for frames that can be read; the others are added to ``problems``."""
        listed = dict.fromkeys(self.images.keys() - self.ids.keys(), "it has an image")
        for split in reversed(list(splits)):  # problems mention the first list that names a frame
            listed |= dict.fromkeys(splits[split], f"listed in {split}")

        def read(name: str) -> tuple[str, ImageRecord]:
            if name not in self.labels:
                raise BadRecord("no label file", listed[name])
            return name, self._frame(name, problems)

        frames = ((f"{name}.txt", name) for name in track(sorted(listed), "reading frames"))
        return dict(read_each(frames, read, problems))

    def _frame(self, name: str, problems: list[Problem]) -> ImageRecord:
        """One frame; raises BadRecord when it cannot be used at all."""
        matrix = self.calibrations.matrix(name)
        file = self.images.get(name)
        if file is None and self.need_images:
            raise BadRecord("no file in image_2", f"looked for {name}.png")
        size = self.calibrations.size(name) or (known_size(matrix) if file is None else readable_size(file))
        if size is None:
            raise BadRecord("no image size", "there is no image, and the camera is not the benchmark's")
        check_size(matrix, size)
        lines = enumerate(self.labels.read(name).splitlines(), start=1)
        rows = ((f"{name}.txt:{number}", (number, line.split())) for number, line in lines if line.strip())
        entries = []
        for entry in read_each(rows, lambda row: _entry(*row, size), problems):
            entries.append(entry)
            if _is_behind(entry) and not _passes(entry):
                what = f"z {entry['depth']:g}; kept as an ignore region"
                problems.append(Problem("location behind the camera", f"{name}.txt:{entry['line']}", what))
        annotations = [annotation for entry in entries for annotation in _annotations(entry)]
        others = [entry for entry in entries if entry["type"].lower() not in _PLACES]
        extra = {"calib": matrix} | ({"others": others} if others else {})
        return ImageRecord(f"images/{file.name if file else f'{name}.png'}", *size, annotations, file, extra)

    def notes(self, splits: Mapping[str, Sequence[str]], frames: Mapping[str, ImageRecord]) -> Iterator[str]:
        behind = [
            f"{name}.txt:{e['line']}"
            for name, frame in frames.items()
            for e in frame.objects
            if _is_behind(e) and _passes(e)
        ]
        if behind:
            shown = ", ".join(behind[:_NAMED]) + (", ..." if len(behind) > _NAMED else "")
            yield (
                "ignore regions, because they are cut by the image and their centre is behind the camera, "
                f"without a valid depth: {shown}"
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
            yield "the images were not copied; put them into the target's folder images yourself"


def _entry(number: int, fields: Sequence[str], size: tuple[int, int]) -> dict[str, Any]:
    """A label line as an entry; raises BadRecord."""
    check_fields(fields, LABEL_COLUMNS)
    try:
        entry = entry_of_fields(fields, number)
    except ArithmeticError as error:  # decimals can have exponents that underflow to zero in floats
        raise BadRecord("box that is not four finite numbers", " ".join(fields[4:8])[:60]) from error
    x, y, width, height = entry["bbox"]
    corners = "left {}, top {}, right {}, bottom {}".format(*fields[4:8])
    if width <= 0 or height <= 0:
        raise BadRecord("box without area", corners)
    if x >= size[0] or y >= size[1] or x + width <= 0 or y + height <= 0:
        raise BadRecord("box outside the image", f"{corners}; the image has {size[0]}x{size[1]}")
    if "dim" in entry and min(entry["dim"]) <= 0:
        shown = "height {}, width {}, length {}".format(*fields[8:11])
        raise BadRecord("dimensions that are not positive", shown)
    return entry


def _annotations(entry: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The annotations of an entry: an object, an ignore region of one or all categories, or none."""
    name = entry["type"].lower()
    # Without a valid depth the object is still visible.
    region = int(name not in _OBJECTS or _is_behind(entry))
    return [
        {"category": category, **entry, "iscrowd": region, "ignore": region}
        for category in _PLACES.get(name, ())
    ]


def _is_behind(entry: Mapping[str, Any]) -> bool:
    """Whether an object's centre is behind the camera."""
    return entry["type"].lower() in _OBJECTS and entry["depth"] <= 0


def _passes(entry: Mapping[str, Any]) -> bool:
    """Whether an object with its centre behind the camera is cut by the image but still partly visible."""
    _, width, length = entry["dim"]
    return bool(entry["truncated"] > 0 and entry["depth"] > -math.hypot(width, length) / 2)
