"""DOTA's labels (eight numbers, a class, a mark of difficulty) to a COCO data directory with ``corners``.

Source: Xia et al.: DOTA: A large-scale dataset for object detection in aerial images, CVPR 2018.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ctnet.plugin import (
    IMAGE_SUFFIXES,
    BadRecord,
    ConvertReport,
    CtnetError,
    ImageError,
    ImageMode,
    ImageRecord,
    Problem,
    box_annotation,
    check_folder,
    image_size,
    place_image,
    plain,
    polygon_areas,
    read_lines,
    refuse,
    track,
    write_split,
)
from ctnet_tasks_obb.boxes import misfit, rectangles

CLASSES = (
    "plane", "baseball-diamond", "bridge", "ground-track-field", "small-vehicle", "large-vehicle", "ship",
    "tennis-court", "basketball-court", "storage-tank", "soccer-ball-field", "roundabout", "harbor",
    "swimming-pool", "helicopter", "container-crane", "airport", "helipad",
)  # fmt: skip
"""The classes of DOTA 1.0 (the first fifteen), 1.5 and 2.0 in their usual order."""

#: Lines above the objects, "key:value"; kept in the image's entry and written again by the export.
HEADERS = ("imagesource", "gsd")

#: Corners of a rectangle that were rounded lie within so many units of the last printed digit of one.
_ROUNDED = 1.5
_DIGITS = 3  # behind the point, of rectangles that we compute


@dataclass
class _Image:
    """One image on its way into COCO JSON.

    Attributes:
        file_name: below the data directory.
        size: (width, height), pixels.
        source: the image file.
        headers: the lines above the objects, by key.
        objects: annotations with ``category`` (a name), without ids.
        replaced: how many quadrilaterals were no rectangles.
    """

    file_name: str
    size: tuple[int, int]
    source: Path
    headers: dict[str, str] = field(default_factory=dict)
    objects: list[dict[str, Any]] = field(default_factory=list)
    replaced: int = 0

    def record(self) -> ImageRecord:
        """As it is written."""
        return ImageRecord(self.file_name, *self.size, self.objects, self.source, self.headers)


def import_dota(
    source: str | Path,
    target: str | Path,
    labels: str | None = None,
    images: ImageMode = "link",
    strict: bool = False,
) -> ConvertReport:
    """Convert a data set with DOTA's labels to a COCO data directory.

    A label line is ``x1 y1 x2 y2 x3 y3 x4 y4 class difficult``; without the last word the object is not
    difficult. The eight numbers become ``corners``, digit by digit, where they are a rectangle's as far as
    printed digits can say. Of any other quadrilateral the rectangle of least area around it is taken, and the
    report counts these. Difficult objects have ``difficult`` and ``ignore`` 1: they are learnt, and do not
    count in evaluation.

    Args:
        source: a folder with ``images`` and ``labelTxt``, or a folder of such folders (``train``, ``val``),
            each of which becomes a split.
        target: the data directory to write; images go to ``images/<split>``.
        labels: name of the folder of labels, where a split has several (``labelTxt-v1.5``).
        images: how the images get there, see ``ctnet.plugin.place_image``.
        strict: refuse the data set for its first bad record instead of skipping bad records.

    Raises:
        CtnetError: when ``source`` has not this layout, or with ``strict`` when a record is bad.
    """
    source, target = Path(source), Path(target)
    check_folder(source)
    folders, notes = _splits(source, labels)
    problems: list[Problem] = []
    splits = {
        split: list(_read_split(split, folder, source, problems, notes)) for split, folder in folders.items()
    }
    if strict:
        refuse(problems, source)
    names = {item["category"] for found in splits.values() for image in found for item in image.objects}
    categories = [name for name in CLASSES if name in names] if names <= set(CLASSES) else sorted(names)
    reports, first = [], 1
    for split, found in splits.items():
        for image in track(found, f"placing images of {split}"):
            place_image(image.source, target / image.file_name, images)
        description = f"converted from DOTA's labels, {source.name}"
        records = {number: image.record() for number, image in enumerate(found, start=first)}
        reports.append(write_split(target, split, records, categories, description))
        first += len(found)
    if replaced := sum(image.replaced for found in splits.values() for image in found):
        notes.append(f"{replaced} quadrilaterals were no rectangles and became the least ones around them")
    if images == "none":
        notes.append("the images were left where they are; put them into images/<split> of the target")
    return ConvertReport(target, tuple(reports), tuple(problems), tuple(notes))


def _splits(source: Path, labels: str | None) -> tuple[dict[str, Path], list[str]]:
    """Split name to the folder of its labels, whose sister is ``images``; and what is worth a note."""
    candidates = {"train": source} if (source / "images").is_dir() else {}
    candidates |= {path.name: path for path in sorted(source.iterdir()) if (path / "images").is_dir()}
    found, notes = {}, []
    for split, folder in candidates.items():
        places = sorted(
            path
            for path in folder.iterdir()
            if path.is_dir() and (path.name == labels if labels else path.name.startswith("labelTxt"))
        )
        if len(places) > 1:
            several = ", ".join(path.name for path in places)
            raise CtnetError(f"{folder} has several folders of labels ({several}); choose one with --labels")
        if places:
            found[split.replace("_", "-")] = places[0]  # an annotation file's name is cut at an underscore
        else:
            notes.append(f"{split} has images but no folder {labels or 'labelTxt'}, and was left out")
    if not found:
        raise CtnetError(
            f"{source} has not DOTA's layout: neither it nor a folder in it has images and "
            f"{labels or 'labelTxt'}; to write DOTA's labels from a COCO data directory, add --export"
        )
    return found, notes


def _read_split(
    split: str, folder: Path, source: Path, problems: list[Problem], notes: list[str]
) -> Iterator[_Image]:
    root = folder.parent / "images"
    images = {path.stem: path for path in sorted(root.rglob("*")) if path.suffix.lower() in IMAGE_SUFFIXES}
    labels = sorted(folder.rglob("*.txt"))
    for path in track(labels, f"reading {split}"):
        where = str(path.relative_to(source))
        file = images.get(path.stem)
        try:
            if file is None:
                raise BadRecord("no image", f"looked for images/{path.stem}.png and the like")
            size = image_size(file)
        except (BadRecord, ImageError) as error:
            bad = (
                error if isinstance(error, BadRecord) else BadRecord("image that cannot be read", str(error))
            )
            problems.append(bad.at(where))
            continue
        yield _read_labels(path, where, file, f"images/{split}/{file.relative_to(root)}", size, problems)
    if unlabelled := len(images.keys() - {path.stem for path in labels}):
        notes.append(f"{unlabelled} images of {split} have no label file and were left out")


def _read_labels(
    path: Path, where: str, source: Path, name: str, size: tuple[int, int], problems: list[Problem]
) -> _Image:
    image = _Image(name, size, source)
    for number, line in enumerate(read_lines(path), start=1):
        key, colon, value = line.partition(":")
        if colon and key.strip().lower() in HEADERS:
            image.headers[key.strip().lower()] = value.strip()
            continue
        try:
            if line.strip():
                annotation, exact = read_object(line.split(), size)
                image.objects.append(annotation)
                image.replaced += not exact
        except BadRecord as error:
            problems.append(error.at(f"{where}:{number}"))
    return image


def read_object(words: Sequence[str], size: tuple[int, int]) -> tuple[dict[str, Any], bool]:
    """One label line as an annotation, and whether its corners are those of the line.

    Args:
        words: of the line.
        size: (width, height) of the image, pixels.

    Raises:
        BadRecord: when it cannot be used.
    """
    if len(words) not in (9, 10):
        raise BadRecord("line that is not eight numbers, a class and 0 or 1", f"{len(words)} words")
    difficult = words[9] if len(words) == 10 else "0"
    if difficult not in ("0", "1"):
        raise BadRecord("difficult that is not 0 or 1", difficult)
    corners = np.array([_number(word) for word in words[:8]]).reshape(4, 2)
    hull = cv2.convexHull(corners.astype(np.float32)).reshape(1, -1, 2)
    if polygon_areas(hull.astype(np.float64))[0] <= 0:
        raise BadRecord("box without area", " ".join(words[:8]))
    low, high = corners.min(axis=0), corners.max(axis=0)
    if (high <= 0).any() or (low >= size).any():
        raise BadRecord("box outside the image", f"{' '.join(words[:8])}; it has {size[0]}x{size[1]}")
    exact = bool(misfit(corners[None])[0] <= _ROUNDED * _unit(words[:8]))
    if not exact:
        corners = least_rectangle(corners)
        low, high = corners.min(axis=0), corners.max(axis=0)
    rounded = [round(float(value), _DIGITS) for value in (*low, *(high - low))]
    annotation = box_annotation(
        words[8],
        rounded,
        corners=[plain(value) for value in corners.flatten().tolist()],
        difficult=int(difficult),
        ignore=int(difficult),
    )
    area = float(rectangles(corners[None]).size.prod())
    return annotation | {"area": plain(round(area, _DIGITS))}, exact


def least_rectangle(corners: np.ndarray) -> np.ndarray:
    """The corners (4, 2) of the least rectangle around points (N, 2), rounded, from near the first."""
    middle = corners.mean(axis=0)
    # OpenCV counts in float32, which is exact enough only near the origin.
    found = cv2.boxPoints(cv2.minAreaRect((corners - middle).astype(np.float32))).astype(np.float64) + middle
    first = int(np.linalg.norm(found - corners[0], axis=1).argmin())
    return np.asarray(np.roll(found, -first, axis=0).round(_DIGITS))


def _number(word: str) -> float:
    try:
        value = float(word)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise BadRecord("coordinate that is no number", repr(word))
    return value


def _unit(words: Iterable[str]) -> float:
    """The last digit that any of these numbers needs: 1 for whole numbers, 0.1 for 12.5."""
    decimals = [word.lower().partition("e")[0].partition(".")[2].rstrip("0") for word in words]
    return float(10.0 ** -max(len(digits) for digits in decimals))
