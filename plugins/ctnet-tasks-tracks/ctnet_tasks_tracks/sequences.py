"""Sequences of frames with labels in text files: what MOTChallenge's and KITTI's converters share."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from ctnet.plugin import (
    BadRecord,
    ConvertReport,
    CtnetError,
    Dataset,
    ImageMode,
    ImageRecord,
    Problem,
    SplitReport,
    annotation_files,
    numbered,
    numbered_lines,
    open_splits,
    place_image,
    plain,
    read_json,
    read_lines,
    refuse,
    write_splits,
)

#: A label: the number of its frame and an annotation with ``category``.
Label = tuple[int, dict[str, Any]]


@dataclass
class Labelled:
    """A sequence on its way to COCO JSON.

    Attributes:
        name: unique in its data set.
        frames: number -> image file; None where there is none.
        size: (width, height) of its frames, pixels.
        labels: a file of labels; None for a sequence without.
        extra: further keys of every image's entry.
    """

    name: str
    frames: Mapping[int, Path | None]
    size: tuple[int, int]
    labels: Path | None
    extra: Mapping[str, Any] = field(default_factory=dict)


def exact(text: str) -> Decimal:
    """A word of a label as the number that is written there.

    Raises:
        BadRecord: when it is none.
    """
    try:
        value = Decimal(text.strip())
    except InvalidOperation:
        raise BadRecord("word that is not a number", repr(text)) from None
    if not value.is_finite() or abs(value) > 10**9:
        raise BadRecord("number that is not finite, or too large", repr(text))
    return value


def whole(text: str) -> int:
    """A word of a label as a whole number.

    Raises:
        BadRecord: when it is none.
    """
    value = exact(text)
    if value != value.to_integral_value():
        raise BadRecord("number that is not whole", repr(text))
    return int(value)


def number(value: Decimal) -> float:
    """As JSON has it: an int where it is whole."""
    return plain(float(value))


def decimal(value: float) -> Decimal:
    """The number that JSON shows, exactly."""
    return Decimal(repr(value))


def records_of(
    sequence: Labelled, read: Callable[[str], Label], problems: list[Problem]
) -> list[ImageRecord]:
    """The frames of a sequence with their objects; labels that cannot be used are added to ``problems``.

    Args:
        sequence: its files.
        read: reads a line; raises BadRecord.
        problems: is added to.
    """
    objects: dict[int, list[dict[str, Any]]] = {frame: [] for frame in sequence.frames}
    seen: set[tuple[int, int]] = set()
    path = sequence.labels
    for where, line in numbered_lines(read_lines(path), path) if path else ():
        try:
            frame, label = read(line)
            if frame not in objects:
                raise BadRecord("frame that the sequence does not have", f"frame {frame}")
            key = (frame, label.get("track_id", -1 - len(seen)))
            if key in seen:
                raise BadRecord("identity that occurs twice in a frame", f"{key[1]} in frame {frame}")
        except BadRecord as error:
            problems.append(error.at(where))
            continue
        seen.add(key)
        objects[frame].append(label)
    records = []
    for frame, source in sorted(sequence.frames.items()):
        if source is None:
            where = f"frame {frame} of {sequence.name}"
            problems.append(Problem("frame without an image", where, "its entry is written without a file"))
        name = f"{sequence.name}/{source.name if source else f'{frame:06d}.jpg'}"
        extra = {**sequence.extra, "video_id": sequence.name, "frame_id": frame}
        records.append(ImageRecord(name, *sequence.size, objects[frame], source, extra))
    return records


def write_sequences(
    source: Path,
    target: Path,
    splits: Mapping[str, Iterable[Labelled]],
    read: Callable[[str], Label],
    images: ImageMode,
    strict: bool,
) -> ConvertReport:
    """Write sequences as a COCO data directory.

    Args:
        source, target: where they come from, and the directory to write.
        splits: name -> sequences.
        read: reads a line of labels.
        images: how images get there.
        strict: refuse the first bad record.

    Raises:
        CtnetError: with ``strict`` for a bad record; for a source without sequences.
    """
    problems: list[Problem] = []
    records = {
        split: [record for one in sequences for record in records_of(one, read, problems)]
        for split, sequences in splits.items()
    }
    records = {split: found for split, found in records.items() if found}
    if not records:
        raise CtnetError(f"{source} holds no sequences; see `--help` for the folders that are expected")
    if strict:
        refuse(problems, source)
    names = sorted({item["category"] for found in records.values() for one in found for item in one.objects})
    about = f"converted from {source.name}"
    folder = "images/{split}"
    reports = write_splits(target, numbered(records), names or ["object"], about, images, None, folder)
    return ConvertReport(target, reports, tuple(problems))


@dataclass(frozen=True)
class Exported:
    """A video of a data directory on its way to labels.

    Attributes:
        dataset: its split.
        name: the video's.
        frames: the images' indices, in order.
        objects: the annotations of an image, by its id: all that the file has, also those that training
            leaves out.
    """

    dataset: Dataset
    name: str
    frames: Sequence[int]
    objects: Mapping[int, Sequence[Mapping[str, Any]]]

    def number(self, index: int) -> int:
        """The frame number of an image."""
        return self.dataset.videos.numbers[index]

    def entries(self, index: int) -> Iterable[Mapping[str, Any]]:
        """The annotations of an image, each with its ``category``."""
        names = {int(one["id"]): one["name"] for one in self.dataset.categories}
        mine = self.objects.get(self.dataset.info(index).image_id, ())
        return [{**one, "category": names[one["category_id"]]} for one in mine]


def export_sequences(
    source: Path,
    target: Path,
    write: Callable[[Exported, Path, ImageMode], int],
    images: ImageMode,
    strict: bool,
) -> ConvertReport:
    """Write every video of a COCO data directory by ``write``, which returns how many objects it wrote.

    Args:
        source: the data directory.
        target: the folder to write; each split has a folder of its own there.
        write: gets a video, the folder of its split, and how images get there.
        images: see ``place_image``.
        strict: refuse the first bad record.

    Raises:
        CtnetError: for a source without videos, and with ``strict`` for a bad record.
    """
    datasets = open_splits(source)
    problems = [problem for dataset in datasets for problem in dataset.problems]
    files = {file.split: file.path for file in annotation_files(source, ["instances"])}
    if strict:
        refuse(problems, source)
    reports, notes = [], []
    for dataset in datasets:
        videos, objects = dataset.videos, defaultdict(list)
        for annotation in read_json(files[dataset.split])["annotations"]:
            objects[annotation["image_id"]].append(annotation)
        count = sum(
            write(Exported(dataset, str(name), frames, objects), target / dataset.split, images)
            for name, frames in videos.frames.items()
        )
        if videos.stills:
            notes.append(f"{len(videos.stills)} images of {dataset.split} are frames of no video: left out")
        reports.append(SplitReport(dataset.split, len(videos.numbers), {"object": count}))
    if not any(report.images for report in reports):
        raise CtnetError(f"{source} has no videos: no image has a video_id and a frame_id")
    return ConvertReport(target, tuple(reports), tuple(problems), tuple(notes))


def place_frame(video: Exported, index: int, place: Path, images: ImageMode) -> None:
    """Put a frame's image into the export."""
    if images != "none":
        place_image(video.dataset.image_path(index), place, images)
