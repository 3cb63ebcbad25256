"""COCO JSON with 3D fields to KITTI's text files: labels, and results of a detector."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Interval
from typing_extensions import NotRequired, TypedDict

from ctnet.plugin import (
    LARGEST_COORDINATE,
    CtnetError,
    annotation_files,
    check_json,
    read_json,
    track,
    unknown_name,
    write_text,
)
from ctnet_tasks_ddd.fields import DONT_CARE, Entry, entries_by_image, frame_name, values_of_entry


def write_labels(data: str | Path, target: str | Path) -> int:
    """Write the label files of a converted data directory, the inverse of ``convert_kitti``.

    Every number has two decimals, or more if needed; the lines of KITTI's own labels are reproduced exactly,
    except for those that the conversion refused.

    Args:
        data: the data directory; the frames of all its splits are written.
        target: the folder for the files ``NNNNNN.txt``.

    Returns:
        The number of files.

    Raises:
        CtnetError: when ``data`` has no annotations or they cannot be read, for two images of one frame, and
            for a class whose name is not one word.
    """
    files = {file.split: file.path for file in annotation_files(Path(data), ["instances"])}
    frames: dict[str, list[str]] = {}
    owners: dict[str, str] = {}
    for file in files.values():
        content = _read_content(file)
        by_image = entries_by_image(content)
        _refuse_one_frame_of_two(content["images"], owners)
        for image in content["images"]:
            frames[frame_name(image)] = [label_line(entry) for entry in by_image[image["id"]]]
    _write(frames, Path(target))
    return len(frames)


def write_results(data: str | Path, split: str, results: str | Path, target: str | Path) -> int:
    """Write the detections of a COCO results file as KITTI's result files, one for every image of a split.

    Args:
        data: the data directory that the detections belong to.
        split: the split with the images; all detections must be of these.
        results: list of {image_id, category_id, bbox (xywh), score} with the 3D fields ``alpha``, ``dim``,
            ``location`` and ``rotation_y`` where known.
        target: the folder for the files ``NNNNNN.txt``.

    Returns:
        The number of files.

    Raises:
        CtnetError: for an unknown split, and for a detection with a missing key, an unknown image or
            category, or a number that is not finite.
    """
    files = {file.split: file.path for file in annotation_files(Path(data), ["instances"])}
    if split not in files:
        raise unknown_name("split", split, files)
    content, detections = _read_content(files[split]), read_json(results)
    if not isinstance(detections, list):
        raise CtnetError(f"{results} is not a COCO results file: it must be a list of detections")
    frames = result_lines(content, detections, str(results))
    _write(frames, Path(target))
    return len(frames)


def result_lines(content: Entry, detections: Sequence[Entry], where: str = "results") -> dict[str, list[str]]:
    """Frame name -> lines of its result file, in the order of the detections; frames without any included.

    Args:
        content: content of the COCO file with the images and categories.
        detections: see ``write_results``.
        where: source of the detections, for messages.

    Raises:
        CtnetError: see ``write_results``.
    """
    _refuse_one_frame_of_two(content["images"], {})
    names = {image["id"]: frame_name(image) for image in content["images"]}
    categories = {category["id"]: category["name"] for category in content["categories"]}
    frames: dict[str, list[str]] = {name: [] for name in names.values()}
    for number, detection in enumerate(detections):
        try:
            if detection["image_id"] not in names:
                raise ValueError(f"image_id {detection['image_id']} is not in the split")
            if detection["category_id"] not in categories:
                raise ValueError(f"category_id {detection['category_id']} is unknown")
            line = result_line(categories[detection["category_id"]], detection)
        except (KeyError, TypeError, ValueError, ArithmeticError) as error:
            reason = f"it has no {error}" if isinstance(error, KeyError) else error
            raise CtnetError(f"detection {number} of {where} cannot be written: {reason}") from error
        frames[names[detection["image_id"]]].append(line)
    return frames


def _refuse_one_frame_of_two(images: Sequence[Entry], owners: dict[str, str]) -> None:
    """Refuse images whose files would replace each other; an image may be in several splits.

    Args:
        images: images of a COCO file.
        owners: frame -> file name of its image in earlier files; is added to.
    """
    here: set[str] = set()
    for image in images:
        name, file_name = frame_name(image), image["file_name"]
        if name in here or owners.setdefault(name, file_name) != file_name:
            raise CtnetError(
                f"the images {owners[name]} and {file_name} would both become frame {name}; rename one of "
                "them"
            )
        here.add(name)


def label_line(entry: Entry) -> str:
    """The line of a label file for an entry (see ``fields``), without line end."""
    is_region = entry["type"].lower() == DONT_CARE.lower()
    # The benchmark prints a region's placeholders, everything but its box, as integers.
    whole = {*range(3), *range(7, 14)} if is_region else {1}
    values = enumerate(values_of_entry(entry))
    texts = [f"{value:g}" if column in whole else _decimals(value) for column, value in values]
    return " ".join([_word(entry["type"]), *texts])


def result_line(name: str, detection: Mapping[str, Any]) -> str:
    """The line of a result file, without line end.

    Args:
        name: the name of the class.
        detection: ``bbox`` (xywh), ``score``, and optionally ``alpha``, ``dim``, ``location``,
            ``rotation_y``.

    Raises:
        KeyError, TypeError, ValueError: for a detection without box or score, or with values that are not
            finite numbers.
    """
    known = {key: value for key, value in detection.items() if key not in ("truncated", "occluded")}
    if len(detection["bbox"]) != 4:
        raise ValueError("its bbox is not four numbers")
    values = [*values_of_entry(known), detection["score"]]
    if len(values) != 15 or not all(math.isfinite(value) for value in values):
        raise ValueError("it has numbers that are missing or not finite")
    texts = ["-1", "-1", *(f"{value:.4f}" for value in values[2:14]), f"{values[14]:.8g}"]
    return " ".join([_word(name), *texts])


def _word(name: str) -> str:
    """The name of a class; spaces in it would be further columns.

    Raises:
        CtnetError: for a name that is not one word.
    """
    if name.split() != [name]:
        raise CtnetError(f"the class {name!r} cannot be written in KITTI's files; rename it to one word")
    return name


_Number = Annotated[float, Interval(ge=-LARGEST_COORDINATE, le=LARGEST_COORDINATE)]
_OPEN = {"strict": True, "extra": "allow"}


class _Image(TypedDict):
    __pydantic_config__ = _OPEN  # type: ignore[misc]

    id: int
    file_name: str
    others: NotRequired[list[_Other]]


class _Entry(TypedDict):
    __pydantic_config__ = _OPEN  # type: ignore[misc]

    bbox: tuple[_Number, _Number, _Number, _Number]
    type: NotRequired[str]
    line: NotRequired[int]
    truncated: NotRequired[_Number]
    occluded: NotRequired[_Number]
    alpha: NotRequired[_Number]
    dim: NotRequired[tuple[_Number, _Number, _Number]]
    location: NotRequired[tuple[_Number, _Number, _Number]]
    rotation_y: NotRequired[_Number]


class _Other(_Entry):
    __pydantic_config__ = _OPEN  # type: ignore[misc]

    type: str  # type: ignore[misc]  # required here


class _Annotation(_Entry):
    __pydantic_config__ = _OPEN  # type: ignore[misc]

    image_id: int
    category_id: int


class _Category(TypedDict):
    __pydantic_config__ = _OPEN  # type: ignore[misc]

    id: int
    name: str


class _Content(TypedDict):
    """The part of a COCO file that is written."""

    __pydantic_config__ = _OPEN  # type: ignore[misc]

    images: list[_Image]
    annotations: list[_Annotation]
    categories: list[_Category]


def _read_content(file: Path) -> Entry:
    """A validated COCO file.

    Raises:
        CtnetError: naming the first value that does not fit, or the annotation of an unknown image or
            category.
    """
    content: Entry = check_json(_Content, read_json(file), file, "correct it, see `ctnet data check`")
    images = {image["id"] for image in content["images"]}
    categories = {category["id"] for category in content["categories"]}
    for annotation in content["annotations"]:
        for key, known in (("image_id", images), ("category_id", categories)):
            if annotation[key] not in known:
                where = f"annotation {annotation.get('id', '(without id)')} of {file}"
                raise CtnetError(
                    f"{where} has {key} {annotation[key]}, which the file does not list; correct it, see "
                    "`ctnet data check`"
                )
    return content


def _decimals(value: float) -> str:
    """With two decimals, or more if needed."""
    text = f"{value:.2f}"
    return text if float(text) == value else repr(float(value))


def _write(frames: Mapping[str, Iterable[str]], target: Path) -> None:
    for name, lines in track(frames.items(), "writing files", unit="files"):
        write_text(target / f"{name}.txt", lines)
