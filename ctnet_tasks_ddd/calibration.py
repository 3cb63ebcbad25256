"""Calibration files of KITTI: the projection matrix of each frame's left colour camera."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from ctnet.plugin import BadRecord, CtnetError, read_lines, whole_number
from ctnet_tasks_ddd.frame_files import FrameFiles
from ctnet_tasks_ddd.objects import LARGEST

Matrix = list[list[float]]

IMAGE_SIZES = {707.0493: (1224, 370), 721.5377: (1242, 375), 718.3351: (1238, 374), 718.856: (1241, 376)}
"""The benchmark's cameras: focal length, pixels -> size of the rectified images, (width, height)."""


class Calibrations:
    """The calibration of every frame: a file for each, or few files and an index that tells whose they
    are."""

    def __init__(self, files: FrameFiles | None, index: dict[str, _Indexed]) -> None:
        self._files = files
        self._names = set(files.names) if files else set()
        self._index = index

    @classmethod
    def open(cls, source: Path) -> Calibrations:
        """Find them in a folder: ``training/calib/NNNNNN.txt``, or ``calib_index.txt``, or a zip.

        The index has lines ``FRAME NAME WIDTH HEIGHT``: the calibration of the frame is ``calib/NAME.txt``
        and its image has that size.

        Raises:
            CtnetError: when there are none, or the index cannot be read.
        """
        index = source / "calib_index.txt"
        if index.is_file():
            return cls(None, _read_index(index))
        for place in (source / "training" / "calib", source / "calib", *sorted(source.glob("*calib*.zip"))):
            if place.exists():
                return cls(FrameFiles.open(place, ("training/calib",)), {})
        raise CtnetError(
            f"{source} has no calibration: put the benchmark's training/calib or data_object_calib.zip there"
        )

    def size(self, frame: str) -> tuple[int, int] | None:
        """Width and height of the frame's image, if the index tells."""
        return self._index[frame].size if frame in self._index else None

    def matrix(self, frame: str) -> Matrix:
        """P2, 3x4: from the camera's frame (metres) to homogeneous pixels of the left colour image.

        Raises:
            BadRecord: when it is missing or broken.
        """
        if frame in self._index:
            return _of_file(self._index[frame].path)
        if self._files is None or frame not in self._names:
            raise BadRecord("no calibration", f"looked for {frame}.txt")
        return _parse(self._files.read(frame), f"calib/{frame}.txt")


@dataclass(frozen=True)
class _Indexed:
    path: Path
    size: tuple[int, int]


def check_size(matrix: Matrix, size: tuple[int, int]) -> None:
    """Raise BadRecord when a calibration cannot belong to an image of this size.

    Args:
        matrix: P2.
        size: (width, height), pixels.
    """
    shown = f"the image has {size[0]}x{size[1]}"
    expected = known_size(matrix)
    if expected not in (None, size):
        assert expected is not None
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


def _read_index(index: Path) -> dict[str, _Indexed]:
    found = {}
    for number, line in enumerate(read_lines(index), start=1):
        fields = line.split()
        if not fields:
            continue
        size = tuple(whole_number(field) for field in fields[2:])
        if len(fields) != 4 or None in size:
            raise CtnetError(f"{index}:{number} is no line FRAME NAME WIDTH HEIGHT: {line.strip()[:60]!r}")
        path = index.parent / "calib" / f"{fields[1]}.txt"
        found[fields[0]] = _Indexed(path, (size[0] or 0, size[1] or 0))
    return found


@cache
def _of_file(path: Path) -> Matrix:
    return _parse("\n".join(read_lines(path)), f"calib/{path.name}")


def _parse(text: str, where: str) -> Matrix:
    for line in text.splitlines():
        name, _, rest = line.partition(":")
        if name.strip() == "P2":
            return _matrix(rest.split(), where)
    raise BadRecord("calibration without P2", f"{where} has no line that begins with P2:")


def _matrix(tokens: list[str], where: str) -> Matrix:
    try:
        numbers = [float(token) for token in tokens]
    except ValueError:
        numbers = []
    if len(numbers) != 12 or not all(abs(number) <= LARGEST for number in numbers):
        raise BadRecord("calibration whose P2 is no 12 finite numbers", f"{where} has {len(tokens)} values")
    if numbers[0] <= 0 or numbers[5] <= 0 or numbers[10] <= 0:
        raise BadRecord(
            "calibration whose P2 is no camera", f"{where} has a focal length that is not positive"
        )
    return [numbers[0:4], numbers[4:8], numbers[8:12]]
