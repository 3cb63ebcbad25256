"""From activated maps to detections in image pixels: one look at an image, and several looks joined."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from ctnet.base.choices import Nms
from ctnet.base.errors import CtnetError
from ctnet.core.fields import move_record
from ctnet.core.geometry import Affine, View
from ctnet.core.records import Detections, object_column
from ctnet.core.task import Task
from ctnet.inference.settings import DetectionSettings
from ctnet.inference.timing import StageTimes
from ctnet.ops.nms import suppress, suppress_by

#: Rows whose overlaps with all others a task is asked for at once: few calls, and little memory within one.
_BLOCK = 64


@torch.inference_mode()
def decode(
    task: Task,
    maps: Mapping[str, Tensor],
    views: Sequence[View],
    settings: DetectionSettings,
    times: StageTimes | None = None,
) -> list[Detections]:
    """Read detections off maps, wherever the maps come from: a network, a file, rendered ground truth.

    Args:
        task: knows how.
        maps: activated, (B, C, H, W) by head.
        views: how the maps lie over each of the B images.
        settings: of these topk, score, and what suppression follows (nms, scales) count.
        times: takes in how long the stages take.

    Returns:
        One record per image, best first, in pixels of that image, lifted: at most ``topk`` rows, or as many
        as suppression is to choose from.
    """
    times = StageTimes() if times is None else times
    with times.stage("decode"):
        found = task.decode(maps, candidates(task, settings)).without("cells").per_image()
    with times.stage("post"):
        return [
            place(task, detections, view.affine, view, settings)
            for view, detections in zip(views, found, strict=True)
        ]


def candidates(task: Task, settings: DetectionSettings) -> int:
    """How many detections of an image are decoded: more than wanted, where suppression is to choose."""
    return max(settings.topk, task.suppression.candidates)


def place(
    task: Task, found: Detections, affine: Affine, view: View, settings: DetectionSettings
) -> Detections:
    """Detections of one image as decoded -> the best above the score, in image pixels, lifted.

    Args:
        task: whose they are.
        found: best first; numpy columns.
        affine: from their frame to image pixels.
        view: how the grid lies over the image.
        settings: of these topk, score, and what suppression follows count.
    """
    suppressed = settings.suppression(task) != "none"
    kept = candidates(task, settings) if suppressed else settings.topk
    best = found[found.scores > settings.score][:kept]
    return task.lift(move_record(best, affine, task.fields), view)


def merge(task: Task, looks: Sequence[Detections], settings: DetectionSettings) -> Detections:
    """Join the detections of one image that one or several looks at it gave; suppress class by class.

    Args:
        task: says how much two detections overlap.
        looks: at least one; numpy columns, in image pixels, lifted.
        settings: of these topk, score, and the method of suppression (nms, scales) count.

    Returns:
        The best ``topk``, best first, with the weakened scores.

    Raises:
        CtnetError: when looks have different columns.
    """
    joined, method = _joined(looks), settings.suppression(task)
    labels = np.asarray(joined.labels)
    kept, scores = [np.zeros(0, np.int64)], [np.zeros(0)]
    for label in np.unique(labels) if method != "none" else [None]:
        members = np.arange(len(labels)) if label is None else np.flatnonzero(labels == label)
        rows, weakened = _suppressed(task, joined[members], method)
        kept.append(members[rows])
        scores.append(weakened)
    score = np.concatenate(scores)
    best = np.argsort(-score, kind="stable")
    best = best[score[best] > settings.score][: settings.topk]
    result = joined[np.concatenate(kept)[best]]
    return result.replace(scores=score[best].astype(np.asarray(joined.scores).dtype))


def _suppressed(task: Task, found: Detections, method: Nms) -> tuple[np.ndarray, np.ndarray]:
    """Rows of one class that stay, and their scores; by the task's own overlap where it has one.

    Upright boxes are counted in whole pixels, as in the released code, which keeps its figures.
    """
    if method == "none" or type(task).overlap is Task.overlap:
        return suppress(found.boxes, found.scores, method)
    blocks = [task.overlap(found[row : row + _BLOCK], found) for row in range(0, len(found), _BLOCK)]
    return suppress_by(np.concatenate(blocks).__getitem__, found.scores, method)


def _joined(looks: Sequence[Detections]) -> Detections:
    """All rows of several looks; one that found nothing has no say in what the columns are."""
    parts = [look for look in looks if len(look)] or list(looks[:1])
    if len(parts) == 1:
        return parts[0]
    columns = [part.fields() for part in parts]
    names = {name: None for column in columns for name in column}
    for column in columns:
        for name in names:
            if name not in column:
                raise CtnetError(
                    f"two looks at one image cannot be merged: one has a column {name!r}, the other only "
                    f"{', '.join(column)}; Task.decode and Task.lift must give every look the same columns"
                )
    return parts[0].replace(**{name: _stacked([column[name] for column in columns]) for name in names})


def _stacked(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Rows after rows: of one shape as an array, else as an array of objects."""
    arrays = [np.asarray(part) for part in parts]
    if len({array.shape[1:] for array in arrays}) == 1:
        return np.concatenate(arrays)
    return object_column(row for array in arrays for row in array)
