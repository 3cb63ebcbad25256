"""Measuring tracks that are in files: MOTChallenge's text, one file per video."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ctnet.plugin import (
    BadRecord,
    CtnetError,
    Dataset,
    Detections,
    numbered_lines,
    read_lines,
)
from ctnet_tasks_tracks.evaluation import TrackEvaluator
from ctnet_tasks_tracks.sequences import exact, whole


def measure_files(folder: Path, data: Path, split: str) -> dict[str, float]:
    """The figures of ``TrackEvaluator`` for tracks in ``<folder>/<video>.txt``.

    Args:
        folder: the files; a video without one has no tracks.
        data: the data directory.
        split: its split.

    Raises:
        CtnetError: for a split without videos, a folder without a file of any of them, and a line that cannot
            be used.
    """
    dataset = Dataset.open(data, split)
    videos = dataset.videos
    if not videos.frames:
        raise CtnetError(f"split {split} of {data} has no videos: no image has a video_id and a frame_id")
    content = dataset.as_coco(full=True)
    ids = [int(one["id"]) for one in sorted(dataset.categories, key=lambda one: int(one["id"]))]
    names = {int(one["id"]): str(one["name"]) for one in dataset.categories}
    evaluator = TrackEvaluator(content, ids, [names[one] for one in ids])
    read = 0
    for video, frames in videos.frames.items():
        path = folder / f"{video}.txt"
        if not path.is_file():
            continue
        read += 1
        rows = _rows(path, len(ids))
        for position, index in enumerate(frames, start=1):
            mine = rows[rows[:, 0] == position]
            evaluator.update(dataset.info(index).image_id, _detections(mine))
    if not read:
        raise CtnetError(
            f"{folder} has no file of a video of {split} ({next(iter(videos.frames))}.txt, ...); write them "
            "with `ctnet predict RUN FOLDER_OF_VIDEOS --track`"
        )
    return evaluator.compute()


def _rows(path: Path, classes: int) -> np.ndarray:
    """(N, 8): frame (from 1, in their order), identity, left, top, width, height, score, label."""
    rows, seen = [], set()
    for where, line in numbered_lines(read_lines(path), path.name):
        words = line.split(",")
        try:
            if len(words) < 7:
                raise BadRecord("line that is not 7 or more words", line)
            frame, identity = whole(words[0]), whole(words[1])
            values = [float(exact(word)) for word in words[2:7]]
            label = whole(words[7]) if len(words) > 7 else 1
            label = 1 if label == -1 else label
            if not 1 <= label <= classes:
                raise BadRecord(f"class that is not 1 to {classes}", str(label))
            if (frame, identity) in seen:
                raise BadRecord("identity that occurs twice in a frame", f"{identity} in frame {frame}")
        except BadRecord as error:
            raise CtnetError(f"{error.at(where)}; correct the line") from error
        seen.add((frame, identity))
        rows.append([frame, identity, *values, label])
    return np.array(rows, np.float64).reshape(-1, 8)


def _detections(rows: np.ndarray) -> Detections:
    boxes = rows[:, 2:6].copy()
    boxes[:, 2:] += boxes[:, :2]
    scores = np.where(rows[:, 6] < 0, 1.0, rows[:, 6])
    identity = rows[:, 1].astype(np.int64)
    return Detections(boxes, scores, rows[:, 7].astype(np.int64) - 1, {"track_id": identity})
