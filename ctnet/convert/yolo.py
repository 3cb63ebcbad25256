"""YOLO labels (one text file per image, relative to its width and height) to a COCO data directory."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from os.path import exists, isdir  # unlike Path's, False for a name that is too long
from pathlib import Path
from typing import Any

from ctnet.base.choices import ImageMode
from ctnet.base.errors import CtnetError
from ctnet.base.files import is_file
from ctnet.base.progress import track
from ctnet.convert.coco import (
    IMAGE_FOLDER,
    ImageRecord,
    box_annotation,
    numbered,
    plain,
    write_splits,
)
from ctnet.convert.darknet import Darknet
from ctnet.convert.data_yaml import DataYaml
from ctnet.convert.report import BadRecord, ConvertReport
from ctnet.convert.sources import (
    check_folder,
    checked_number,
    finite_number,
    image_files,
    numbered_lines,
    read_each,
    read_lines,
)
from ctnet.convert.split_names import check_split_name, split_in
from ctnet.convert.yolo_keypoints import YoloKeypoints
from ctnet.data.images import IMAGE_SUFFIXES, image_size
from ctnet.data.problems import Problem, refuse

_SPLIT_KEYS = ("train", "val", "test")
_ROUNDING = 1e-5  # labels are often written with six digits
_PIXEL_DIGITS = 3


def import_yolo(
    source: str | Path,
    target: str | Path,
    names: str | Path | None = None,
    images: ImageMode = "link",
    strict: bool = False,
) -> ConvertReport:
    """Convert a YOLO data set to a COCO data directory.

    A label line is ``class cx cy w h`` or ``class x1 y1 x2 y2 x3 y3 ...``, with coordinates relative to the
    image's size. For a polygon, both the outline and its bounding box are kept. Where data.yaml has a
    ``kpt_shape``, keypoints follow the box: ``class cx cy w h x1 y1 [v1] x2 y2 [v2] ...``.

    Args:
        source: a ``data.yaml``, or a folder with one; Darknet's ``obj.data``, or a folder with it (as CVAT
            exports it); or a folder of ``images/<split>`` and ``labels/<split>`` (or ``<split>/images`` and
            ``<split>/labels``), or of images and labels side by side, with ``classes.txt``.
        target: the data directory to write; images go to ``images/<split>``. It may be the source folder.
        names: a text file with one class name per line, instead of the source's own names.
        images: how the images get there, see ``ctnet.convert.files.place_image``.
        strict: refuse the data set for its first bad record instead of skipping bad records.

    Raises:
        CtnetError: when ``source`` does not have this layout, or with ``strict`` when a record is bad.
    """
    source, target = Path(source), Path(target)
    problems: list[Problem] = []
    layout = _Layout.find(source, None if names is None else Path(names), problems)
    splits = {split: _read_split(split, pairs, layout, problems) for split, pairs in layout.splits.items()}
    if strict:
        refuse(problems, source)
    joints = layout.keypoints.names if layout.keypoints else None
    description = f"converted from YOLO, {source.name}"
    reports = write_splits(target, numbered(splits), layout.names, description, images, joints, IMAGE_FOLDER)
    return ConvertReport(target, reports, tuple(problems), tuple(_import_notes(splits, layout)))


@dataclass(frozen=True)
class _Pair:
    image: Path
    label: Path
    name: str  # below the split's folder


@dataclass(frozen=True)
class _Layout:
    """The folders of the images and labels of each split, the class names, and the keypoints, if any."""

    names: Sequence[str]
    splits: Mapping[str, Sequence[_Pair]]
    keypoints: YoloKeypoints | None

    @classmethod
    def find(cls, source: Path, names: Path | None, problems: list[Problem]) -> _Layout:
        if darknet := Darknet.find(source, problems):
            classes = _class_names(darknet.path.parent, None, names or darknet.names)
            return cls(classes, _darknet_splits(darknet, problems), None)
        description = _find_data_yaml(source)
        if description is not None:
            folders = _described_splits(description, problems)
        else:
            check_folder(source)
            folders = _usual_splits(source)
        if not folders:
            raise CtnetError(
                f"{source} is not a YOLO data set: no data.yaml with existing images and no images/<split>; "
                "to write YOLO labels from a COCO data directory, add --export"
            )
        splits = {split: _pairs(split, places, problems) for split, places in folders.items()}
        classes = _class_names(source, description, names)
        return cls(classes, splits, YoloKeypoints.described(description, len(classes)))


def _find_data_yaml(source: Path) -> DataYaml | None:
    """The source itself if it is such a file, else the only .yaml file in it that names splits."""
    if source.suffix.lower() in (".yaml", ".yml"):
        return DataYaml.read(source)
    if not source.is_dir():
        return None
    found = sorted(path for path in source.iterdir() if path.suffix.lower() in (".yaml", ".yml"))
    described = [
        each for each in map(DataYaml.read, found) if any(key in each for key in (*_SPLIT_KEYS, "names"))
    ]
    if len(described) > 1:
        raise CtnetError(
            f"{source} has {len(described)} descriptions ({found[0].name}, ...); name the one to convert"
        )
    return described[0] if described else None


def _described_splits(description: DataYaml, problems: list[Problem]) -> dict[str, list[Path]]:
    """Split name -> its folders or lists of images, as in data.yaml."""
    home = Path(description.where).parent
    roots = [home / path for path in description.paths("path")] + [home]
    splits = {}
    for split in (key for key in description if key.startswith(_SPLIT_KEYS)):
        places = []
        for text in description.paths(split):
            # Roboflow's exports have ../train/images for the folder next to the file.
            candidates = [root / text for root in roots] + [home / text.removeprefix("../")]
            place = next((candidate for candidate in candidates if exists(candidate)), None)
            if place is None:
                problems.append(Problem("split that is not there", f"{description.where} {split}", text))
            else:
                places.append(place)
        if places:
            check_split_name(split, description.where)
            splits[split] = places
    return splits


def _usual_splits(source: Path) -> dict[str, list[Path]]:
    """images/<split>, <split>/images, or a single folder of images, which becomes train."""
    splits = {folder.name: [folder] for folder in sorted((source / "images").glob("*")) if folder.is_dir()}
    splits = splits or {
        folder.parent.name: [folder] for folder in sorted(source.glob("*/images")) if folder.is_dir()
    }
    if not splits and (source / "images").is_dir():
        splits = {"train": [source / "images"]}
    return splits or _splits_side_by_side(source)


def _splits_side_by_side(source: Path) -> dict[str, list[Path]]:
    """Folders with images and their labels side by side, as labelImg writes them."""
    if _has_pairs(source):
        return {"train": [source]}
    inside = [folder for folder in sorted(source.iterdir()) if folder.is_dir() and _has_pairs(folder)]
    return {split_in(folder.name) or folder.name: [folder] for folder in inside}


def _has_pairs(folder: Path) -> bool:
    labels = {path.stem for path in folder.glob("*.txt")}
    return any(path.suffix.lower() in IMAGE_SUFFIXES and path.stem in labels for path in folder.iterdir())


def _class_names(source: Path, description: DataYaml | None, names: Path | None) -> list[str]:
    folder = source if source.is_dir() else source.parent
    found = names or next(
        (
            path
            for pattern in ("classes.txt", "obj.names", "*/classes.txt")
            for path in sorted(folder.glob(pattern))
        ),
        None,
    )
    if description is not None and names is None and ("names" in description or found is None):
        result = description.names()
    elif found is None:
        raise CtnetError(f"{source} has no class names; give --names FILE, one name per line")
    else:
        result = [line.strip() for line in read_lines(found)]
        while result and not result[-1]:
            result.pop()
    if not result or "" in result or len(set(result)) < len(result):
        raise CtnetError(f"the class names of {source} must be distinct and not empty, got {result}")
    return result


def _pairs(split: str, places: Sequence[Path], problems: list[Problem]) -> list[_Pair]:
    """The images of a split with the paths of their labels, by name."""
    names: dict[Path, str] = {}
    for place in places:
        for image, name in _folder_images(place) if isdir(place) else _listed_images(place):
            if image in names:
                problems.append(Problem("name listed twice", f"{split}/{name}", str(image)))
            else:
                names[image] = name
    if len(set(names.values())) < len(names):  # in different folders, which become part of the names
        root = os.path.commonpath([image.parent for image in names])
        names = {image: image.relative_to(root).as_posix() for image in names}
    pairs = [_Pair(image, _label_path(image), name) for image, name in names.items()]
    for place in places:
        problems.extend(_labels_without_image(place, {pair.label for pair in pairs}))
    return sorted(_of_one_label(split, pairs, problems), key=lambda pair: pair.name)


def _of_one_label(split: str, pairs: Sequence[_Pair], problems: list[Problem]) -> Iterator[_Pair]:
    """Leave out images whose names differ only in the suffix: the owner of the label is ambiguous."""
    owners: dict[Path, list[_Pair]] = {}
    for pair in pairs:
        owners.setdefault(pair.label, []).append(pair)
    for label, sharing in owners.items():
        if len(sharing) == 1 or not is_file(label):
            yield from sharing
        else:
            all_of_them = " and ".join(pair.name for pair in sharing)
            for pair in sharing:
                problems.append(Problem("label of several images", f"{split}/{pair.name}", all_of_them))


def _darknet_splits(darknet: Darknet, problems: list[Problem]) -> dict[str, list[_Pair]]:
    splits: dict[str, list[_Pair]] = {}
    for split in darknet.lists:
        pairs: dict[str, _Pair] = {}
        for image, name in darknet.images(split):
            if name in pairs:
                problems.append(Problem("name listed twice", f"{split}/{name}", str(image)))
            else:
                pairs[name] = _Pair(image, _label_path(image), name)
        splits[split] = list(pairs.values())
    problems.extend(darknet.labels_without_image({pair.label for each in splits.values() for pair in each}))
    return splits


def _folder_images(folder: Path) -> Iterator[tuple[Path, str]]:
    for path in image_files(folder):
        yield Path(os.path.normpath(path)), path.relative_to(folder).as_posix()


def _listed_images(listing: Path) -> Iterator[tuple[Path, str]]:
    for _, line in numbered_lines(read_lines(listing), listing):
        path = listing.parent / line.strip()
        if "\\" in line and not is_file(path):  # written on Windows
            path = listing.parent / line.strip().replace("\\", "/")
        yield Path(os.path.normpath(path)), path.name


def _label_path(image: Path) -> Path:
    """The label file of an image: a folder ``images`` of its path becomes ``labels``.

    Of several such folders the last is replaced, unless the label exists for another one.
    """
    candidates = [path.with_suffix(".txt") for path in _labels_instead(image)]
    return next(filter(is_file, candidates), candidates[0])


def _labels_instead(path: Path) -> list[Path]:
    """A path with each of its parents ``images`` in turn replaced by ``labels``, the last first."""
    parts = path.parts
    found = [
        Path(*parts[:position], "labels", *parts[position + 1 :])
        for position in reversed(range(len(parts) - 1))
        if parts[position] == "images"
    ]
    return found or [path]


def _labels_without_image(place: Path, used: set[Path]) -> Iterator[Problem]:
    if not isdir(place):
        return
    for any_label in _labels_instead(Path(os.path.normpath(place)) / "any.txt"):
        for path in sorted(any_label.parent.rglob("*.txt")):
            if path not in used and path.name != "classes.txt" and not path.name.startswith("README"):
                yield Problem("label file without image", str(path), "no image of this name")


def _read_split(
    split: str, pairs: Sequence[_Pair], layout: _Layout, problems: list[Problem]
) -> list[ImageRecord]:
    records = []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        read = pool.map(lambda pair: _read_pair(pair, layout), pairs)
        for record, found in track(read, f"reading {split}", total=len(pairs)):
            problems.extend(found)
            if record is not None:
                records.append(record)
    return records


def _read_pair(pair: _Pair, layout: _Layout) -> tuple[ImageRecord | None, list[Problem]]:
    try:
        width, height = image_size(pair.image)
        lines = read_lines(pair.label) if exists(pair.label) else []
    except CtnetError as error:
        return None, [Problem("unreadable file", pair.name, str(error))]
    problems: list[Problem] = []
    objects = list(
        read_each(
            numbered_lines(lines, pair.label),
            lambda line: read_label(line, width, height, layout.names, layout.keypoints),
            problems,
        )
    )
    return ImageRecord(pair.name, width, height, objects, pair.image), problems


def read_label(
    line: str, width: int, height: int, names: Sequence[str], keypoints: YoloKeypoints | None = None
) -> dict[str, Any]:
    """One label line as an annotation in pixels (with ``category`` for ``category_id``).

    Args:
        line: ``class cx cy w h`` or a polygon, relative to the image's size; with keypoints after the box.
        width, height: size of the image, pixels.
        names: the class names.
        keypoints: the keypoints of every line.

    Raises:
        BadRecord: when the line cannot be used.
    """
    fields = line.split()
    if keypoints:
        if len(fields) != 5 + keypoints.numbers:
            expected = f"{len(fields)}; a box with keypoints has {5 + keypoints.numbers}"
            raise BadRecord("wrong number of columns", expected)
        annotation = read_label(" ".join(fields[:5]), width, height, names)
        return annotation | keypoints.read(fields[5:], width, height)
    if len(fields) != 5 and (len(fields) < 7 or len(fields) % 2 == 0):
        raise BadRecord("wrong number of columns", f"{len(fields)}; 5 make a box, 7, 9, 11, ... a polygon")
    category = _class_name(fields[0], names)
    shares = [_share(text) for text in fields[1:]]
    if len(shares) > 4:
        return _polygon_annotation(category, shares, width, height)
    cx, cy, w, h = shares
    if w <= 0 or h <= 0:
        raise BadRecord("box without area", f"width {fields[3]}, height {fields[4]}")
    box = ((cx - w / 2) * width, (cy - h / 2) * height, w * width, h * height)
    return box_annotation(category, [round(value, _PIXEL_DIGITS) for value in box])


def _class_name(text: str, names: Sequence[str]) -> str:
    number = finite_number(text)
    if number is None or not number.is_integer():
        raise BadRecord("unknown class", f"{text!r} is not an integer")
    if not 0 <= number < len(names):
        raise BadRecord("unknown class", f"{text}; the classes are 0 to {len(names) - 1}")
    return names[int(number)]


def _share(text: str) -> float:
    value = checked_number(text, "coordinate that is not a number")
    if not -_ROUNDING <= value <= 1 + _ROUNDING:
        raise BadRecord("coordinate beyond 0 to 1", text)
    return value


def _polygon_annotation(category: str, shares: Sequence[float], width: int, height: int) -> dict[str, Any]:
    xs = [round(x * width, _PIXEL_DIGITS) for x in shares[0::2]]
    ys = [round(y * height, _PIXEL_DIGITS) for y in shares[1::2]]
    left, top, right, bottom = min(xs), min(ys), max(xs), max(ys)
    if right <= left or bottom <= top:
        raise BadRecord("polygon without area", f"{len(xs)} points")
    box = [round(value, _PIXEL_DIGITS) for value in (left, top, right - left, bottom - top)]
    outline = [plain(value) for point in zip(xs, ys, strict=True) for value in point]
    area = abs(sum(xs[i - 1] * ys[i] - xs[i] * ys[i - 1] for i in range(len(xs)))) / 2
    return box_annotation(category, box) | {
        "area": plain(round(area, _PIXEL_DIGITS)),
        "segmentation": [outline],
    }


def _import_notes(splits: Mapping[str, Sequence[ImageRecord]], layout: _Layout) -> Iterator[str]:
    for split, records in splits.items():
        empty = sum(not record.objects for record in records)
        if empty:
            yield f"{empty} images of {split} have no objects; they were kept as background"
    if layout.keypoints and layout.keypoints.invented:
        yield (
            "data.yaml does not name the keypoints (kpt_names): they are called joint_1, ..., and pairs "
            "of flip_idx left_joint_2, right_joint_2, ...; it is not known which one of a pair is left"
        )
