"""Storing a network's maps in an HDF5 file, to decode and evaluate them again without the network.

A file holds one group per size of input ("512x512"), and in it, row by row, ``image_id`` (N,), ``scale``
(N,), ``affine`` (N, 2, 3) from image pixels to input pixels, and in the group ``maps`` a dataset (N, C, H, W)
float16 for every head, one chunk a row: the activated maps, averaged with those of the mirror image, if
requested. ``description`` holds the checkpoint's description as JSON.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from annotated_types import Ge, Gt, MinLen
from torch import Tensor
from typing_extensions import TypedDict

from ctnet.base.errors import CtnetError, os_error
from ctnet.base.files import atomic_write, require_regular
from ctnet.base.hdf5 import UNREADABLE, Sink, attribute, member, own_dataset
from ctnet.base.schema import check_json
from ctnet.checkpoint import Description
from ctnet.core.geometry import Affine
from ctnet.core.task import Task
from ctnet.inference.preprocessing import Prepared
from ctnet.inference.settings import DetectionSettings

FORMAT = "ctnet maps 1"

_FIX = "make it again with --save-maps"
_ROW_BYTES = 64  # of an image id, a scale and an affine map
_SMALLEST = 1e-12  # determinant of an affine map
_BEST_RATIO = 1032  # of deflate, if the file was compressed


class _Attributes(TypedDict):
    """The file's own attributes."""

    format: str
    values: str
    task: str
    backbone: str
    stride: Annotated[int, Ge(1)]
    flip: bool
    scales: Annotated[list[Annotated[float, Gt(0)]], MinLen(1)]
    resize: Literal["fix", "keep"]


#: Largest float16: larger values (depths far beyond the horizon) are clipped to it.
_LARGEST = 65504.0


class MapWriter:
    """Stores maps batch by batch, for ``Detector.detect(keep_maps=...)``."""

    def __init__(self, file: Any, sink: Sink) -> None:
        self._file, self._sink = file, sink

    def __call__(self, maps: Mapping[str, Tensor], batch: Sequence[Prepared], scale: float) -> None:
        """Append the maps of a batch.

        Args:
            maps: activated, (B, C, H, W) by head.
            batch: the images of the maps.
            scale: the scale of the images.

        Raises:
            OSError: when the disk is full.
        """
        height, width = batch[0].input.shape[:2]
        group = self._file.require_group(f"{width}x{height}")
        affines = np.stack([prepared.affine.matrix for prepared in batch])
        _append(group, "image_id", np.array([prepared.info.image_id for prepared in batch], np.int64))
        _append(group, "scale", np.full(len(batch), scale))
        _append(group, "affine", affines)
        for name, values in maps.items():
            half = values.clamp(-_LARGEST, _LARGEST).half().cpu().numpy()
            _append(group, f"maps/{name}", half, chunk=1)
        self._sink.check()


@contextmanager
def write_maps(
    path: str | Path, description: Description, settings: DetectionSettings
) -> Iterator[MapWriter]:
    """Write a file of maps atomically; it appears when the context ends.

    Args:
        path: the file to write.
        description: the description of the detector.
        settings: its test-time settings.

    Raises:
        CtnetError: when the file cannot be written (disk full, folder read-only).
    """
    import h5py

    with atomic_write(path, seekable=True) as stream, Sink(stream.fileno(), "r+b", closefd=False) as sink:
        try:
            # HDF5 1.10 keeps checksums of all but texts of variable length, and reading such a text from a
            # damaged file may never end: none is written.
            with h5py.File(sink, "w", libver="v110") as file:
                file.attrs["format"] = np.bytes_(FORMAT)
                file.attrs["values"] = np.bytes_("activated maps, float16")
                file.attrs["task"] = np.bytes_(description.task.encode())
                file.attrs["backbone"] = np.bytes_(description.backbone.encode())
                file.attrs["stride"] = description.stride
                file.attrs["flip"] = settings.flip
                file.attrs["scales"] = settings.scales
                file.attrs["resize"] = np.bytes_(settings.resize)
                text = json.dumps(asdict(description)).encode()  # not an attribute: those end at 64 kB
                file["description"] = np.frombuffer(text, np.uint8)
                yield MapWriter(file, sink)
        finally:
            sink.check()  # report the write error before HDF5's follow-up errors


@dataclass(frozen=True)
class StoredMaps:
    """The maps of one image at one scale.

    Attributes:
        maps: activated, (1, C, H, W) float32 by head.
        affine: image pixels -> input pixels.
        scale: the scale of the image.
    """

    maps: dict[str, Tensor]
    affine: Affine
    scale: float


class MapFile:
    """Reads what ``write_maps`` wrote.

    Attributes:
        path: the file.
        description: the description of the maps' detector.
        attributes: flip, scales, resize etc., as stored.
    """

    def __init__(self, path: Path, file: Any) -> None:
        self.path, self._file = path, file
        values = {name: attribute(file, name) for name in file.attrs}
        self.attributes: dict[str, Any] = check_json(_Attributes, values, f"the attributes of {path}", _FIX)
        text = own_dataset(file, "description", None, (), "u")
        if text.nbytes > path.stat().st_size:
            raise ValueError(f"its description claims {text.nbytes} bytes, more than the file can hold")
        self.description = Description.from_json(text[:].tobytes(), path)
        self._rows: dict[int, list[tuple[str, int]]] = {}
        for size in file:
            if size != "description":
                for row, image_id in enumerate(_image_ids(file, size, path).tolist()):
                    self._rows.setdefault(image_id, []).append((size, row))

    @classmethod
    @contextmanager
    def open(cls, path: str | Path) -> Iterator[MapFile]:
        """Open a file for as long as the context lasts.

        Raises:
            CtnetError: when it is missing, damaged, or holds something else.
        """
        import h5py

        path = Path(path)
        try:
            require_regular(path)
            file = h5py.File(path, "r")
        except OSError as error:
            if error.errno:
                raise os_error(error, "read", path) from error
            raise CtnetError(f"{path} is not an HDF5 file, or was cut short; {_FIX}") from error
        with file:
            try:
                if "format" not in file.attrs or attribute(file, "format") != FORMAT:
                    raise CtnetError(f"{path} has no maps of ctnet; make such a file with --save-maps")
                maps = cls(path, file)
            except UNREADABLE as error:
                raise CtnetError(f"{path} is damaged ({error}); {_FIX}") from error
            yield maps

    @property
    def scales(self) -> tuple[float, ...]:
        """The scales of every image."""
        return tuple(float(scale) for scale in self.attributes["scales"])

    @property
    def image_ids(self) -> list[int]:
        """The images, in the order in which they were first stored."""
        return list(self._rows)

    def __getitem__(self, image_id: int) -> list[StoredMaps]:
        """The maps of one image, the smallest scale first.

        Raises:
            CtnetError: when they cannot be read.
        """
        try:
            stored = [self._read(size, row) for size, row in self._rows[image_id]]
        except UNREADABLE as error:
            raise CtnetError(
                f"the maps of image {image_id} in {self.path} are damaged; make the file again"
            ) from error
        return sorted(stored, key=lambda one: one.scale)

    def check_heads(self, task: Task) -> None:
        """Refuse maps that do not match a task's heads and the grid of their input.

        Raises:
            CtnetError: naming the group and the head.
        """
        stride = self.description.stride
        for size in {size for rows in self._rows.values() for size, _ in rows}:
            width, height = (int(side) // stride for side in size.split("x"))
            wanted = {name: (head.channels, height, width) for name, head in task.heads.items()}
            found = {name: values.shape[1:] for name, values in self._file[size]["maps"].items()}
            for name in sorted(wanted.keys() | found.keys()):
                if wanted.get(name) != found.get(name):
                    raise CtnetError(
                        f"{self.path} has maps of {name} at {size} of {_shape(found.get(name))}, and task "
                        f"{task.name} needs {_shape(wanted.get(name))}; {_FIX}"
                    )

    def _read(self, size: str, row: int) -> StoredMaps:
        group = self._file[size]
        maps = {
            name: torch.from_numpy(values[row : row + 1]).float() for name, values in group["maps"].items()
        }
        if not all(values.isfinite().all() for values in maps.values()):
            raise ValueError("not finite")
        return StoredMaps(maps, Affine(group["affine"][row]), float(group["scale"][row]))


_SIZE = re.compile(r"[1-9][0-9]{0,4}x[1-9][0-9]{0,4}")


def _image_ids(file: Any, size: str, path: Path) -> np.ndarray:
    """Check the group of one input size, and return the images of its rows."""
    if not _SIZE.fullmatch(size):
        raise ValueError(f"the group {size!r} is not named after a size, 512x512")
    group = member(file, size)
    values = own_dataset(group, "image_id", None, (), "i")
    rows = len(values)
    if rows * _ROW_BYTES > path.stat().st_size:
        raise ValueError(f"{size} claims {rows} rows, more than the file can hold")
    scales = own_dataset(group, "scale", rows, (), "f")[:]
    affines = own_dataset(group, "affine", rows, (2, 3), "f")[:]
    linear = np.linalg.det(affines[:, :, :2])
    if not (np.isfinite(affines).all() and np.isfinite(scales).all() and (scales > 0).all()):
        raise ValueError(f"{size} has a scale or affine map that is not finite")
    if not (np.isfinite(linear) & (abs(linear) > _SMALLEST)).all():
        raise ValueError(f"{size} has an affine map that cannot be inverted")
    for name in member(group, "maps"):
        held = own_dataset(group["maps"], name, rows, (None, None, None), "f")
        if held.nbytes > _BEST_RATIO * path.stat().st_size:
            raise ValueError(
                f"{size} claims maps of {name} of {held.nbytes} bytes, more than the file can hold"
            )
    ids: np.ndarray = values[:].astype(np.int64)
    return ids


def _shape(shape: tuple[int, ...] | None) -> str:
    return "no shape" if shape is None else "x".join(map(str, shape))


def _append(group: Any, name: str, rows: np.ndarray, chunk: int = 1024) -> None:
    if name not in group:
        tail = rows.shape[1:]
        group.create_dataset(name, (0, *tail), rows.dtype, maxshape=(None, *tail), chunks=(chunk, *tail))
    values = group[name]
    count = len(values)
    values.resize(count + len(rows), axis=0)
    values[count:] = rows
