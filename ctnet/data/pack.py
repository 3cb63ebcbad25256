"""Packing a data directory into one file."""

from __future__ import annotations

import dataclasses
import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ctnet.base.errors import CtnetError
from ctnet.base.files import atomic_write, read_bytes
from ctnet.base.hdf5 import Sink
from ctnet.base.packs import FORMAT, SUFFIXES, add_columns, add_table, is_pack
from ctnet.base.progress import track
from ctnet.data.coco import VERSION, CocoFile
from ctnet.data.dataset import Dataset
from ctnet.data.directory import annotation_files, image_folders
from ctnet.data.images import IMAGE_LIMIT, ImageError
from ctnet.data.problems import Problem


@dataclass(frozen=True)
class PackReport:
    """What was packed.

    Attributes:
        path: the path of the pack.
        images: number of image files.
        annotations: number of annotations, of all files.
        size: bytes of the pack.
        problems: images that are not in it, since they are missing or unreadable.
    """

    path: Path
    images: int
    annotations: int
    size: int
    problems: tuple[Problem, ...]


def pack_directory(directory: str | Path, output: str | Path) -> PackReport:
    """Write all annotation files of a data directory, and their images as they are, into one file.

    The pack takes the place of the directory: paths in it are those of the directory. It appears once it is
    complete.

    Args:
        directory: the data directory.
        output: the file, ``*.h5``.

    Raises:
        CtnetError: for a directory without annotations, annotations that cannot be read, another suffix, and
            when the pack cannot be written.
    """
    import h5py

    directory, output = Path(directory), Path(output)
    if output.suffix not in SUFFIXES:
        raise CtnetError(f"cannot write {output}: the name of a pack ends in {' or '.join(SUFFIXES)}")
    if is_pack(directory):
        raise CtnetError(f"{directory} is a pack already; name a data directory")
    sources = {file.path.relative_to(directory).as_posix(): file for file in annotation_files(directory, [])}
    opened = {name: CocoFile.open(file.path) for name, file in sources.items()}
    problems: list[Problem] = []
    images: dict[str, Path] = {}
    for file in sources.values():
        dataset = Dataset.from_file(file.path, image_folders(directory, file.split))
        images.update(_images(dataset, directory, problems))
    contents = {**{name: file.path for name, file in sources.items()}, **images}
    with (
        atomic_write(output, seekable=True) as stream,
        Sink(stream.fileno(), "r+b", closefd=False) as sink,
    ):
        try:
            # See inference/maps.py: HDF5 1.10 keeps checksums, and no text of variable length is written.
            with h5py.File(sink, "w", libver="v110") as file:
                file.attrs["format"] = np.bytes_(FORMAT)
                _write_contents(file, contents)
                for name, coco in opened.items():
                    add_columns(file, name, _columns(coco))
        finally:
            sink.check()  # report the write error before HDF5's follow-up errors
    annotations = sum(len(coco.errors) for coco in opened.values())
    return PackReport(output, len(images), annotations, os.path.getsize(output), tuple(problems))


def _images(dataset: Dataset, directory: Path, problems: list[Problem]) -> Iterator[tuple[str, Path]]:
    """Paths in the directory of a split's images, and where they lie."""
    for index in range(len(dataset)):
        name = dataset.coco.file_name(dataset.rows[index])
        try:
            path = dataset.image_path(index)
            inside = os.path.relpath(path, directory)
            if inside.startswith(os.pardir) or os.path.isabs(inside):
                raise ImageError(f"{path} lies outside {directory}")
            yield inside.replace(os.sep, "/"), path
        except (ImageError, ValueError) as error:
            problems.append(Problem("image that is not packed", name, str(error)))


def _write_contents(file: Any, contents: dict[str, Path]) -> None:
    """All files, one after the other, and the table of them."""
    sizes = [path.stat().st_size for path in contents.values()]
    data = file.create_dataset("data", (sum(sizes),), np.uint8)
    starts, checksums, start = [], [], 0
    steps = track(contents.items(), "packing")
    for (name, path), size in zip(steps, sizes, strict=True):
        content = read_bytes(path, IMAGE_LIMIT)
        if len(content) != size:
            raise CtnetError(f"{path} changes while {name} is packed; start again")
        data[start : start + size] = np.frombuffer(content, np.uint8)
        starts.append(start)
        checksums.append(zlib.crc32(content))
        start += size
    group = file.create_group("files")
    names = "".join(f"{name}\0" for name in contents).encode("utf-8", "surrogatepass")
    add_table(group, "names", np.frombuffer(names, np.uint8))
    add_table(group, "starts", np.array(starts, np.int64))
    add_table(group, "sizes", np.array(sizes, np.int64))
    add_table(group, "checksums", np.array(checksums, np.uint32))


def _columns(coco: CocoFile) -> dict[str, np.ndarray]:
    columns = {field.name: getattr(coco.columns, field.name) for field in dataclasses.fields(coco.columns)}
    known = {"digest": coco.digest.encode(), "version": VERSION}
    return {**columns, **{name: np.frombuffer(text, np.uint8) for name, text in known.items()}}
