"""Conversion between the entries of COCO files and records, by a task's declarations.

Annotations and results are written and read by the same declarations, so the functions of each pair are
inverse to each other, up to the decimals that annotation files carry.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ctnet.base.numbers import LARGEST_COORDINATE
from ctnet.base.schema import shorten
from ctnet.core.fields import (
    annotated_columns,
    field_errors,
    found_columns,
    is_finite,
    read_fields,
    stated_fields,
    write_fields,
)
from ctnet.core.records import Annotations, Detections, Instances
from ctnet.core.task import AnnotationWarning, Task


def instances_of(task: Task, annotations: Annotations, image: Mapping[str, Any]) -> Instances:
    """Annotations of one image -> instances in image pixels.

    Args:
        task: declares the fields.
        annotations: annotations of known categories, without errors.
        image: the image's entry of the COCO file.
    """
    labels = task.categories.labels(annotations.category_ids)
    instances = Instances(annotations.boxes, labels, annotations.crowd)
    if any(field.json for field in task.fields.values()):
        instances = instances.replace(**read_fields(task.fields, list(annotations)))
    return task.complete(instances, image)


def annotations_of(task: Task, instances: Instances) -> list[dict[str, Any]]:
    """Instances in image pixels -> COCO annotations without ids: the inverse of ``instances_of``."""
    boxes = instances.boxes.astype(np.float64)
    sizes = boxes[:, 2:] - boxes[:, :2]
    entries: list[dict[str, Any]] = [
        {
            "category_id": int(task.categories.ids[label]),
            "bbox": [round(value, 2) for value in (*box[:2].tolist(), *size.tolist())],
            "area": round(float(size.prod()), 2),
            "iscrowd": int(crowd),
        }
        for box, size, label, crowd in zip(boxes, sizes, instances.labels, instances.crowd, strict=True)
    ]
    write_fields(task.fields, entries, instances.fields())
    return entries


def annotations_of_found(task: Task, detections: Detections) -> list[dict[str, Any]]:
    """Detections of one image in image pixels -> COCO annotations without ids of the same objects."""
    labels = np.asarray(detections.labels, np.int64)
    columns = annotated_columns(task.fields, detections.fields())
    instances = Instances.of(detections.boxes, labels, **columns)
    return annotations_of(task, instances)


def annotation_errors(task: Task, annotation: Mapping[str, Any], image: Mapping[str, Any]) -> list[str]:
    """What is wrong with an annotation besides its box, one phrase per error.

    Args:
        task: declares the fields.
        annotation: as in the COCO file, of a known category and with a usable box.
        image: the image's entry of the COCO file.
    """
    errors = field_errors(task.fields, annotation, image=image)
    # A task's own check compares values, so it needs each of them to be valid.
    return errors or [
        text for text in task.errors(annotation, image) if not isinstance(text, AnnotationWarning)
    ]


def annotation_warnings(task: Task, annotation: Mapping[str, Any], image: Mapping[str, Any]) -> list[str]:
    """Warnings about an annotation without errors; arguments as of ``annotation_errors``."""
    return [text for text in task.errors(annotation, image) if isinstance(text, AnnotationWarning)]


def checks_records(task: Task) -> bool:
    """Whether a task checks annotations; only then must whole records be read."""
    return type(task).errors is not Task.errors or any(field.json for field in task.fields.values())


def results_of(task: Task, image_id: int, detections: Detections) -> list[dict[str, Any]]:
    """Detections of one image in image pixels -> entries of a COCO results file."""
    entries = detections.to_coco(image_id, task.categories.ids)
    write_fields(task.fields, entries, detections.fields(), found=True)
    return entries


def detections_of(task: Task, entries: Sequence[Mapping[str, Any]]) -> Detections:
    """Entries of one image in a COCO results file -> detections in image pixels: inverse of ``results_of``.

    A field for which no entry has a value gives no column, unless it is always needed.

    Raises:
        KeyError, TypeError, ValueError: for an entry that lacks something; the caller names it.
    """
    fields = stated_fields(task.fields, entries)
    for entry in entries:
        if errors := [*_box_errors(entry), *field_errors(fields, entry, found=True)]:
            raise ValueError("; ".join(errors))
    found = Detections.from_coco(entries, task.categories.ids)
    return found.replace(**read_fields(fields, entries, found=True))


def _box_errors(entry: Mapping[str, Any]) -> Iterator[str]:
    box, score = entry["bbox"], entry["score"]
    numbers = box if isinstance(box, list) else []
    if len(numbers) != 4 or not all(is_finite(number, LARGEST_COORDINATE) for number in numbers):
        yield f"bbox is {shorten(box)}, not four finite numbers"
    if not is_finite(score):
        yield f"score is {shorten(score)}, not a finite number"


def truth_of(task: Task, instances: Instances) -> Detections:
    """Annotated objects (no crowd regions) as detections of score 1, to be drawn or evaluated like them."""
    kept = instances[~instances.crowd]
    columns = found_columns(task.fields, kept.fields())
    return Detections(kept.boxes, np.ones(len(kept), np.float32), kept.labels, columns)
