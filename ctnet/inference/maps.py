"""Keeping a network's maps in an HDF5 file, to decode and measure them again without the network.

A file holds one group per size of input ("512x512"), and in it, row by row, ``image_id`` (N,), ``scale``
(N,), ``affine`` (N, 2, 3) from image pixels to input pixels, and in the group ``maps`` a dataset (N, C, H, W)
float16 for every head, one chunk a row: the activated maps, averaged with the mirror image's where that was
asked for. ``description`` holds the checkpoint's description as JSON.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ctnet.base.errors import CtnetError, os_error
from ctnet.base.files import atomic_write, require_regular
from ctnet.checkpoint import Description
from ctnet.core.geometry import Affine
from ctnet.inference.preprocessing import Prepared
from ctnet.inference.settings import DetectionSettings

FORMAT = "ctnet maps 1"

#: Largest float16: what lies beyond (the depth of a point far behind the horizon) is cut to it.
_LARGEST = 65504.0


class MapWriter:
    """Takes in maps batch by batch; fits ``Detector.detect(keep_maps=...)``."""

    def __init__(self, file: Any, sink: _Sink) -> None:
        self._file, self._sink = file, sink

    def __call__(self, maps: Mapping[str, Tensor], batch: Sequence[Prepared], scale: float) -> None:
        """Append the maps of a batch.

        Args:
            maps: activated, (B, C, H, W) by head.
            batch: whose they are.
            scale: at which they were looked at.

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
    """Make a file of maps: whole when the context ends, or not there at all.

    Args:
        path: the file to appear.
        description: of the detector.
        settings: how it looks at images.

    Raises:
        CtnetError: when the file cannot be written (disk full, folder read-only).
    """
    import h5py

    with atomic_write(path, seekable=True) as stream, _Sink(stream.fileno(), "r+b", closefd=False) as sink:
        try:
            with h5py.File(sink, "w") as file:
                file.attrs["format"] = FORMAT
                file.attrs["values"] = "activated maps, float16"
                file.attrs["task"] = description.task
                file.attrs["backbone"] = description.backbone
                file.attrs["stride"] = description.stride
                file.attrs["flip"] = settings.flip
                file.attrs["scales"] = settings.scales
                file.attrs["resize"] = settings.resize
                file["description"] = json.dumps(asdict(description))  # no attribute: those end at 64 kB
                yield MapWriter(file, sink)
        finally:
            sink.check()  # before anything that HDF5 says of a file that is not what it wrote


@dataclass(frozen=True)
class StoredMaps:
    """The maps of one image at one scale.

    Attributes:
        maps: activated, (1, C, H, W) float32 by head.
        affine: image pixels -> input pixels.
        scale: at which the image was looked at.
    """

    maps: dict[str, Tensor]
    affine: Affine
    scale: float


class MapFile:
    """Reads what ``write_maps`` wrote.

    Attributes:
        path: the file.
        description: of the detector whose maps these are.
        attributes: flip, scales, resize and the rest, as stored.
    """

    def __init__(self, path: Path, file: Any) -> None:
        self.path, self._file = path, file
        self.attributes = dict(file.attrs)
        self.description = _description(file["description"][()])
        self._rows: dict[int, list[tuple[str, int]]] = {}
        for size, group in file.items():
            if size != "description":
                for row, image_id in enumerate(group["image_id"][:].tolist()):
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
            raise CtnetError(
                f"{path} is no HDF5 file, or was cut short; make it anew with --save-maps"
            ) from error
        with file:
            if file.attrs.get("format") != FORMAT:
                raise CtnetError(f"{path} holds no maps of ctnet; make such a file with --save-maps")
            try:
                maps = cls(path, file)
            except (KeyError, OSError, TypeError, ValueError) as error:
                raise CtnetError(f"{path} is damaged ({error}); make it anew with --save-maps") from error
            yield maps

    @property
    def scales(self) -> tuple[float, ...]:
        """The scales at which every image was looked at."""
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
        except OSError as error:
            raise CtnetError(
                f"the maps of image {image_id} in {self.path} are damaged; make the file anew"
            ) from error
        return sorted(stored, key=lambda one: one.scale)

    def _read(self, size: str, row: int) -> StoredMaps:
        group = self._file[size]
        maps = {
            name: torch.from_numpy(values[row : row + 1]).float() for name, values in group["maps"].items()
        }
        return StoredMaps(maps, Affine(group["affine"][row]), float(group["scale"][row]))


def _description(text: bytes) -> Description:
    fields = json.loads(text)
    for name in ("size", "mean", "std"):
        fields[name] = tuple(fields[name])
    return Description(**fields)


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

    HDF5 cannot close a file whose last writes fail (the process dies of it); so it is let believe that all is
    well, and whoever uses it asks ``check``.
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
        """Raise what went wrong, if anything did."""
        if self.failure is not None:
            raise self.failure
