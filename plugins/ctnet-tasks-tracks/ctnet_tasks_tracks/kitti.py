"""KITTI's tracking labels (``label_02``) to COCO JSON, and back."""

from __future__ import annotations

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
    read_lines,
    readable_size,
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

_SPLITS = {"training": "train", "testing": "test"}
_DONT_CARE = "DontCare"
_UNKNOWN = (-1000, -10)  # location and angle of what has no 3D box


def import_kitti(
    source: Path, target: Path, images: ImageMode = "link", strict: bool = False
) -> ConvertReport:
    """Convert KITTI's tracking data to a COCO data directory, as the tasks tracks, ctdet and ddd read it.

    Regions of ``DontCare`` become crowd regions without identity. Cameras (``calib``) are read where they
    are.

    Args:
        source: holds ``training`` and ``testing``, or ``image_02`` and ``label_02`` itself.
        target: the data directory to write.
        images: how the images get there.
        strict: refuse the first bad record.

    Raises:
        CtnetError: for a source without sequences, and with ``strict`` for a bad record.
    """
    check_folder(source)
    folders = {split: source / name for name, split in _SPLITS.items() if (source / name).is_dir()}
    splits = {split: _sequences(folder) for split, folder in (folders or {"train": source}).items()}
    return write_sequences(source, target, splits, read_line, images, strict)


def _sequences(folder: Path) -> list[Labelled]:
    found = []
    pictures = folder / "image_02"
    for place in sorted(pictures.iterdir()) if pictures.is_dir() else ():
        files = {int(path.stem): path for path in image_files(place) if path.stem.isdecimal()}
        if not files:
            continue
        labels = folder / "label_02" / f"{place.name}.txt"
        # A frame number that is missing between others is a frame without an image.
        frames = {frame: files.get(frame) for frame in range(max(files) + 1)}
        try:
            size = readable_size(files[min(files)])
        except BadRecord as error:
            raise CtnetError(f"{files[min(files)]} cannot be read ({error.what}); replace it") from error
        calib = folder / "calib" / f"{place.name}.txt"
        extra = {"calib": camera} if (camera := _camera(calib)) is not None else {}
        found.append(Labelled(place.name, frames, size, labels if labels.is_file() else None, extra))
    return found


def _camera(path: Path) -> list[list[float]] | None:
    """The 3x4 matrix of the left colour camera (P2)."""
    for line in read_lines(path) if path.is_file() else ():
        name, _, rest = line.replace(":", " ").partition(" ")
        if name == "P2":
            try:
                values = [float(word) for word in rest.split()]
            except ValueError:
                values = []
            if len(values) != 12:
                raise CtnetError(f"{path} has a P2 that is not 12 numbers; copy it again")
            return [values[row : row + 4] for row in (0, 4, 8)]
    return None


def read_line(line: str) -> Label:
    """A line: frame, identity, type, truncated, occluded, alpha, x1 y1 x2 y2, h w l, x y z, rotation_y.

    Raises:
        BadRecord: when it cannot be used.
    """
    words = line.split()
    if len(words) not in (17, 18):
        raise BadRecord("line that is not 17 words", line)
    frame, identity, kind = whole(words[0]), whole(words[1]), words[2]
    truncated, occluded, alpha, x1, y1, x2, y2, *rest = map(exact, words[3:17])
    if x2 <= x1 or y2 <= y1:
        raise BadRecord("box without area", line)
    extra: dict[str, Any] = {"truncated": number(truncated), "occluded": number(occluded)}
    if identity >= 0:
        extra["track_id"] = identity
    known = rest[3] != _UNKNOWN[0] and min(rest[:3]) > 0
    if known:
        size, location = ([number(value) for value in rest[i : i + 3]] for i in (0, 3))
        extra |= {"dim": size, "location": location, "depth": location[2]}
        extra |= {"rotation_y": number(rest[6]), "alpha": number(alpha)}
    else:
        extra["no_3d"] = [number(value) for value in (alpha, *rest)]
    label = box_annotation(kind, [number(value) for value in (x1, y1, x2 - x1, y2 - y1)], **extra)
    return frame, {**label, "iscrowd": int(kind == _DONT_CARE)}


def export_kitti(
    source: Path, target: Path, images: ImageMode = "link", strict: bool = False
) -> ConvertReport:
    """Write the videos of a COCO data directory as KITTI's tracking labels: the inverse of ``import_kitti``.

    Args:
        source: the data directory.
        target: the folder to write, with a folder per split.
        images, strict: see ``import_kitti``.

    Raises:
        CtnetError: for a source without videos, for a class with a space in its name, and with ``strict`` for
            a bad record.
    """
    return export_sequences(source, target, _write, images, strict)


def _write(video: Exported, folder: Path, images: ImageMode) -> int:
    place = folder.with_name({split: name for name, split in _SPLITS.items()}.get(folder.name, folder.name))
    lines = []
    for index in video.frames:
        frame = video.number(index)
        lines += [f"{frame} {_line(one)}" for one in video.entries(index)]
        suffix = Path(video.dataset.info(index).file_name).suffix or ".png"
        place_frame(video, index, place / "image_02" / video.name / f"{frame:06d}{suffix}", images)
    write_text(place / "label_02" / f"{video.name}.txt", lines)
    camera = video.dataset.info(video.frames[0]).record.get("calib")
    if camera is not None:
        values = " ".join(repr(float(value)) for row in camera for value in row)
        write_text(place / "calib" / f"{video.name}.txt", [f"P2: {values}"])
    return len(lines)


def _line(one: Any) -> str:
    """The words after the frame's number."""
    kind = str(one["category"])
    if len(kind.split()) != 1:
        raise CtnetError(
            f"class {kind!r} has a space in its name, which KITTI's labels cannot hold; rename it"
        )
    x, y, width, height = (decimal(value) for value in one["bbox"])
    alpha, *rest = one.get("no_3d") or (_UNKNOWN[1], -1, -1, -1, *[_UNKNOWN[0]] * 3, _UNKNOWN[1])
    if "dim" in one:
        alpha, rest = one["alpha"], [*one["dim"], *one["location"], one["rotation_y"]]
    values = [alpha, x, y, x + width, y + height, *rest]
    head = [
        one.get("track_id", -1),
        kind,
        _digits(one.get("truncated", 0), 0),
        _digits(one.get("occluded", 0), 0),
    ]
    return " ".join([*map(str, head), *(_digits(value, 6) for value in values)])


def _digits(value: Any, least: int) -> str:
    """A number with at least so many decimals, and all that it has."""
    exactly = value if not isinstance(value, float) else decimal(value)
    fixed = f"{exactly:.{least}f}"
    return fixed if exact(fixed) == exactly else f"{exactly:f}"
