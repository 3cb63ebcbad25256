"""Following the objects of a video: identities for the detections of frame after frame."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np

from ctnet.core.fields import move_record
from ctnet.core.geometry import Affine
from ctnet.core.records import Detections, object_column
from ctnet.ops.boxes import box_centres

#: The column of detections that holds the identity of each object; -1 for none.
TRACK = "track_id"


class Tracker(ABC):
    """Follows the objects of one stream: gives the detections of each frame the identities of objects.

    A detection that continues an object gets its identity; one that continues none, and scores at least
    ``birth``, is a new object. An object that is not seen moves on as it last did, and is forgotten after
    ``patience`` frames. Identities count up from 1 and are never used again, not after a reset either.

    Args:
        task: whose detections they are.
        birth: lowest score of a new object.
        patience: frames that an object may stay unseen.

    Attributes:
        objects: the objects that are followed, as they were last seen: ``Detections`` in image pixels with
            ``track_id`` (N,) int64, ``unseen`` (N,) int64, the frames since, and ``velocity`` (N, 2) float64,
            pixels per frame.
        skipped: frames that were lost since the last one.
    """

    #: A detection continues an object from this fraction of ``birth`` on.
    LOW = 0.5

    def __init__(self, task: Any, birth: float, patience: int = 30) -> None:
        self.task, self.birth, self.patience = task, birth, patience
        self.objects: Detections | None = None
        self.skipped = 0
        self._next = 1

    @abstractmethod
    def match(self, objects: Detections, found: Detections) -> tuple[np.ndarray, np.ndarray]:
        """Which detections continue which objects: rows of ``objects``, rows of ``found``, each at most once.

        Args:
            objects: the objects; those not seen in the last frame moved to where they should be in it.
            found: detections of this frame, best first, that score at least ``LOW * birth``.
        """

    def update(self, found: Detections) -> Detections:
        """The detections of the next frame with the column ``track_id`` (N,) int64; -1 for none.

        Args:
            found: one image's, numpy columns, best first.
        """
        identity = np.full(len(found), -1, np.int64)
        velocity = np.zeros((len(found), 2))
        possible = np.flatnonzero(np.asarray(found.scores) >= self.LOW * self.birth)
        lost = None
        if self.objects is not None and len(self.objects):
            live = self.moved(self.objects, self.objects.unseen - self.skipped)
            olds, news = self.match(live, found[possible])
            news = possible[news]
            identity[news] = live.track_id[olds]
            velocity[news] = self._velocity(self.objects[olds], found[news])
            lost = np.setdiff1d(np.arange(len(live)), olds)
        born = possible[(identity[possible] < 0) & (np.asarray(found.scores)[possible] >= self.birth)]
        identity[born] = self._next + np.arange(len(born))
        self._next += len(born)
        self.skipped = 0
        followed = found.replace(track_id=identity)
        seen = identity >= 0
        unseen = np.zeros(int(seen.sum()), np.int64)
        now = followed[seen].replace(unseen=unseen, velocity=velocity[seen])
        before = self.objects
        self.objects = now
        if before is not None and lost is not None and len(lost):
            aged = before[lost].replace(unseen=before.unseen[lost] + 1)
            self.objects = _joined(now, aged[aged.unseen <= self.patience])
        return followed

    def skip(self, frames: int = 1) -> None:
        """Frames were lost: the objects grow older, and those unseen for too long are forgotten."""
        self.skipped += frames
        if self.objects is not None:
            aged = self.objects.replace(unseen=self.objects.unseen + frames)
            self.objects = aged[aged.unseen <= self.patience]

    def reset(self) -> None:
        """What comes next shows nothing that was there before: all objects are forgotten."""
        self.objects, self.skipped = None, 0

    @property
    def prior(self) -> Detections | None:
        """The objects seen in the last frame: what the planes show of it."""
        return None if self.objects is None else self.objects[self.objects.unseen == self.skipped]

    def moved(self, objects: Detections, frames: np.ndarray) -> Detections:
        """Objects as they would be so many frames after they were last seen, at constant velocity.

        Args:
            objects: N rows.
            frames: (N,).
        """
        if not len(objects) or not np.any(frames):
            return objects
        rows = []
        for row in range(len(objects)):
            x, y = objects.velocity[row] * frames[row]
            shift = Affine(np.array([[1.0, 0, x], [0, 1.0, y]]))
            rows.append(move_record(objects[row], shift, self.task.fields))
        joined = rows[0]
        for other in rows[1:]:
            joined = _joined(joined, other)
        return joined

    @staticmethod
    def _velocity(objects: Detections, found: Detections) -> np.ndarray:
        """(N, 2) pixels per frame: half of the new motion, half of the old, so that noise averages out."""
        frames = objects.unseen[:, None] + 1
        step = (box_centres(found.boxes) - box_centres(objects.boxes)) / frames
        known = np.any(objects.velocity != 0, axis=1, keepdims=True)
        mixed: np.ndarray = np.where(known, (step + objects.velocity) / 2, step)
        return mixed


def _joined(first: Detections, second: Detections) -> Detections:
    """All rows of two records with the same columns."""
    if not len(second):
        return first
    one, other = first.fields(), second.fields()
    columns = {}
    for name, column in one.items():
        if np.asarray(column).dtype == object:
            columns[name] = object_column([*column, *other[name]])
        else:
            columns[name] = np.concatenate([np.asarray(column), np.asarray(other[name])])
    return first.replace(**columns)


class OverlapTracker(Tracker):
    """Follows objects by how much they overlap, for detections of any task.

    Objects are expected where their velocity takes them. Sure detections (from ``birth`` on) are matched
    first, best overlap first; what is left of the objects may be continued by doubtful ones.

    Source: Zhang et al., "ByteTrack: Multi-Object Tracking by Associating Every Detection Box", 2022, with
    ``Task.overlap`` in place of the IoU, and constant velocity in place of a Kalman filter.
    """

    #: Least overlap of a sure detection with the object that it continues, and of a doubtful one.
    SURE, DOUBTFUL = 0.2, 0.5

    def match(self, objects: Detections, found: Detections) -> tuple[np.ndarray, np.ndarray]:
        ahead = self.moved(objects, np.full(len(objects), 1 + self.skipped))
        overlap = np.asarray(self.task.overlap(ahead, found), np.float64).reshape(len(ahead), len(found))
        overlap = np.where(ahead.labels[:, None] == np.asarray(found.labels)[None], overlap, -1.0)
        sure = np.asarray(found.scores) >= self.birth
        first = np.where(sure[None] & (overlap >= self.SURE), overlap, -1.0)
        olds, news = best_pairs(first)
        doubtful = (~sure & np.ones(len(found), bool))[None] & (overlap >= self.DOUBTFUL)
        # Only objects seen in the last frame: doubtful detections bring nobody back.
        doubtful &= (objects.unseen == self.skipped)[:, None] & ~np.isin(np.arange(len(ahead)), olds)[:, None]
        more_olds, more_news = best_pairs(np.where(doubtful, overlap, -1.0))
        return np.concatenate([olds, more_olds]), np.concatenate([news, more_news])


def best_pairs(worth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of rows and columns, the most worth first, each used once; a negative entry is never a pair.

    Args:
        worth: (N, M).
    """
    rows, columns = np.nonzero(worth >= 0)
    order = np.argsort(-worth[rows, columns], kind="stable")
    free_rows, free_columns = np.ones(worth.shape[0], bool), np.ones(worth.shape[1], bool)
    pairs = []
    for row, column in zip(rows[order].tolist(), columns[order].tolist(), strict=True):
        if free_rows[row] and free_columns[column]:
            free_rows[row] = free_columns[column] = False
            pairs.append((row, column))
    table = np.array(pairs, np.int64).reshape(-1, 2)
    return table[:, 0], table[:, 1]
