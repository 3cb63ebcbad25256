"""Shared parts of the writers of other formats: the images that can be written, and label files."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ctnet.base.errors import CtnetError, os_error
from ctnet.data.dataset import Dataset
from ctnet.data.images import ImageError
from ctnet.data.problems import Problem

_LONGEST_NAME = 255  # bytes, on all usual file systems


@dataclass(frozen=True)
class ExportedImage:
    """An image to be exported to another format.

    Attributes:
        index: in its data set.
        name: its path in the export, below the folder of images.
        source: the image file; None when it is not needed.
    """

    index: int
    name: PurePosixPath
    source: Path | None


def exported_images(
    dataset: Dataset,
    name_of: Callable[[str], PurePosixPath],
    problems: list[Problem],
    need_images: bool,
) -> Iterator[ExportedImage]:
    """The images of a split that can be written; those without a file, or a name of their own, are problems.

    Args:
        dataset: the split.
        name_of: the path in the export of an image with this ``file_name``; paths must differ without their
            suffixes, since label files are named after them.
        problems: bad records are added.
        need_images: whether to look for the image files.
    """
    taken: set[PurePosixPath] = set()
    for index in range(len(dataset)):
        info = dataset.info(index)
        name = name_of(info.file_name)
        where = f"image {info.image_id} of {dataset.split}"
        if not _can_be_written(name):
            problems.append(Problem("name that no label file can have", where, info.file_name))
            continue
        if name.with_suffix("") in taken:
            problems.append(Problem("the file name of an earlier image", where, info.file_name))
            continue
        try:
            source = dataset.image_path(index) if need_images else None
        except ImageError as error:
            problems.append(Problem("missing image", where, str(error)))
            continue
        taken.add(name.with_suffix(""))
        yield ExportedImage(index, name, source)


def _can_be_written(name: PurePosixPath) -> bool:
    """Whether there is a name at all, and file systems take that of its label file."""
    if not name.name or "\0" in str(name):
        return False
    try:
        longest = max(len(os.fsencode(part)) for part in name.with_suffix(".txt").parts)
    except UnicodeEncodeError:  # half a character
        return False
    return longest <= _LONGEST_NAME


def write_text(path: Path, lines: Iterable[str]) -> None:
    """Write lines to a text file, not atomically: there are many small label files.

    Raises:
        CtnetError: when the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    except OSError as error:
        raise os_error(error, "write", path) from error
    except ValueError as error:
        raise CtnetError(f"cannot write {path}: this is not a valid file name ({error})") from error
