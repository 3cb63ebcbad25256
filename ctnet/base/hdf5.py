"""Reading HDF5 files from any source, and writing them on disks that may be full."""

from __future__ import annotations

import io
from typing import Any

import numpy as np

#: The errors of h5py for a damaged file.
UNREADABLE = (
    AttributeError,
    LookupError,
    MemoryError,
    OSError,
    OverflowError,
    RuntimeError,
    TypeError,
    ValueError,
)


def member(group: Any, name: str) -> Any:
    """A member of a group itself; links to other places or files are not followed."""
    import h5py

    if not isinstance(group, h5py.Group) or not isinstance(group.get(name, getlink=True), h5py.HardLink):
        raise ValueError(f"it has no {name} of its own")
    return group[name]


def own_dataset(group: Any, name: str, rows: int | None, tail: tuple[int | None, ...], kind: str) -> Any:
    """A dataset of a shape and kind of numbers, with its values in the file itself."""
    import h5py

    values = member(group, name)
    if not isinstance(values, h5py.Dataset) or values.external or values.is_virtual:
        raise ValueError(f"{name} is not a dataset with values of its own")
    shape = (rows, *tail)
    fits = len(values.shape or ()) == len(shape) and all(
        side in (None, own) for own, side in zip(values.shape, shape, strict=True)
    )
    if not fits or values.dtype.kind != kind:
        raise ValueError(f"{name} is {values.dtype} of shape {values.shape}")
    return values


def attribute(file: Any, name: str) -> Any:
    """An attribute as a JSON value."""
    import h5py

    kind = file.attrs.get_id(name).dtype
    if h5py.check_dtype(vlen=kind) is not None or h5py.check_dtype(ref=kind) is not None:
        raise ValueError(f"its attribute {name} is of variable length")
    value = file.attrs[name]
    if isinstance(value, bytes):
        return value.decode()
    return value.tolist() if isinstance(value, (np.ndarray, np.generic)) else value


class Sink(io.FileIO):
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
