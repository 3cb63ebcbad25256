"""The camera of images without a data set."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ctnet.base.errors import CtnetError
from ctnet.base.files import is_file, read_text
from ctnet.base.numbers import LARGEST_COORDINATE

#: The line of a KITTI calibration file that belongs to the left colour camera.
_KITTI_LINE = "P2:"


@dataclass(frozen=True)
class Camera:
    """The camera given to ``predict``, if any.

    Attributes:
        calib: a calibration file, or a folder with one ``<image name>.txt`` for every image, with or without
            the images' subfolders.
        focal: focal length in pixels, with the principal point at the centre of the image.

    Raises:
        CtnetError: for both at once, and for a focal length that is not a positive number.
    """

    calib: Path | None = None
    focal: float | None = None

    def __post_init__(self) -> None:
        if self.calib is not None and self.focal is not None:
            raise CtnetError("--calib and --focal both describe the camera; give one of them")
        if self.focal is not None and not 0 < self.focal <= LARGEST_COORDINATE:
            raise CtnetError(f"the focal length is {self.focal:g} pixels; it must be a positive number")

    def record(self, name: str, width: int, height: int) -> dict[str, Any]:
        """The entries of an image's record that describe its camera: ``calib``, 3x4, or none.

        Args:
            name: the name of the image file.
            width, height: size of the image, pixels.

        Raises:
            CtnetError: when the file is missing or holds no projection matrix.
        """
        if self.focal is not None:
            rows = [[self.focal, 0.0, width / 2, 0.0], [0.0, self.focal, height / 2, 0.0]]
            return {"calib": [*rows, [0.0, 0.0, 1.0, 0.0]]}
        if self.calib is None:
            return {}
        if not self.calib.is_dir():
            return {"calib": read_projection(self.calib)}
        of_image = self.calib / Path(name).with_suffix(".txt")
        return {"calib": read_projection(of_image if is_file(of_image) else self.calib / of_image.name)}


def read_projection(path: str | Path) -> list[list[float]]:
    """Read a 3x4 projection matrix: the line ``P2:`` of a KITTI calibration file, or twelve numbers.

    Raises:
        CtnetError: when the file cannot be read or holds something else.
    """
    path = Path(path)
    text = read_text(path, errors="replace")
    lines = [line.split(":", 1)[1] for line in text.splitlines() if line.startswith(_KITTI_LINE)]
    try:
        values = [float(word) for word in (lines[0] if lines else text).replace(",", " ").split()]
    except ValueError:
        values = []
    if len(values) != 12 or not all(abs(value) <= LARGEST_COORDINATE for value in values):
        raise CtnetError(
            f"{path} holds no projection matrix; it needs a line 'P2:' with twelve numbers (KITTI), or "
            "twelve numbers alone, row by row"
        )
    return [values[0:4], values[4:8], values[8:12]]
