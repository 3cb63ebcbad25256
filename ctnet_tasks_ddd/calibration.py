"""Calibration files of KITTI: the projection matrix of each frame's left colour camera."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from ctnet.plugin import BadRecord, CtnetError, finite_number, numbered_lines, read_lines, whole_number
from ctnet_tasks_ddd.frame_files import FrameFiles

Matrix = list[list[float]]

IMAGE_SIZES = {707.0493: (1224, 370), 721.5377: (1242, 375), 718.3351: (1238, 374), 718.856: (1241, 376)}
"""The benchmark's cameras: focal length, pixels -> size of the rectified images, (width, height)."""


@dataclass(frozen=True)
class Calibrations:
    """The calibration of every frame.

    Attributes:
        files: a file per frame; None where an index assigns calibrations to frames.
        index: frame -> file of its calibration, and (width, height) of its image.
    """

    files: FrameFiles | None
    index: Mapping[str, tuple[Path, tuple[int, int]]]

    @classmethod
    def open(cls, source: Path) -> Calibrations:
        """Find the calibrations of a folder: ``training/calib/NNNNNN.txt``, or ``calib_index.txt``, or a zip.

        The index has lines ``FRAME NAME WIDTH HEIGHT``: the frame has the calibration ``calib/NAME.txt`` and
        an image of that size.

        Raises:
            CtnetError: when there are none, or the index cannot be read.
        """
        if (source / "calib_index.txt").is_file():
            return cls(None, _read_index(source / "calib_index.txt"))
        files = FrameFiles.first_of(
            [source / "training" / "calib", source / "calib", *sorted(source.glob("*calib*.zip"))],
            ("training/calib",),
            f"{source} has no calibration: put the benchmark's training/calib or data_object_calib.zip there",
        )
        return cls(files, {})

    def size(self, frame: str) -> tuple[int, int] | None:
        """Width and height of the frame's image, if the index states them."""
        return self.index[frame][1] if frame in self.index else None

    def matrix(self, frame: str) -> Matrix:
        """P2, 3x4: from the camera's frame (metres) to homogeneous pixels of the left colour image.

        Raises:
            BadRecord: when it is missing or broken.
        """
        if frame in self.index:
            return _of_file(self.index[frame][0])
        if self.files is None or frame not in self.files:
            raise BadRecord("no calibration", f"looked for {frame}.txt")
        return _parse(self.files.read(frame).splitlines(), f"calib/{frame}.txt")


def check_size(matrix: Matrix, size: tuple[int, int]) -> None:
    """Raise BadRecord when a calibration cannot belong to an image of this size.

    Args:
        matrix: P2.
        size: (width, height), pixels.
    """
    shown = f"the image has {size[0]}x{size[1]}"
    expected = known_size(matrix)
    if expected is not None and expected != size:
        raise BadRecord(
            "calibration of another frame", f"it is of {expected[0]}x{expected[1]} images, {shown}"
        )
    center = matrix[0][2] / matrix[2][2], matrix[1][2] / matrix[2][2]
    if not (0 < center[0] < size[0] and 0 < center[1] < size[1]):
        raise BadRecord(
            "calibration of another frame", f"its principal point is {center[0]:g}, {center[1]:g}, {shown}"
        )


def known_size(matrix: Matrix) -> tuple[int, int] | None:
    """(width, height) of the images of the benchmark's camera with this matrix; None for another camera."""
    return IMAGE_SIZES.get(round(matrix[0][0], 4))


def _read_index(index: Path) -> dict[str, tuple[Path, tuple[int, int]]]:
    found = {}
    for where, line in numbered_lines(read_lines(index), index):
        fields = line.split()
        width, height = (whole_number(field) or 0 for field in [*fields, "", ""][2:4])
        if len(fields) != 4 or not (width and height):
            raise CtnetError(f"{where} is not a line FRAME NAME WIDTH HEIGHT: {line.strip()[:60]!r}")
        path = index.parent / "calib" / f"{fields[1]}.txt"
        found[fields[0]] = path, (width, height)
    return found


@cache
def _of_file(path: Path) -> Matrix:
    return _parse(read_lines(path), f"calib/{path.name}")


def _parse(lines: Iterable[str], where: str) -> Matrix:
    named = (line.partition(":") for line in lines)
    tokens = next((rest.split() for name, _, rest in named if name.strip() == "P2"), None)
    if tokens is None:
        raise BadRecord("calibration without P2", f"{where} has no line that begins with P2:")
    numbers = [value for value in map(finite_number, tokens) if value is not None]
    if len(numbers) != 12 or len(tokens) != 12:
        raise BadRecord("calibration whose P2 is not 12 finite numbers", f"{where} has {len(tokens)} values")
    if min(numbers[0], numbers[5], numbers[10]) <= 0:
        raise BadRecord(
            "calibration whose P2 is not a camera", f"{where} has a focal length that is not positive"
        )
    return [numbers[0:4], numbers[4:8], numbers[8:12]]
