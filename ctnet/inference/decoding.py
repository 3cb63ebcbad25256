"""From activated maps to detections in image pixels: for one view of an image, and merging several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from ctnet.base.choices import Nms
from ctnet.base.errors import CtnetError
from ctnet.core.fields import move_record
from ctnet.core.geometry import Affine, View
from ctnet.core.records import Detections, ImageInfo, object_column
from ctnet.core.task import Task
from ctnet.inference.settings import DetectionSettings
from ctnet.inference.timing import StageTimes
from ctnet.ops.nms import suppress, suppress_by

#: Rows whose overlaps with all others are computed in one call, to limit both calls and memory.
_BLOCK = 64


@torch.inference_mode()
def decode(
    task: Task,
    maps: Mapping[str, Tensor],
    views: Sequence[View],
    settings: DetectionSettings,
    times: StageTimes | None = None,
    finite: Tensor | None = None,
) -> list[Detections]:
    """Decode detections from maps of any source: a network, a file, rendered ground truth.

    Args:
        task: decodes.
        maps: activated, (B, C, H, W) by head.
        views: the views of the B images.
        settings: only topk, score, nms and scales are used.
        times: the time of the stages is added.
        finite: () bool, whether all maps are; read together with the detections.

    Returns:
        One record per image, best first, in pixels of that image, lifted: at most ``topk`` rows, or as many
        as suppression needs to choose from.

    Raises:
        CtnetError: when the maps are not finite.
    """
    times = StageTimes() if times is None else times
    with times.stage("decode"):
        decoded = task.decode(maps, candidates(task, settings)).without("cells")
        found, all_finite = decoded.with_check(finite)
    if not all_finite:
        raise not_finite([view.info for view in views])
    with times.stage("post"):
        return [
            place(task, detections, view.affine, view, settings)
            for view, detections in zip(views, found, strict=True)
        ]


def not_finite(images: Sequence[ImageInfo]) -> CtnetError:
    """The error for maps with NaN or infinities."""
    names = ", ".join(info.file_name or str(info.image_id) for info in images)
    return CtnetError(f"the network outputs NaN or infinities ({names}); it diverged or has damaged weights")


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
        settings: used are topk, score and those of suppression.
    """
    suppressed = settings.suppression(task) != "none"
    kept = candidates(task, settings) if suppressed else settings.topk
    best = found[found.scores > settings.limit][:kept]
    return task.lift(move_record(best, affine, task.fields), view)


def merge(task: Task, looks: Sequence[Detections], settings: DetectionSettings) -> Detections:
    """Merge the detections of one or several views of an image; suppress class by class.

    Args:
        task: defines the overlap of two detections.
        looks: at least one; numpy columns, in image pixels, lifted.
        settings: only topk, score, nms and scales are used.

    Returns:
        The best ``topk``, highest score first, with reduced scores.

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
    best = best[score[best] > settings.limit][: settings.topk]
    result = joined[np.concatenate(kept)[best]]
    return result.replace(scores=score[best].astype(np.asarray(joined.scores).dtype))


def _suppressed(task: Task, found: Detections, method: Nms) -> tuple[np.ndarray, np.ndarray]:
    """Rows of one class that are kept, and their scores; with the task's own overlap where it has one.

    Axis-aligned boxes have inclusive pixel ends, as in the released code, to reproduce its results.
    """
    if method == "none" or type(task).overlap is Task.overlap:
        return suppress(found.boxes, found.scores, method)
    blocks = [task.overlap(found[row : row + _BLOCK], found) for row in range(0, len(found), _BLOCK)]
    return suppress_by(np.concatenate(blocks).__getitem__, found.scores, method)


def _joined(looks: Sequence[Detections]) -> Detections:
    """All rows of several views; views without detections do not determine the columns."""
    parts = [look for look in looks if len(look)] or list(looks[:1])
    if len(parts) == 1:
        return parts[0]
    columns = [part.fields() for part in parts]
    names = {name: None for column in columns for name in column}
    for column in columns:
        for name in names:
            if name not in column:
                raise CtnetError(
                    f"two views of one image cannot be merged: one has a column {name!r}, the other only "
                    f"{', '.join(column)}; Task.decode and Task.lift must return the same columns for every "
                    "view"
                )
    return parts[0].replace(**{name: _stacked([column[name] for column in columns]) for name in names})


def _stacked(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Concatenated rows: of equal shape as an array, else as an array of objects."""
    arrays = [np.asarray(part) for part in parts]
    if len({array.shape[1:] for array in arrays}) == 1:
        return np.concatenate(arrays)
    return object_column(row for array in arrays for row in array)
