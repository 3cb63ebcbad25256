"""Pictures of suggestions: what is annotated there, beside what was seen."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np

from ctnet.audit.evidence import objects_of
from ctnet.audit.suggestions import Suggestion
from ctnet.core.fields import move_record
from ctnet.core.geometry import Affine
from ctnet.core.records import Detections, Sample
from ctnet.core.task import Task
from ctnet.report.draw import draw_rectangle

#: Side of a picture, pixels.
SIDE = 280
#: The part of the image that is shown: so many times the object's longer side, and no less than this.
_AROUND, _SMALLEST = 2.5, 64.0
#: Pixels between an annotation and the frame that marks it.
_MARGIN = 5


def pictures(suggestion: Suggestion, sample: Sample, task: Task) -> tuple[np.ndarray, np.ndarray]:
    """The surroundings of a suggestion twice: with all annotations, and with what was seen.

    The annotation that it is about is in a white frame. A detection is drawn alone; where it is an annotation
    that nothing was seen of, the image is left as it is.

    Args:
        suggestion: the suggestion.
        sample: its image.
        task: draws.

    Returns:
        Two (SIDE, SIDE, 3) uint8 RGB images; beyond the border of the image they are grey.
    """
    one, instances = suggestion.evidence, sample.instances
    annotated = objects_of(task, instances)
    if suggestion.kind == "duplicate":
        rows = [row for row in (suggestion.annotation, suggestion.other) if row is not None]
        seen = one.annotated[np.array(rows)]
    elif suggestion.detection is None:
        seen = one.found[:0]
    else:
        seen = one.found[suggestion.detection]
    window = _window(_boxes(suggestion), sample.image)
    left = _drawn(annotated, sample, task, window)
    if suggestion.annotation is not None:  # the one that it is about
        box = window.boxes(np.asarray(one.annotated.boxes, np.float64)[suggestion.annotation])
        draw_rectangle(left, box + np.array([-1, -1, 1, 1]) * _MARGIN, (255, 255, 255))
    return left, _drawn(seen, sample, task, window)


def _boxes(suggestion: Suggestion) -> np.ndarray:
    """(K, 4) float64: what has to be seen."""
    one = suggestion.evidence
    boxes = [
        np.asarray(record.boxes, np.float64)[row]
        for record, row in ((one.annotated, suggestion.annotation), (one.found, suggestion.detection))
        if row is not None
    ]
    return np.stack(boxes)


def _window(boxes: np.ndarray, image: np.ndarray) -> Affine:
    """Image pixels -> pixels of the picture, which shows the boxes with their surroundings.

    It is moved into the image, and no larger than that, as far as the boxes are shown.
    """
    low, high = boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)
    size = np.array(image.shape[1::-1], np.float64)
    needed = float((high - low).max()) * 1.1
    side = max(needed, min(max(needed * _AROUND / 1.1, _SMALLEST), float(size.max())))
    centre = (low + high) / 2
    moved = np.where(size > side, np.clip(centre, side / 2, np.maximum(size - side / 2, side / 2)), size / 2)
    reach = np.maximum((side - (high - low)) / 2, 0)  # the boxes stay in the picture
    x, y = np.clip(moved, centre - reach, centre + reach).tolist()
    return Affine.centred((x, y), side, (SIDE, SIDE))


def _drawn(record: Detections, sample: Sample, task: Task, window: Affine) -> np.ndarray:
    """The task's drawing in the window: drawn at its size, unless that needs the whole image (a camera)."""
    size = (SIDE, SIDE)
    if type(task).lift is not Task.lift:
        height, width = sample.image.shape[:2]
        whole = task.draw(sample.image, record, sample.info)[:height, :width]
        return _warp(window, whole)
    picture = _warp(window, sample.image)
    if not len(record):
        return picture
    info = replace(sample.info, width=size[0], height=size[1])
    drawn = task.draw(picture, _visible(move_record(record, window, task.fields)), info)
    return np.array(drawn[:SIDE, :SIDE])


def _visible(record: Detections) -> Detections:
    """The objects that the picture shows any part of."""
    boxes = np.asarray(record.boxes)
    return record[(boxes[:, 2:] > 0).all(axis=1) & (boxes[:, :2] < SIDE).all(axis=1)]


def _warp(window: Affine, image: np.ndarray) -> np.ndarray:
    zoom = float(np.sqrt(abs(np.linalg.det(window.matrix[:, :2]))))
    if zoom < 0.5:  # bilinear resampling alone would skip pixels
        reduced = (max(round(image.shape[1] * zoom), 1), max(round(image.shape[0] * zoom), 1))
        back = Affine.scaling(image.shape[1] / reduced[0], image.shape[0] / reduced[1])
        image, window = (
            np.asarray(cv2.resize(image, reduced, interpolation=cv2.INTER_AREA)),
            window.after(back),
        )
    return np.asarray(
        cv2.warpAffine(
            image, window.matrix, (SIDE, SIDE), flags=cv2.INTER_LINEAR, borderValue=(128, 128, 128)
        )
    )
