"""Evaluating a COCO results file from any program, for any task."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from ctnet.base.errors import CtnetError
from ctnet.base.files import read_json
from ctnet.base.schema import shorten
from ctnet.core.documents import detections_of
from ctnet.core.evaluator import Evaluator
from ctnet.core.fields import is_finite
from ctnet.core.records import Detections
from ctnet.core.task import Task
from ctnet.data.dataset import Dataset
from ctnet.evaluation.evaluators import evaluator_of
from ctnet.inference.timing import StageTimes
from ctnet.measuring.run import Evaluation, measure


def evaluate_results(
    dataset: Dataset, task: Task, path: str | Path, metric: str | None = None, max_dets: int | None = None
) -> Evaluation:
    """Evaluate a results file.

    Args:
        dataset: the ground truth.
        task: reads the entries by its declared fields, and declares the metrics; its categories are the
            data set's.
        path: a JSON list of entries: image_id, category_id, score and the task's own keys (a bbox, xywh).
        metric, max_dets: see ``evaluator_of``.

    Raises:
        CtnetError: when the file cannot be read or is empty, and naming the entry with a missing key, NaN or
            infinities, or an unknown image or category.
    """
    evaluator = evaluator_of(task, dataset, metric, max_dets)
    found = read_results(read_json(path), task, dataset.image_ids.tolist(), str(path))
    return measure(found.items(), evaluator, len(found), "measuring", [], StageTimes(images=len(found)))


def read_results(
    entries: Any, task: Task, image_ids: Collection[int], source: str = "the results"
) -> dict[int, Detections]:
    """The entries of a results file as detections by image id.

    Args:
        entries: the content of the file.
        task: declares the fields to read.
        image_ids: those of the data set.
        source: the file's name, for messages.

    Raises:
        CtnetError: see ``evaluate_results``.
    """
    if not isinstance(entries, list):
        raise CtnetError(
            f"{source} is not a list of results but a {type(entries).__name__}; COCO's results file is a "
            "list of objects with image_id, category_id, bbox and score"
        )
    if not entries:
        raise CtnetError(f"{source} holds no detections, so there is nothing to evaluate")
    known_images, known_categories = set(image_ids), set(task.categories.ids.tolist())
    rows: dict[int, list[int]] = {}
    for index, entry in enumerate(entries):
        if error := _error(entry, known_images, known_categories):
            raise CtnetError(f"entry {index} of {source} {error}")
        rows.setdefault(int(entry["image_id"]), []).append(index)
    return {image_id: _read(entries, mine, task, source) for image_id, mine in rows.items()}


def images_without_results(evaluator: Evaluator, dataset: Dataset) -> int:
    """Number of images of a data set without detections."""
    state = evaluator.state()
    return sum(not len(state.get(image_id, ())) for image_id in dataset.image_ids.tolist())


def _error(entry: Any, images: Collection[int], categories: Collection[int]) -> str | None:
    """The error of an entry, as the end of a sentence that names it."""
    if not isinstance(entry, dict):
        return f"is not an object with image_id, category_id and score but {shorten(entry)}"
    for name, known, fix in (
        ("image_id", images, f"which has {len(images)} images; are these results of another split?"),
        ("category_id", categories, f"which has {len(categories)}; are these results of another data set?"),
    ):
        if name not in entry:
            return f"has no {name}"
        value = entry[name]
        if type(value) not in (int, float) or value not in known:
            return f"has {name} {shorten(value)}, which is not in the ground truth, {fix}"
    for name, value in entry.items():
        numbers = value if isinstance(value, list) else (value,)
        if any(type(number) in (int, float) and not is_finite(number) for number in numbers):
            return f"(image {entry['image_id']}) has NaN or infinity as {name}, or a number that is too large"
    return None


def _read(entries: Sequence[Mapping[str, Any]], rows: Sequence[int], task: Task, source: str) -> Detections:
    try:
        return detections_of(task, [entries[row] for row in rows])
    except (KeyError, TypeError, ValueError) as disagreement:
        for row in rows:  # find the entry
            try:
                detections_of(task, [entries[row]])
            except (KeyError, TypeError, ValueError) as error:
                raise CtnetError(
                    f"entry {row} of {source} (image {entries[row]['image_id']}) is not a result of task "
                    f"{task.name} ({type(error).__name__}: {error}); it needs image_id, category_id, "
                    "a bbox of four numbers, a score, and the task's own keys"
                ) from error
        raise CtnetError(
            f"the entries of image {entries[rows[0]]['image_id']} in {source} do not all have the same "
            f"fields ({disagreement}); write the same fields for all detections of an image"
        ) from disagreement
