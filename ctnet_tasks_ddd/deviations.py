"""How far off the depth and the orientation of the objects that were found are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ctnet.plugin import Detections, box_iou
from ctnet_tasks_ddd.camera import wrap
from ctnet_tasks_ddd.fields import is_region
from ctnet_tasks_ddd.kitti_eval import CLASSES, IOU

#: The overlap of image boxes that the benchmark demands; of other classes, that of most.
_DEMANDED = dict(zip(CLASSES, IOU["strict"][0], strict=True))
_OTHERWISE = 0.5


def deviations(
    frames: Iterable[tuple[Sequence[Mapping[str, Any]], Detections | None]],
    category_ids: Sequence[int],
    class_names: Sequence[str],
) -> dict[str, float]:
    """Mean errors of the detections that are matched to an object in the image.

    A detection, the best first, takes the free object of its class whose box overlaps its own most, if the
    overlap exceeds what the benchmark demands in the image (0.7 for cars, 0.5 for others). All objects of the
    categories count, however small or hidden; ignore regions do not.

    Args:
        frames: the annotations of an image and what was found there.
        category_ids: category id of each label.
        class_names: name of each label.

    Returns:
        For all classes together and, with ``/<class>``, for each: ``found``, the share of the objects that
        were found; ``depth_error``, the mean of their distance from the true z, divided by it;
        ``orientation_error``, their mean difference of the angles of observation (alpha), degrees. What
        nothing was found for is left out.
    """
    objects = dict.fromkeys(class_names, 0)
    errors: dict[str, list[tuple[float, float]]] = {name: [] for name in class_names}
    for entries, found in frames:
        for category, name in zip(category_ids, class_names, strict=True):
            mine = [e for e in entries if e["category_id"] == category and not is_region(e)]
            objects[name] += len(mine)
            if mine and found is not None:
                of_class = found[found.labels == class_names.index(name)]
                errors[name] += _errors(mine, of_class, _DEMANDED.get(name.lower(), _OTHERWISE))
    pairs = [(f"/{name}", objects[name], errors[name]) for name in class_names]
    everything = ("", sum(objects.values()), [row for rows in errors.values() for row in rows])
    return {key: value for part in (everything, *pairs) for key, value in _means(*part)}


def _means(suffix: str, objects: int, errors: Sequence[tuple[float, float]]) -> Iterator[tuple[str, float]]:
    if not objects:
        return
    yield f"found{suffix}", len(errors) / objects
    table = np.array(errors, np.float64).reshape(-1, 2)
    for column, name in enumerate(("depth_error", "orientation_error")):
        known = table[np.isfinite(table[:, column]), column]
        if len(known):
            yield f"{name}{suffix}", float(known.mean())


def _errors(
    objects: Sequence[Mapping[str, Any]], found: Detections, demanded: float
) -> Iterator[tuple[float, float]]:
    """Errors of the depth and of the angle, NaN where a detection does not have it, of each match.

    Args:
        objects: of one class in one image.
        found: of that class in that image.
        demanded: the overlap to exceed.
    """
    xywh = np.array([entry["bbox"] for entry in objects], np.float64)
    overlap = box_iou(np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1), found.boxes)
    fields = found.fields()
    for column in np.argsort(-found.scores, kind="stable"):
        row = int(overlap[:, column].argmax())
        if overlap[row, column] <= demanded:
            continue
        overlap[row] = 0
        entry = objects[row]
        depth, angle = np.nan, np.nan
        if "location" in fields and "location" in entry:
            depth = abs(float(fields["location"][column, 2]) / entry["location"][2] - 1)
        if "alpha" in fields and "alpha" in entry:
            angle = float(np.degrees(abs(wrap(float(fields["alpha"][column]) - entry["alpha"]))))
        yield depth, angle
