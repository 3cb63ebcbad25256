"""Tracks as files: MOTChallenge's text of every video, and pictures with trails."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from ctnet.base.files import atomic_write
from ctnet.core.records import Detections
from ctnet.core.tracking import TRACK
from ctnet.inference.sources import Source
from ctnet.report.trails import Trails


class TrackWriter:
    """Collects the tracks of a source, and writes a text file for each of its videos.

    A line is ``frame,id,left,top,width,height,score,label,-1,-1``: frames count from 1, positions are image
    pixels from 0, and labels count the detector's classes from 1.

    Args:
        folder: where the files go, named after the video.
        source: what is followed.
        free: makes a file's name unique.
    """

    def __init__(self, folder: Path, source: Source, free: Callable[[Path], Path]) -> None:
        self._folder, self._source, self._free = folder, source, free
        self._lines: dict[str, list[str]] = {}
        self._trails: dict[str, Trails] = {}
        self._last = ""

    def add(self, video: str, frame: int, found: Detections) -> None:
        """The objects of a frame.

        Args:
            video: the folder of its images, relative to the source; "." or "" for the source itself.
            frame: its number, from 1.
            found: with the column ``track_id``.
        """
        self._last = video
        lines = self._lines.setdefault(video, [])
        boxes = np.asarray(found.boxes, np.float64)
        for row, identity in enumerate(found.extra[TRACK].tolist()):
            x1, y1, x2, y2 = boxes[row].tolist()
            score, label = float(found.scores[row]), int(found.labels[row]) + 1
            lines.append(
                f"{frame},{identity},{x1:.2f},{y1:.2f},{x2 - x1:.2f},{y2 - y1:.2f},{score:.4f},{label},-1,-1"
            )

    def draw(self, picture: np.ndarray, found: Detections) -> np.ndarray:
        """The picture of the frame that was last added, with numbers and trails."""
        return self._trails.setdefault(self._last, Trails()).draw(picture, found)

    def close(self) -> list[Path]:
        """Write the files.

        Returns:
            Their paths.

        Raises:
            CtnetError: when one cannot be written.
        """
        stem = self._source.stem or Path(self._source.name).stem or "video"
        paths = []
        for video, lines in self._lines.items():
            name = stem if video in ("", ".") else video
            path = self._free(self._folder / f"{name}.txt")
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(path) as stream:
                stream.write("".join(f"{line}\n" for line in sorted(lines, key=_order)).encode())
            paths.append(path)
        return paths


def _order(line: str) -> tuple[int, int]:
    """By frame, then identity."""
    frame, identity, _ = line.split(",", 2)
    return int(frame), int(identity)
