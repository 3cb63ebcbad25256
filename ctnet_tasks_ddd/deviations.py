"""Mean errors of depth and orientation of matched objects."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ctnet.plugin import Detections, box_iou, match_best_first
from ctnet_tasks_ddd.camera import wrap
from ctnet_tasks_ddd.fields import is_region
from ctnet_tasks_ddd.kitti_eval import CLASSES, IOU

#: The overlap of image boxes that the benchmark requires, and that for other classes.
_DEMANDED = dict(zip(CLASSES, IOU["strict"][0], strict=True))
_OTHERWISE = 0.5

_FIGURES = ("found", "depth_error", "orientation_error")


def deviations(
    frames: Iterable[tuple[Sequence[Mapping[str, Any]], Detections | None]],
    category_ids: Sequence[int],
    class_names: Sequence[str],
) -> dict[str, float]:
    """Mean errors of the detections that are matched to an object in the image.

    Detections, highest score first, are matched to the free object of their class that they overlap most, if
    the overlap exceeds the benchmark's for image boxes (0.7 for cars, 0.5 for others). All objects of the
    categories count, even small or hidden ones; ignore regions do not.

    Args:
        frames: the annotations and detections of each image.
        category_ids: category id of each label.
        class_names: name of each label.

    Returns:
        For all classes together and, with ``/<class>``, for each: ``found``, the fraction of matched objects;
        ``depth_error``, the mean relative error of their z; ``orientation_error``, the mean error of the
        observation angle (alpha), degrees. Errors without matched objects are left out.
    """
    parts = _parts(frames, category_ids, class_names)
    blank = np.zeros((0, len(_FIGURES)))
    tables = {f"/{name}": np.concatenate([blank, *rows]) for name, rows in parts.items()}
    return {
        figure + suffix: float(np.nanmean(column))
        for suffix, table in {"": np.concatenate(list(tables.values())), **tables}.items()
        for figure, column in zip(_FIGURES, table.T, strict=True)
        if np.isfinite(column).any()
    }


def frame_deviations(
    frames: Iterable[tuple[Sequence[Mapping[str, Any]], Detections | None]],
    category_ids: Sequence[int],
    class_names: Sequence[str],
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """What each frame contributes to the means: arguments as ``deviations``.

    Returns:
        (F,) float64 by metric, the sums over the objects of each frame, and (F,) int64, their numbers.
    """
    parts = _parts(frames, category_ids, class_names)
    sums: dict[str, np.ndarray] = {}
    counts: dict[str, np.ndarray] = {}
    for name, tables in parts.items():
        for column, figure in enumerate(_FIGURES):
            values = [table[:, column] for table in tables]
            total = np.array([np.nansum(each) for each in values])
            known = np.array([np.isfinite(each).sum() for each in values])
            sums[f"{figure}/{name}"], counts[f"{figure}/{name}"] = total, known
            sums[figure] = sums.get(figure, 0) + total
            counts[figure] = counts.get(figure, 0) + known
    return sums, counts


def _parts(
    frames: Iterable[tuple[Sequence[Mapping[str, Any]], Detections | None]],
    category_ids: Sequence[int],
    class_names: Sequence[str],
) -> dict[str, list[np.ndarray]]:
    """Class name -> ``_errors`` of each frame."""
    parts: dict[str, list[np.ndarray]] = {name: [] for name in class_names}
    for entries, found in frames:
        for label, (category, name) in enumerate(zip(category_ids, class_names, strict=True)):
            mine = [e for e in entries if e["category_id"] == category and not is_region(e)]
            of_class = None if found is None else found[found.labels == label]
            parts[name].append(_errors(mine, of_class, _DEMANDED.get(name.lower(), _OTHERWISE)))
    return parts


def _errors(objects: Sequence[Mapping[str, Any]], found: Detections | None, demanded: float) -> np.ndarray:
    """``_FIGURES`` (N, 3) of N objects: 1 or 0 for matched or not, and errors, NaN where unknown.

    Args:
        objects: objects of one class in one image.
        found: detections of that class in that image.
        demanded: the overlap to exceed.
    """
    errors = np.full((len(objects), len(_FIGURES)), [0, np.nan, np.nan])
    if found is None or not objects:
        return errors
    boxes = np.array([entry["bbox"] for entry in objects], np.float64)
    boxes[:, 2:] += boxes[:, :2]
    overlap = box_iou(np.asarray(found.boxes, np.float64), boxes)
    match = match_best_first(overlap, found.scores, np.nextafter(demanded, 1))
    hit, columns = match[match >= 0], found[match >= 0].fields()
    errors[hit, 0] = 1
    if "location" in columns:
        z = np.array([entry.get("location", (np.nan,) * 3)[2] for entry in objects])
        errors[hit, 1] = np.abs(columns["location"][:, 2] / z[hit] - 1)
    if "alpha" in columns:
        alpha = np.array([entry.get("alpha", np.nan) for entry in objects])
        errors[hit, 2] = np.degrees(np.abs(wrap(columns["alpha"] - alpha[hit])))
    return errors
