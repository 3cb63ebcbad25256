"""The objects of KITTI's label and result files, as columns over many frames."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from ctnet.plugin import (
    LARGEST_COORDINATE,
    BadRecord,
    CtnetError,
    checked_number,
    numbered_lines,
    shorten,
)

FIELDS = (
    "class", "truncation", "occlusion", "alpha", "left", "top", "right", "bottom",
    "height", "width", "length", "x", "y", "z", "rotation_y", "score",
)  # fmt: skip
"""The columns of a line in a result file; a label has all but the last."""

LABEL_COLUMNS = 15
RESULT_COLUMNS = 16
NO_ALPHA = -10.0  #: the observation angle of a result without orientation
NO_LOCATION = -1000.0  #: the coordinates of an object without a 3D box; its sizes are -1


@dataclass(frozen=True)
class KittiObjects:
    """Labels or results of many frames as columns, frame by frame and in the order of the files.

    Attributes:
        frame_names: (F,) the frames, including those without objects.
        frame: (N,) int64, ascending: index into ``frame_names``.
        types: (N,) class names as in the files ("Car", "DontCare", ...).
        truncation: (N,) float64, fraction of the object outside the image; -1 unknown.
        occlusion: (N,) float64, 0 visible, 1 partly, 2 largely hidden, 3 unknown; -1 in results.
        alpha: (N,) float64, observation angle, rad; -10 for none.
        boxes: (N, 4) float64, xyxy, image pixels.
        dimensions: (N, 3) float64, height, width, length, m; -1 for none.
        location: (N, 3) float64, bottom centre in the camera's frame (x right, y down, z forward), m; -1000
            for none.
        rotation_y: (N,) float64, rad.
        scores: (N,) float64; NaN for labels.
    """

    frame_names: tuple[str, ...]
    frame: np.ndarray
    types: tuple[str, ...]
    truncation: np.ndarray
    occlusion: np.ndarray
    alpha: np.ndarray
    boxes: np.ndarray
    dimensions: np.ndarray
    location: np.ndarray
    rotation_y: np.ndarray
    scores: np.ndarray

    def __len__(self) -> int:
        return len(self.types)

    @classmethod
    def of_frames(
        cls, names: Sequence[str], types: Iterable[Sequence[str]], values: Sequence[np.ndarray]
    ) -> KittiObjects:
        """Join the objects of frames.

        Args:
            names: the names of the frames.
            types: class names of each frame's objects.
            values: (n, 14) or (n, 15) float64 for each frame: ``FIELDS`` without the class, with or without
                the score.
        """
        counts = [len(part) for part in values]
        table = np.full((sum(counts), RESULT_COLUMNS - 1), np.nan)
        for part, end in zip(values, np.cumsum(counts), strict=True):
            table[end - len(part) : end, : part.shape[1]] = part
        return cls(
            frame_names=tuple(names),
            frame=np.repeat(np.arange(len(counts)), counts),
            types=tuple(name for frame in types for name in frame),
            truncation=table[:, 0],
            occlusion=table[:, 1],
            alpha=table[:, 2],
            boxes=table[:, 3:7],
            dimensions=table[:, 7:10],
            location=table[:, 10:13],
            rotation_y=table[:, 13],
            scores=table[:, 14],
        )

    @property
    def boxes_3d(self) -> np.ndarray:
        """(N, 7) float64: x, y, z, height, width, length, rotation_y."""
        return np.concatenate([self.location, self.dimensions, self.rotation_y[:, None]], axis=1)


def parse_lines(text: str, columns: int, where: str) -> tuple[list[str], np.ndarray]:
    """Class names (n) and all other columns (n, columns - 1) of a label or result file, without blank lines.

    Args:
        text: content of the file.
        columns: 15 for labels, 16 for results.
        where: the file, for messages.

    Raises:
        CtnetError: for a line with the wrong number of columns or a value that is not a finite number.
    """
    rows = [row for row in map(str.split, text.splitlines()) if row]
    try:
        values = np.array([float(token) for row in rows for token in row[1:]])
        if all(len(row) == columns for row in rows) and (np.abs(values) <= LARGEST_COORDINATE).all():
            # Class names are shared between lines: results may have millions.
            return [sys.intern(row[0]) for row in rows], values.reshape(len(rows), columns - 1)
    except ValueError:
        pass
    for place, line in numbered_lines(text.splitlines(), where):
        try:
            check_fields(line.split(), columns)
        except BadRecord as bad:
            raise CtnetError(str(bad.at(place))) from None
    raise AssertionError("a line was refused that has no error")


def check_fields(fields: Sequence[str], columns: int) -> None:
    """Raise BadRecord unless a line has the right number of columns, all but the first finite numbers."""
    if len(fields) != columns:
        kind = "result" if columns == RESULT_COLUMNS else "label"
        raise BadRecord(
            f"line of {len(fields)} columns", f"a {kind} has {columns}: {_advice(fields, columns)}"
        )
    for name, token in zip(FIELDS[1:], fields[1:], strict=False):
        checked_number(token, f"{name} that is not a finite number", f"it is {shorten(token)}")


def _advice(fields: Sequence[str], columns: int) -> str:
    if len(fields) == LABEL_COLUMNS and columns == RESULT_COLUMNS:
        return "add the score as the last one"
    if len(fields) == RESULT_COLUMNS and columns == LABEL_COLUMNS:
        return "remove the score at its end, or is this a result file?"
    return " ".join(FIELDS[:columns])
