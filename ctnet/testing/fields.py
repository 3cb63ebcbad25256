"""Checks of declared fields: their values in files, under transforms, and in metrics."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from ctnet.core.documents import annotation_errors, detections_of, instances_of, truth_of
from ctnet.core.fields import Angle, Choice, Columns, Field, Length, Points, Value, move_record
from ctnet.core.geometry import Affine
from ctnet.core.masks import Mask, Outline, RunLength
from ctnet.core.records import Instances
from ctnet.testing.check import require
from ctnet.testing.dataset import Entries, image_record
from ctnet.testing.probe import Probe, task_check

_FEW = 8
_MANY = 20
#: A value that correlates this strongly with box sizes, over this many objects, is a length in the image.
_CORRELATION, _OBJECTS = 0.99, 15
_ZOOM, _SHIFT = 1.7, (3.25, -1.5)

#: Kinds of fields that the kit can write and compare itself.
_KINDS: tuple[type[Field], ...] = (Length, Angle, Value, Points, Choice, Mask)


@task_check("Task.fields, Task.complete")
def annotations_are_read_by_their_keys(probe: Probe) -> None:
    """Fields are read from their JSON keys, in annotations written by the kit itself."""
    task = probe.task
    for seed, scene in enumerate(probe.scenes(_FEW)):
        columns, image = scene.instances.fields(), image_record(scene)
        entries = _entries_of(probe, scene.instances)
        errors = [error for entry in entries for error in annotation_errors(task, entry, image)]
        require(not errors, f"scene {seed}: annotations have errors: {'; '.join(errors[:2])}")
        read = instances_of(task, Entries(entries), image)
        _same(probe, columns, read.fields(), f"scene {seed}: annotations with ", annotated=True)


@task_check("Task.complete, Task.encode")
def images_without_annotations_are_read(probe: Probe) -> None:
    """An image without annotations has instances with the same columns as others, and can be encoded."""
    scene = probe.scenes(1)[0]
    some = instances_of(probe.task, Entries(_entries_of(probe, scene.instances)), image_record(scene))
    none = instances_of(probe.task, Entries([]), image_record(scene))
    for name, column in some.fields().items():
        require(name in none.fields(), f"column {name!r} is missing")
        shapes = (none.fields()[name].shape[1:], column.shape[1:])
        require(shapes[0] == shapes[1], f"column {name!r} has rows of shape {shapes[0]}, not {shapes[1]}")
    probe.task.encode(probe.on_grid(none), probe.grid)


@task_check("Task.fields")
def unusable_values_are_refused(probe: Probe) -> None:
    """Fields of annotations accept what they write, and refuse strings, NaN and too many numbers."""
    scene = probe.scenes(1)[0]
    for name, field in probe.task.fields.items():
        if not field.json or not field.annotated or not isinstance(field, _KINDS):
            continue
        for value in field.write(name, scene.instances.fields()):
            error = None if value is None else field.error(value, image=image_record(scene))
            require(error is None, f"field {name!r} refuses {value!r}: it {error}")
        for value in ("nonsense", [math.nan] * 200, [0.5] * 201, {}, [[None]]):
            require(field.error(value), f"field {name!r} accepts {str(value)[:30]} as a value")


@task_check("Task.fields")
def results_are_read_by_their_keys(probe: Probe) -> None:
    """Fields are read from their JSON keys in results too, in entries written by the kit itself."""
    task = probe.task
    for seed, scene in enumerate(probe.scenes(_FEW)):
        truth = truth_of(task, scene.instances)
        entries = truth.to_coco(1, task.categories.ids)
        for name, field in task.fields.items():
            if name in truth.fields():
                _put(entries, field, _written(field, name, truth.fields(), found=True))
        read = detections_of(task, entries)
        _same(probe, truth.fields(), read.fields(), f"scene {seed}: results with ", annotated=False)


def _entries_of(probe: Probe, instances: Instances) -> list[dict[str, Any]]:
    """Annotations written by the kit."""
    entries: list[dict[str, Any]] = []
    for box, label, crowd in zip(instances.boxes, instances.labels, instances.crowd, strict=True):
        x, y, right, bottom = box.astype(np.float64).tolist()
        bbox = [x, y, right - x, bottom - y]
        identity = int(probe.task.categories.ids[label])
        entries.append(
            {"category_id": identity, "bbox": bbox, "area": bbox[2] * bbox[3], "iscrowd": int(crowd)}
        )
    for name, field in probe.task.fields.items():
        if field.annotated:
            _put(entries, field, _written(field, name, instances.fields()))
    return entries


def _written(field: Field, name: str, columns: Columns, found: bool = False) -> list[Any]:
    """JSON values of a column as defined by its kind (as the field writes them, if it refuses those)."""
    values = _promised(field, name, columns, found)
    refused = any(field.error(value, found) for value in values if value is not None)
    return field.write(name, columns, found) if refused else values


def _promised(field: Field, name: str, columns: Columns, found: bool) -> list[Any]:
    if name not in columns or not isinstance(field, _KINDS):
        return []
    column = np.asarray(columns[name])
    if isinstance(field, Choice):
        return [None if number < 0 else field.choices[number] for number in column.tolist()]
    if isinstance(field, Mask):
        return [None if one is None else _segmentation(field, one) for one in column]
    rows = column.astype(np.float64)
    if isinstance(field, Points) and field.visible:
        third = np.asarray(columns[field.scores if found else field.visible])
        rows = np.concatenate([rows, third[..., None]], axis=-1)
        rows = rows if found else np.where(third[..., None] > 0, rows, 0)
    if isinstance(field, Points):
        rows = rows.reshape(len(rows), -1)
    return [None if np.isnan(row).any() else row.tolist() for row in rows]


def _segmentation(field: Mask, one: Outline | RunLength) -> Any:
    """Polygons as they are; what has holes, or is a run-length encoding, as the kind of field writes it."""
    if isinstance(one, RunLength) or one.holes:
        return Mask.write(field, "one", {"one": np.array([one], object)})[0]
    return [ring.ravel().tolist() for ring in one.polygons]


def _put(entries: list[dict[str, Any]], field: Field, values: list[Any]) -> None:
    *path, key = field.json.split(".")
    for entry, value in zip(entries, values, strict=False):
        if key and value is not None:
            for part in path:
                entry = entry.setdefault(part, {})
            entry[key] = value


def _same(probe: Probe, before: Columns, after: Columns, where: str, annotated: bool) -> None:
    for name, field in probe.task.fields.items():
        if not field.json or not isinstance(field, _KINDS) or name not in before:
            continue
        if annotated and not field.annotated:
            continue
        require(name in after, f"field {name!r} is not read")
        gap = _distance(field, name, before, after)
        limit = 0.02 if isinstance(field, Mask) else 1e-3 * (1 + _largest(before[name]))
        require(
            (gap <= limit).all(),
            f"{where}{field.json} as {_shown(before[name])} are read as {name} {_shown(after[name])}",
        )


def _distance(field: Field, name: str, one: Columns, other: Columns) -> np.ndarray:
    """(N,): by the rules of the kind of field, ignoring subclasses."""
    kind = next(kind for kind in _KINDS if isinstance(field, kind))
    gap: np.ndarray = kind.distance(field, name, one, other)
    return gap


def _largest(column: np.ndarray) -> float:
    if column.dtype == object or not column.size:
        return 0.0
    return float(np.nan_to_num(np.abs(column.astype(np.float64))).max())


def _shown(column: np.ndarray) -> str:
    return str(np.asarray(column)[:2].tolist())


@task_check("Task.fields")
def truth_is_what_is_annotated(probe: Probe) -> None:
    """Annotated objects as detections have the boxes, labels and fields of the annotations, and score 1."""
    task = probe.task
    for seed, scene in enumerate(probe.scenes(_FEW)):
        kept = scene.instances[~scene.instances.crowd]
        truth = truth_of(task, kept)
        for name in ("boxes", "labels"):
            same = np.array_equal(truth.fields()[name], kept.fields()[name])
            require(same, f"scene {seed}: {name} differ")
        require((np.asarray(truth.scores) == 1).all(), f"scene {seed}: a score is not 1")
        for name, field in task.fields.items():
            if name not in kept.fields():
                continue  # only detections have it
            require(name in truth.fields(), f"field {name!r} is lost")
            if isinstance(field, _KINDS):
                gap = _distance(field, name, kept.fields(), truth.fields())
                require(
                    (gap <= 1e-6).all(),
                    f"scene {seed}: {name} {_shown(kept.fields()[name])} became "
                    f"{_shown(truth.fields()[name])}",
                )


@task_check("Task.fields, Task.complete")
def fields_move_with_the_image(probe: Probe) -> None:
    """Points move with the image, lengths scale with its zoom, and derived columns stay consistent."""
    task = probe.task
    turn = np.array([[0.8, -0.6, 40.0], [0.6, 0.8, 2.0]])
    zoomed = Affine(np.array([[_ZOOM, 0, _SHIFT[0]], [0, _ZOOM, _SHIFT[1]]]))
    for seed, scene in enumerate(probe.scenes(_FEW)):
        columns = scene.instances.fields()
        moved = probe.moved(scene.instances, _ZOOM, _SHIFT)
        for name, field in task.fields.items():
            if name not in columns:
                continue
            expected = columns[name]
            if isinstance(field, Points):
                expected = zoomed.points(columns[name])
            elif isinstance(field, Length):
                expected = columns[name] * _ZOOM
            else:
                continue
            close = np.allclose(moved.fields()[name], expected, rtol=1e-4, atol=1e-3, equal_nan=True)
            require(
                close,
                f"scene {seed}, zoomed {_ZOOM} times: {name} {_shown(columns[name])} became "
                f"{_shown(moved.fields()[name])}, not {_shown(expected)}",
            )
        _derived(probe, seed, f"zoomed {_ZOOM} times", zoomed, (Value,))
        if task.layout.rotatable:
            _derived(probe, seed, "turned", Affine(turn), (Angle,))


def _derived(probe: Probe, seed: int, how: str, affine: Affine, kinds: tuple[type[Field], ...]) -> None:
    """Compare moved columns with those that ``Task.complete`` derives from a moved scene."""
    scene, fields = probe.scenes(seed + 1)[seed], probe.task.fields
    moved = move_record(scene.instances, affine, fields)
    derived = probe.task.complete(moved, image_record(scene))
    for name, field in fields.items():
        if name not in moved.fields():
            continue
        if field.json or not isinstance(field, kinds) or getattr(field, "under_zoom", "") == "unknown":
            continue
        gap = _distance(field, name, moved.fields(), derived.fields())
        require(
            (gap <= 1e-3 * (1 + _largest(derived.fields()[name]))).all(),
            f"scene {seed}, {how}: {name} {_shown(scene.instances.fields()[name])} became "
            f"{_shown(moved.fields()[name])}, but Task.complete derives {_shown(derived.fields()[name])}: "
            "is it a Length, or an Angle that rotates?",
        )


@task_check("Task.fields")
def lengths_are_declared_as_such(probe: Probe) -> None:
    """A value in pixels, or one that correlates with box sizes, is a Length."""
    rows = [_uncut(probe, scene.instances) for scene in probe.scenes(_MANY)]
    boxes = np.concatenate([instances.boxes for instances in rows]).astype(np.float64)
    measures = _measures(boxes)
    for name, field in probe.task.fields.items():
        if (
            not isinstance(field, Value)
            or isinstance(field, (Length, Angle))
            or field.under_zoom == "unknown"
            or name not in rows[0].fields()
        ):
            continue
        require(field.unit != "px", f"{name} is a {type(field).__name__} in px, which no zoom changes")
        column = np.concatenate([np.asarray(one.fields()[name], np.float64) for one in rows])
        for values in column.reshape(len(boxes), -1).T:
            closeness = {measure: _correlation(values, sizes) for measure, sizes in measures.items()}
            closest = max(closeness, key=closeness.__getitem__)
            require(
                closeness[closest] < _CORRELATION,
                f"{name} correlates with the boxes' {closest} (correlation {closeness[closest]:.3f}) and is "
                "a "
                f"{type(field).__name__}, which no zoom changes: a Length, or under_zoom='unknown'?",
            )


def _uncut(probe: Probe, instances: Instances) -> Instances:
    """The objects that do not touch the border of their image."""
    inside = (instances.boxes > 1) & (instances.boxes < np.array([*probe.size] * 2) - 2)
    return instances[inside.all(axis=1)]


def _measures(boxes: np.ndarray) -> Mapping[str, np.ndarray]:
    sides = boxes[:, 2:] - boxes[:, :2]
    return {
        "width": sides[:, 0],
        "height": sides[:, 1],
        "longer side": sides.max(axis=1),
        "shorter side": sides.min(axis=1),
        "diagonal": np.linalg.norm(sides, axis=1),
    }


def _correlation(values: np.ndarray, sizes: np.ndarray) -> float:
    """Correlation of known values; 0 where there are too few or all are equal."""
    known = np.isfinite(values)
    values, sizes = values[known], sizes[known]
    if len(values) < _OBJECTS or values.std() < 1e-6 or sizes.std() < 1e-6:
        return 0.0
    return float(np.corrcoef(values, sizes)[0, 1])
