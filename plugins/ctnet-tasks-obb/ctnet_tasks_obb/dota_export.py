"""A COCO data directory with ``corners`` to DOTA's labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from ctnet.plugin import (
    ConvertReport,
    CtnetError,
    Dataset,
    ImageError,
    ImageMode,
    Problem,
    SplitReport,
    atomic_write,
    open_splits,
    place_image,
    refuse,
    track,
)
from ctnet_tasks_obb.dota import HEADERS


@dataclass(frozen=True)
class _Label:
    """The label file of one image; ``source`` is the image, None when it is not wanted."""

    stem: str
    source: Path | None
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
        CtnetError: when ``source`` is no data directory, a category's name has a space in it, or with
            ``strict`` when a record is bad.
    """
    source, target = Path(source), Path(target)
    datasets = open_splits(source, task_name="obb")
    problems = [problem for dataset in datasets for problem in dataset.problems]
    names = {dataset.split: _names(dataset) for dataset in datasets}
    splits = {
        dataset.split: list(_labels(dataset, names[dataset.split], problems, images != "none"))
        for dataset in datasets
    }
    if strict:
        refuse(problems, source)
    reports = []
    for split, labels in splits.items():
        for label in track(labels, f"writing {split}"):
            if label.source is not None:
                image = target / split / "images" / f"{label.stem}{label.source.suffix}"
                place_image(label.source, image, images)
            with atomic_write(target / split / "labelTxt" / f"{label.stem}.txt", "w") as stream:
                stream.writelines(f"{line}\n" for line in label.lines)
        counts = {name: sum(label.counts[name] for label in labels) for name in names[split].values()}
        reports.append(SplitReport(split, len(labels), counts))
    crowd = sum(label.crowd for labels in splits.values() for label in labels)
    notes = [f"{crowd} crowd regions were left out: DOTA's labels cannot say them"] if crowd else []
    return ConvertReport(target, tuple(reports), tuple(problems), tuple(notes))


def _names(dataset: Dataset) -> dict[int, str]:
    names = {int(category["id"]): str(category["name"]) for category in dataset.categories}
    for name in names.values():
        if name.split() != [name]:
            raise CtnetError(
                f"category {name!r} has a space in it, which ends a word in DOTA's labels; rename it"
            )
    return names


def _labels(
    dataset: Dataset, names: Mapping[int, str], problems: list[Problem], need_images: bool
) -> Iterator[_Label]:
    taken: set[str] = set()
    for index in range(len(dataset)):
        info = dataset.info(index)
        stem = PurePosixPath(info.file_name).stem
        where = f"image {info.image_id} of {dataset.split}"
        if stem in taken:
            problems.append(Problem("the file name of an earlier image", where, info.file_name))
            continue
        try:
            source = dataset.image_path(index) if need_images else None
        except ImageError as error:
            problems.append(Problem("missing image", where, str(error)))
            continue
        taken.add(stem)
        entries = list(dataset.annotations(index))
        objects = [entry for entry in entries if not entry.get("iscrowd")]
        lines = [f"{key}:{info.record[key]}" for key in HEADERS if key in info.record]
        lines += [_line(entry, names[int(entry["category_id"])]) for entry in objects]
        counts = Counter(names[int(entry["category_id"])] for entry in objects)
        yield _Label(stem, source, lines, counts, len(entries) - len(objects))


def _line(entry: Mapping[str, Any], name: str) -> str:
    numbers = " ".join(repr(float(value)) for value in entry["corners"])
    return f"{numbers} {name} {int(entry.get('difficult', 0))}"
