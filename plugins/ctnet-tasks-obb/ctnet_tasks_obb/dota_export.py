"""A COCO data directory with ``corners`` to DOTA's labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from ctnet.plugin import (
    ConvertReport,
    CtnetError,
    Dataset,
    ExportedImage,
    ImageMode,
    SplitReport,
    exported_images,
    open_splits,
    place_image,
    refuse,
    track,
    write_text,
)
from ctnet_tasks_obb.dota import HEADERS


@dataclass(frozen=True)
class _Label:
    """The label file of one image: its lines, objects by class, and the number of crowd regions left out."""

    image: ExportedImage
    lines: list[str]
    counts: Mapping[str, int]
    crowd: int


def export_dota(
    source: str | Path, target: str | Path, images: ImageMode = "link", strict: bool = False
) -> ConvertReport:
    """Write the rotated boxes of a COCO data directory as DOTA's labels.

    Corners are written with all their digits, ``difficult`` as it is (or 0), and above them the image's
    ``imagesource`` and ``gsd``, if it has them. Crowd regions have no counterpart: they are left out and
    counted.

    Args:
        source: the data directory.
        target: the folder to write: ``<split>/labelTxt`` and ``<split>/images``.
        images: how the images get there, see ``ctnet.plugin.place_image``.
        strict: refuse the data set for its first bad record instead of skipping bad records.

    Raises:
        CtnetError: when ``source`` is not a data directory, a category's name has a space in it, or with
            ``strict`` when a record is bad.
    """
    source, target = Path(source), Path(target)
    datasets = open_splits(source, task_name="obb")
    problems = [problem for dataset in datasets for problem in dataset.problems]
    names = {dataset.split: _names(dataset) for dataset in datasets}
    splits = {
        dataset.split: [
            _label(dataset, image, names[dataset.split])
            for image in exported_images(
                dataset, lambda path: PurePosixPath(PurePosixPath(path).name), problems, images != "none"
            )
        ]
        for dataset in datasets
    }
    if strict:
        refuse(problems, source)
    reports = []
    for split, labels in splits.items():
        for label in track(labels, f"writing {split}"):
            if label.image.source is not None:
                place_image(label.image.source, target / split / "images" / label.image.name, images)
            write_text(target / split / "labelTxt" / label.image.name.with_suffix(".txt"), label.lines)
        counts = {name: sum(label.counts[name] for label in labels) for name in names[split].values()}
        reports.append(SplitReport(split, len(labels), counts))
    crowd = sum(label.crowd for labels in splits.values() for label in labels)
    notes = [f"{crowd} crowd regions were left out: DOTA's labels cannot express them"] if crowd else []
    return ConvertReport(target, tuple(reports), tuple(problems), tuple(notes))


def _names(dataset: Dataset) -> dict[int, str]:
    names = {int(category["id"]): str(category["name"]) for category in dataset.categories}
    for name in names.values():
        if name.split() != [name]:
            raise CtnetError(
                f"category {name!r} has a space in it, which ends a word in DOTA's labels; rename it"
            )
    return names


def _label(dataset: Dataset, image: ExportedImage, names: Mapping[int, str]) -> _Label:
    record = dataset.info(image.index).record
    entries = list(dataset.annotations(image.index))
    objects = [entry for entry in entries if not entry.get("iscrowd")]
    lines = [f"{key}:{record[key]}" for key in HEADERS if key in record]
    lines += [_line(entry, names[int(entry["category_id"])]) for entry in objects]
    counts = Counter(names[int(entry["category_id"])] for entry in objects)
    return _Label(image, lines, counts, len(entries) - len(objects))


def _line(entry: Mapping[str, Any], name: str) -> str:
    numbers = " ".join(repr(float(value)) for value in entry["corners"])
    return f"{numbers} {name} {int(entry.get('difficult', 0))}"
