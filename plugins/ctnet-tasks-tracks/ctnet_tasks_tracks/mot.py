"""MOTChallenge (MOT15 to MOT20): ``gt.txt`` and ``seqinfo.ini`` to COCO JSON, and back."""

from __future__ import annotations

import configparser
from pathlib import Path
from typing import Any

from ctnet.plugin import (
    BadRecord,
    ConvertReport,
    CtnetError,
    ImageMode,
    box_annotation,
    check_folder,
    image_files,
    write_text,
)
from ctnet_tasks_tracks.sequences import (
    Exported,
    Label,
    Labelled,
    decimal,
    exact,
    export_sequences,
    number,
    place_frame,
    whole,
    write_sequences,
)

#: The classes of ``gt.txt``, from 1.
CLASSES = (
    "pedestrian", "person on vehicle", "car", "bicycle", "motorbike", "non motorized vehicle",
    "static person", "distractor", "occluder", "occluder on the ground", "occluder full", "reflection",
    "crowd",
)  # fmt: skip


def import_mot(source: Path, target: Path, images: ImageMode = "link", strict: bool = False) -> ConvertReport:
    """Convert MOTChallenge's sequences to a COCO data directory.

    Positions, which MOTChallenge counts from 1, are counted from 0. A line that is not to be considered (its
    seventh word is 0) becomes a crowd region. The flag, the visibility and ``seqinfo.ini`` are kept.

    Args:
        source: a folder of sequences (with ``img1`` and ``seqinfo.ini``), or of ``train`` and ``test``.
        target: the data directory to write.
        images: how the images get there.
        strict: refuse the first bad record.

    Raises:
        CtnetError: for a source without sequences, a broken ``seqinfo.ini``, and with ``strict`` for a bad
            record.
    """
    check_folder(source)
    folders = {"train": source}
    if not any((path / "seqinfo.ini").is_file() for path in source.iterdir() if path.is_dir()):
        folders = {path.name: path for path in sorted(source.iterdir()) if path.is_dir()}
    splits = {
        split: [_sequence(path) for path in sorted(folder.iterdir()) if (path / "seqinfo.ini").is_file()]
        for split, folder in folders.items()
    }
    return write_sequences(source, target, splits, read_line, images, strict)


def _sequence(folder: Path) -> Labelled:
    """A folder with ``seqinfo.ini``."""
    path = folder / "seqinfo.ini"
    parser = configparser.ConfigParser()
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    try:
        parser.read_string(path.read_text(encoding="utf-8"))
        info = dict(parser["Sequence"])
        length, width, height = (int(info[key]) for key in ("seqLength", "imWidth", "imHeight"))
    except (OSError, UnicodeDecodeError, configparser.Error, KeyError, ValueError) as error:
        raise CtnetError(
            f"{path} cannot be read ({error}); it needs [Sequence] with seqLength, imWidth and imHeight"
        ) from error
    files = {path.stem: path for path in image_files(folder / info.get("imDir", "img1"))}
    by_number = {int(stem): file for stem, file in files.items() if stem.isdecimal()}
    frames = {frame: by_number.get(frame) for frame in range(1, length + 1)}
    labels = folder / "gt" / "gt.txt"
    found = labels if labels.is_file() else None
    return Labelled(folder.name, frames, (width, height), found, {"seqinfo": info})


def read_line(line: str) -> Label:
    """A line of ``gt.txt``: frame, identity, left, top, width, height, flag, class, visibility.

    Raises:
        BadRecord: when it cannot be used.
    """
    words = line.split(",")
    if not 7 <= len(words) <= 10:
        raise BadRecord("line that is not 7 to 10 words", line)
    frame, identity = whole(words[0]), whole(words[1])
    if identity < 0:
        raise BadRecord("identity below 0", str(identity))
    left, top, width, height = map(exact, words[2:6])
    if width <= 0 or height <= 0:
        raise BadRecord("box without area", line)
    kind = whole(words[7]) if len(words) > 7 else 1
    if not 1 <= kind <= len(CLASSES):
        raise BadRecord(f"class that is not 1 to {len(CLASSES)}", str(kind))
    extra: dict[str, Any] = {"track_id": identity, "mot_flag": number(exact(words[6]))}
    if len(words) > 8:
        extra["visibility"] = number(exact(words[8]))
    box = [number(value) for value in (left - 1, top - 1, width, height)]
    label = box_annotation(CLASSES[kind - 1], box, **extra)
    return frame, {**label, "iscrowd": int(extra["mot_flag"] == 0)}


def export_mot(source: Path, target: Path, images: ImageMode = "link", strict: bool = False) -> ConvertReport:
    """Write the videos of a COCO data directory as MOTChallenge's sequences: the inverse of ``import_mot``.

    Objects without ``track_id`` have no counterpart and are left out. A class that MOTChallenge does not have
    is written as its number in the data set.

    Args:
        source: the data directory.
        target: the folder to write, with a folder per split.
        images, strict: see ``import_mot``.

    Raises:
        CtnetError: for a source without videos, and with ``strict`` for a bad record.
    """
    return export_sequences(source, target, _write, images, strict)


def _write(video: Exported, folder: Path, images: ImageMode) -> int:
    place = folder / video.name
    kinds = {name: number for number, name in enumerate(CLASSES, start=1)}
    for order, category in enumerate(video.dataset.categories, start=1):
        kinds.setdefault(str(category["name"]), order)
    lines = []
    for index in video.frames:
        for one in video.entries(index):
            if one.get("track_id") is not None:
                left, top, width, height = (decimal(value) for value in one["bbox"])
                flag = one.get("mot_flag", int(not one.get("iscrowd", 0)))
                words = [video.number(index), one["track_id"], left + 1, top + 1, width, height, flag]
                words += [kinds[one["category"]], *([one["visibility"]] if "visibility" in one else [])]
                lines.append(",".join(map(_text, words)))
        suffix = Path(video.dataset.info(index).file_name).suffix or ".jpg"
        place_frame(video, index, place / "img1" / f"{video.number(index):06d}{suffix}", images)
    write_text(place / "gt" / "gt.txt", lines)
    first = video.dataset.info(video.frames[0])
    usual = {
        "name": video.name,
        "imDir": "img1",
        "frameRate": "30",
        "seqLength": str(max(map(video.number, video.frames))),
        "imWidth": str(first.width),
        "imHeight": str(first.height),
        "imExt": Path(first.file_name).suffix or ".jpg",
    }
    info = first.record.get("seqinfo") or usual
    write_text(place / "seqinfo.ini", ["[Sequence]", *(f"{key}={value}" for key, value in info.items())])
    return len(lines)


def _text(value: Any) -> str:
    """A number with all its digits and no more."""
    text = str(value) if not isinstance(value, float) else repr(value)
    return text.rstrip("0").rstrip(".") if "." in text and "e" not in text.lower() else text
