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
from ctnet.ops.nms import suppress_by, suppress_groups

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
    return task.lift(move_record(best_of(task, found, settings), affine, task.fields), view)


def best_of(task: Task, found: Detections, settings: DetectionSettings) -> Detections:
    """The best detections above the score: ``topk``, or as many as suppression needs to choose from.

    Args:
        task, settings: see ``place``.
        found: the detections of one image, best first; numpy columns.
    """
    suppressed = settings.suppression(task) != "none"
    kept = candidates(task, settings) if suppressed else settings.topk
    return found[found.scores > settings.limit][:kept]


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
    return merge_all(task, [looks], settings)[0]


def merge_all(
    task: Task, images: Sequence[Sequence[Detections]], settings: DetectionSettings
) -> list[Detections]:
    """``merge`` for several images; the classes of all of them are suppressed together."""
    all_looks, method = [joined(looks) for looks in images], settings.suppression(task)
    members = [_classes(np.asarray(found.labels), method) for found in all_looks]
    places = [(image, rows) for image, groups in enumerate(members) for rows in groups]
    left = iter(_suppressed(task, [all_looks[image][rows] for image, rows in places], method))
    merged = []
    for found, groups in zip(all_looks, members, strict=True):
        kept, scores = [np.zeros(0, np.int64)], [np.zeros(0)]
        for rows in groups:
            of_class, weakened = next(left)
            kept.append(rows[of_class])
            scores.append(weakened)
        score = np.concatenate(scores)
        best = np.argsort(-score, kind="stable")
        best = best[score[best] > settings.limit][: settings.topk]
        result = found[np.concatenate(kept)[best]]
        merged.append(result.replace(scores=score[best].astype(np.asarray(found.scores).dtype)))
    return merged


def _classes(labels: np.ndarray, method: Nms) -> list[np.ndarray]:
    """The rows of each class; all rows together where nothing is suppressed."""
    if method == "none":
        return [np.arange(len(labels))]
    return [np.flatnonzero(labels == label) for label in np.unique(labels)]


def _suppressed(task: Task, groups: Sequence[Detections], method: Nms) -> list[tuple[np.ndarray, np.ndarray]]:
    """Rows that are kept of groups of one class, and their scores; by the task's own overlap if it has one.

    Axis-aligned boxes have inclusive pixel ends, as in the released code, to reproduce its results.
    """
    if method == "none" or type(task).overlap is Task.overlap:
        return suppress_groups([found.boxes for found in groups], [found.scores for found in groups], method)
    return [suppress_by(_overlaps(task, found).__getitem__, found.scores, method) for found in groups]


def _overlaps(task: Task, found: Detections) -> np.ndarray:
    """(N, N) of each with every other."""
    blocks = [task.overlap(found[row : row + _BLOCK], found) for row in range(0, len(found), _BLOCK)]
    return np.concatenate(blocks)


def joined(looks: Sequence[Detections]) -> Detections:
    """All rows of several views or tiles of an image, one after the other.

    Args:
        looks: at least one; those without detections do not determine the columns.

    Raises:
        CtnetError: when they have different columns.
    """
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
