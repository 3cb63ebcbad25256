"""What the writers of other formats share: the images that can be written, and their label files."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ctnet.base.errors import os_error
from ctnet.data.dataset import Dataset
from ctnet.data.images import ImageError
from ctnet.data.problems import Problem


@dataclass(frozen=True)
class ExportedImage:
    """An image on its way into another format.

    Attributes:
        index: in its data set.
        name: the path that the export gives it, below its folder of images.
        source: the image file, None when it is not wanted.
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
    """The images of a split that can be written; without a file or a name of their own they are problems.

    Args:
        dataset: the split.
        name_of: the path that the export gives an image with this ``file_name``; without their suffixes, by
            which label files are called, paths must differ.
        problems: is added to.
        need_images: look for the image files.
    """
    taken: set[PurePosixPath] = set()
    for index in range(len(dataset)):
        info = dataset.info(index)
        name = name_of(info.file_name)
        where = f"image {info.image_id} of {dataset.split}"
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


def write_text(path: Path, lines: Iterable[str]) -> None:
    """Write lines to a text file, plainly: label files are many and small.

    Raises:
        CtnetError: when the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    except OSError as error:
        raise os_error(error, "write", path) from error
