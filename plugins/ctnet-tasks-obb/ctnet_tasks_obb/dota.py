"""DOTA's labels (eight numbers, a class, a difficulty flag) to a COCO data directory with ``corners``.

Source: Xia et al.: DOTA: A large-scale dataset for object detection in aerial images, CVPR 2018.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ctnet.plugin import (
    BadRecord,
    ConvertReport,
    CtnetError,
    ImageMode,
    ImageRecord,
    Problem,
    box_annotation,
    check_folder,
    checked_number,
    image_files,
    numbered,
    numbered_lines,
    plain,
    polygon_areas,
    read_each,
    read_lines,
    readable_size,
    refuse,
    track,
    write_splits,
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
_HEADER = re.compile(rf"\s*({'|'.join(HEADERS)})\s*:(.*)", re.IGNORECASE)

#: Tolerance of a rectangle's rounded corners, in units of the last printed digit.
_ROUNDED = 1.5
_DIGITS = 3  # decimals, of computed rectangles


def import_dota(
    source: str | Path,
    target: str | Path,
    labels: str | None = None,
    images: ImageMode = "link",
    strict: bool = False,
) -> ConvertReport:
    """Convert a data set with DOTA's labels to a COCO data directory.

    A label line is ``x1 y1 x2 y2 x3 y3 x4 y4 class difficult``; without the last word the object is not
    difficult. The eight numbers become ``corners``, digit by digit, if they form a rectangle within their
    printed precision. Any other quadrilateral is replaced by its minimum-area rectangle, and the report
    counts these. Difficult objects have ``difficult`` and ``ignore`` 1: they are learnt, but do not count in
    evaluation.

    Args:
        source: a folder with ``images`` and ``labelTxt``, or a folder of such folders (``train``, ``val``),
            each of which becomes a split.
        target: the data directory to write; images go to ``images/<split>``.
        labels: name of the folder of labels, where a split has several (``labelTxt-v1.5``).
        images: how the images get there, see ``ctnet.plugin.place_image``.
        strict: refuse the data set for its first bad record instead of skipping bad records.

    Raises:
        CtnetError: when ``source`` does not have this layout, or with ``strict`` when a record is bad.
    """
    source, target = Path(source), Path(target)
    check_folder(source)
    folders, notes = _splits(source, labels)
    reader = _Reader(source, notes=notes)
    splits = {split: reader.split(split, folder) for split, folder in folders.items()}
    if strict:
        refuse(reader.problems, source)
    records = [record for found in splits.values() for record in found]
    names = {item["category"] for record in records for item in record.objects}
    categories = [name for name in CLASSES if name in names] if names <= set(CLASSES) else sorted(names)
    description = f"converted from DOTA's labels, {source.name}"
    reports = write_splits(target, numbered(splits), categories, description, images)
    if reader.replaced:
        notes.append(
            f"{reader.replaced} quadrilaterals were not rectangles and were replaced by their minimum-area "
            "rectangles"
        )
    if images == "none":
        notes.append("the images were not copied; put them into images/<split> of the target")
    return ConvertReport(target, reports, tuple(reader.problems), tuple(notes))


def _splits(source: Path, labels: str | None) -> tuple[dict[str, Path], list[str]]:
    """Split name -> its folder of labels, next to ``images``; and notes."""
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
            found[split.replace("_", "-")] = places[0]  # the split's name must not contain an underscore
        else:
            notes.append(f"{split} has images but no folder {labels or 'labelTxt'}, and was left out")
    if not found:
        raise CtnetError(
            f"{source} does not have DOTA's layout: neither it nor a folder in it has images and "
            f"{labels or 'labelTxt'}; to write DOTA's labels from a COCO data directory, add --export"
        )
    return found, notes


@dataclass
class _Reader:
    """Reads label files, and collects the contents of the report.

    Attributes:
        source: the data set.
        notes, problems: as in the report.
        replaced: number of quadrilaterals that were not rectangles.
    """

    source: Path
    notes: list[str]
    problems: list[Problem] = field(default_factory=list)
    replaced: int = 0

    def split(self, split: str, folder: Path) -> list[ImageRecord]:
        """The images of a split with labels in a folder."""
        root = folder.parent / "images"
        images: dict[str, list[Path]] = {}
        for path in image_files(root):
            # A label is in the same subfolder as its image, or all labels are in one folder.
            for name in {path.relative_to(root).with_suffix("").as_posix(), f"*/{path.stem}"}:
                images.setdefault(name, []).append(path)
        used: set[Path] = set()
        labels = {str(path.relative_to(self.source)): path for path in sorted(folder.rglob("*.txt"))}

        def read(where: str) -> ImageRecord:
            stem = labels[where].relative_to(folder).with_suffix("").as_posix()
            found = images.get(stem) or images.get(f"*/{labels[where].stem}", [])
            used.update(found)
            if not found:
                raise BadRecord("no image", f"looked for images/{stem}.png and the like")
            if len(found) > 1:
                raise BadRecord("several images of one name", " and ".join(map(str, found)))
            name = f"images/{split}/{found[0].relative_to(root)}"
            return self._image(where, read_lines(labels[where]), found[0], name)

        places = track(labels, f"reading {split}")
        records = list(read_each(((where, where) for where in places), read, self.problems))
        if unlabelled := len({path for paths in images.values() for path in paths} - used):
            self.notes.append(f"{unlabelled} images of {split} have no label file and were left out")
        return records

    def _image(self, where: str, lines: Sequence[str], file: Path, name: str) -> ImageRecord:
        size = readable_size(file)
        headers = {found[1].lower(): found[2].strip() for found in map(_HEADER.match, lines) if found}

        def read(line: str) -> dict[str, Any]:
            annotation, exact = read_object(line.split(), size)
            self.replaced += not exact
            return annotation

        below = (place for place in numbered_lines(lines, where) if not _HEADER.match(place[1]))
        objects = list(read_each(below, read, self.problems))
        return ImageRecord(name, *size, objects, file, headers)


def read_object(words: Sequence[str], size: tuple[int, int]) -> tuple[dict[str, Any], bool]:
    """One label line as an annotation, and whether its corners are unchanged.

    Args:
        words: words of the line.
        size: (width, height) of the image, pixels.

    Raises:
        BadRecord: when it cannot be used.
    """
    if len(words) not in (9, 10):
        raise BadRecord("line that is not eight numbers, a class and 0 or 1", f"{len(words)} words")
    difficult = words[9] if len(words) == 10 else "0"
    if difficult not in ("0", "1"):
        raise BadRecord("difficult that is not 0 or 1", difficult)
    numbers = [checked_number(word, "coordinate that is not a number") for word in words[:8]]
    corners = np.array(numbers).reshape(4, 2)
    hull = cv2.convexHull(corners.astype(np.float32)).reshape(1, -1, 2)
    if polygon_areas(hull.astype(np.float64))[0] <= 0:
        raise BadRecord("box without area", " ".join(words[:8]))
    low, high = corners.min(axis=0), corners.max(axis=0)
    if (high <= 0).any() or (low >= size).any():
        raise BadRecord("box outside the image", f"{' '.join(words[:8])}; it has {size[0]}x{size[1]}")
    exact = bool(misfit(corners[None])[0] <= _ROUNDED * _unit(words[:8]))
    if not exact:
        corners = min_area_rectangle(corners)
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


def min_area_rectangle(corners: np.ndarray) -> np.ndarray:
    """Rounded corners (4, 2) of the minimum-area rectangle of points (N, 2), starting near the first."""
    middle = corners.mean(axis=0)
    # OpenCV computes in float32, which is only precise enough near the origin.
    found = cv2.boxPoints(cv2.minAreaRect((corners - middle).astype(np.float32))).astype(np.float64) + middle
    first = int(np.linalg.norm(found - corners[0], axis=1).argmin())
    return np.asarray(np.roll(found, -first, axis=0).round(_DIGITS))


def _unit(words: Iterable[str]) -> float:
    """The place value of the last digit of these numbers: 1 for integers, 0.1 for 12.5."""
    decimals = [word.lower().partition("e")[0].partition(".")[2].rstrip("0") for word in words]
    return float(10.0 ** -max(len(digits) for digits in decimals))
