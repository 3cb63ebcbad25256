"""Measuring a COCO results file, whoever made it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ctnet.errors import CtnetError
from ctnet.evaluation.coco import CocoBoxEvaluator
from ctnet.evaluation.evaluator import Evaluator
from ctnet.records import Detections


def evaluate_results(
    ground_truth: Mapping[str, Any],
    results: Sequence[Mapping[str, Any]],
    evaluator: Callable[..., Evaluator] = CocoBoxEvaluator,
    **options: Any,
) -> dict[str, float]:
    """Measure the boxes of a results file.

    Args:
        ground_truth: the content of a COCO annotation file.
        results: the content of a COCO results file: image_id, category_id, bbox (xywh) and score each.
        evaluator: makes the evaluator from ground truth, category ids and class names.
        options: further arguments for ``evaluator`` (``engine="pycocotools"``, ``metric="voc10"``).

    Returns:
        The evaluator's figures.

    Raises:
        CtnetError: naming the entry that lacks something or whose image or category is unknown.
    """
    categories = sorted(ground_truth["categories"], key=lambda category: int(category["id"]))
    category_ids = [int(category["id"]) for category in categories]
    measure = evaluator(ground_truth, category_ids, [str(c["name"]) for c in categories], **options)
    for image_id, detections in _by_image(results, category_ids).items():
        measure.update(image_id, detections)
    return measure.compute()


def _by_image(results: Sequence[Mapping[str, Any]], category_ids: Sequence[int]) -> dict[int, Detections]:
    label_of = {category_id: label for label, category_id in enumerate(category_ids)}
    rows: dict[int, list[tuple[list[float], float, int]]] = {}
    for index, entry in enumerate(results):
        try:
            image_id, category_id = int(entry["image_id"]), entry["category_id"]
            bbox, score = [float(value) for value in entry["bbox"]], float(entry["score"])
            x, y, width, height = bbox
        except (KeyError, TypeError, ValueError) as error:
            raise CtnetError(
                f"entry {index} of the results needs image_id, category_id, a bbox of four numbers and "
                f"a score ({type(error).__name__}: {error})"
            ) from error
        if category_id not in label_of:
            raise CtnetError(
                f"entry {index} of the results has category id {category_id!r}, which the ground truth "
                "lacks; are these results of another data set?"
            )
        rows.setdefault(image_id, []).append(([x, y, x + width, y + height], score, label_of[category_id]))
    detections = {}
    for image_id, found in rows.items():
        boxes, scores, labels = zip(*found, strict=True)
        # Kept in double precision: a file's boxes should measure exactly as they stand there.
        detections[image_id] = Detections(np.array(boxes), np.array(scores), np.array(labels, np.int64))
    return detections
