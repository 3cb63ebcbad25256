"""Storing a network's maps in an HDF5 file, to decode and evaluate them again without the network.

A file holds one group per size of input ("512x512"), and in it, row by row, ``image_id`` (N,), ``scale``
(N,), ``affine`` (N, 2, 3) from image pixels to input pixels, and in the group ``maps`` a dataset (N, C, H, W)
float16 for every head, one chunk a row: the activated maps, averaged with those of the mirror image, if
requested. ``description`` holds the checkpoint's description as JSON.
"""

from __future__ import annotations

import io
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

    def __init__(self, file: Any, sink: _Sink) -> None:
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

    with atomic_write(path, seekable=True) as stream, _Sink(stream.fileno(), "r+b", closefd=False) as sink:
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
        values = {name: _attribute(file, name) for name in file.attrs}
        self.attributes: dict[str, Any] = check_json(_Attributes, values, f"the attributes of {path}", _FIX)
        text = _dataset(file, "description", None, (), "u")
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
                if "format" not in file.attrs or _attribute(file, "format") != FORMAT:
                    raise CtnetError(f"{path} has no maps of ctnet; make such a file with --save-maps")
                maps = cls(path, file)
            except _UNREADABLE as error:
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
        except _UNREADABLE as error:
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

#: The errors of h5py for a damaged file.
_UNREADABLE = (
    AttributeError,
    LookupError,
    MemoryError,
    OSError,
    OverflowError,
    RuntimeError,
    TypeError,
    ValueError,
)


def _member(group: Any, name: str) -> Any:
    """A member of a group itself; links to other places or files are not followed."""
    import h5py

    if not isinstance(group, h5py.Group) or not isinstance(group.get(name, getlink=True), h5py.HardLink):
        raise ValueError(f"it has no {name} of its own")
    return group[name]


def _dataset(group: Any, name: str, rows: int | None, tail: tuple[int | None, ...], kind: str) -> Any:
    """A dataset of a shape and kind of numbers, with its values in the file itself."""
    import h5py

    values = _member(group, name)
    if not isinstance(values, h5py.Dataset) or values.external or values.is_virtual:
        raise ValueError(f"{name} is not a dataset with values of its own")
    shape = (rows, *tail)
    fits = len(values.shape or ()) == len(shape) and all(
        side in (None, own) for own, side in zip(values.shape, shape, strict=True)
    )
    if not fits or values.dtype.kind != kind:
        raise ValueError(f"{name} is {values.dtype} of shape {values.shape}")
    return values


def _image_ids(file: Any, size: str, path: Path) -> np.ndarray:
    """Check the group of one input size, and return the images of its rows."""
    if not _SIZE.fullmatch(size):
        raise ValueError(f"the group {size!r} is not named after a size, 512x512")
    group = _member(file, size)
    values = _dataset(group, "image_id", None, (), "i")
    rows = len(values)
    if rows * _ROW_BYTES > path.stat().st_size:
        raise ValueError(f"{size} claims {rows} rows, more than the file can hold")
    scales = _dataset(group, "scale", rows, (), "f")[:]
    affines = _dataset(group, "affine", rows, (2, 3), "f")[:]
    linear = np.linalg.det(affines[:, :, :2])
    if not (np.isfinite(affines).all() and np.isfinite(scales).all() and (scales > 0).all()):
        raise ValueError(f"{size} has a scale or affine map that is not finite")
    if not (np.isfinite(linear) & (abs(linear) > _SMALLEST)).all():
        raise ValueError(f"{size} has an affine map that cannot be inverted")
    for name in _member(group, "maps"):
        held = _dataset(group["maps"], name, rows, (None, None, None), "f")
        if held.nbytes > _BEST_RATIO * path.stat().st_size:
            raise ValueError(
                f"{size} claims maps of {name} of {held.nbytes} bytes, more than the file can hold"
            )
    ids: np.ndarray = values[:].astype(np.int64)
    return ids


def _attribute(file: Any, name: str) -> Any:
    """An attribute as a JSON value."""
    import h5py

    kind = file.attrs.get_id(name).dtype
    if h5py.check_dtype(vlen=kind) is not None or h5py.check_dtype(ref=kind) is not None:
        raise ValueError(f"its attribute {name} is of variable length")
    value = file.attrs[name]
    if isinstance(value, bytes):
        return value.decode()
    return value.tolist() if isinstance(value, (np.ndarray, np.generic)) else value


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


class _Sink(io.FileIO):
    """A file that remembers why a write failed instead of raising.

    HDF5 cannot close a file whose last writes fail (the process crashes), so errors are hidden from it and
    raised by ``check``.
    """

    failure: OSError | None = None

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        done = 0
        while self.failure is None and done < len(view):
            try:
                done += super().write(view[done:]) or 0
            except OSError as error:
                self.failure = error
        return len(view)

    def truncate(self, size: int | None = None) -> int:
        try:
            return super().truncate(size)
        except OSError as error:
            self.failure = self.failure or error
            return size or 0

    def check(self) -> None:
        """Raise the first error, if there was one."""
        if self.failure is not None:
            raise self.failure
