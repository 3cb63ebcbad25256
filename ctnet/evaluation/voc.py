"""Pascal VOC's mean average precision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import numpy as np

from ctnet.base.errors import unknown_name
from ctnet.core.evaluator import Evaluator, metric
from ctnet.ops.boxes import box_iou

#: Pascal VOC's average precision: at eleven recalls (2007), or the whole area (from 2010).
Metric = Literal["voc07", "voc10"]


class VocEvaluator(Evaluator):
    """Mean average precision at an IoU of 0.5, as the VOC development kit computes it.

    ``compute`` gives ``mAP`` and ``AP/<class>`` in [0, 1]. "voc07" takes the mean of the best precision at
    the eleven recalls 0, 0.1 ... 1; "voc10" takes the area under the precision made monotone. A class
    without objects is left out.

    The rules: every detection, best score first, looks for the object of its class that it overlaps most. An
    overlap of at least 0.5 makes it right the first time that object is found and wrong every further time;
    less makes it wrong. Where the object is to be ignored (annotation field ``difficult``, ``ignore`` or
    ``iscrowd``), the detection is neither right nor wrong, nor does the object count.

    Boxes are edges here, so that areas are width times height. The development kit has pixels, first and last
    included, and adds 1 to every width and height: the same areas, for ``ctnet convert voc`` writes the edges
    of those pixels.
    """

    main_metric = "mAP"
    needs_all = True  # the flags difficult and ignore stand in whole records only

    def __init__(
        self,
        ground_truth: Mapping[str, Any],
        category_ids: Sequence[int] | np.ndarray,
        class_names: Sequence[str],
        metric: Metric = "voc07",
    ) -> None:
        """See ``Evaluator``.

        Args:
            ground_truth: the content of a COCO annotation file.
            category_ids: category id of each label.
            class_names: name of each label.
            metric: "voc07" (11 points) or "voc10" (area).
        """
        super().__init__(ground_truth, category_ids, class_names)
        if metric not in get_args(Metric):
            raise unknown_name("Pascal VOC metric", metric, get_args(Metric))
        self.metric = metric
        self._objects = self._objects_by_image()

    def compute(self) -> dict[str, float]:
        """The figures; see the class."""
        scores, labels, objects = self._matches()
        by_score = np.argsort(-scores, kind="stable")
        labels, objects = labels[by_score], objects[by_score]
        figures = {}
        for label, name in enumerate(self.class_names):
            count = sum(
                int(((entry["labels"] == label) & ~entry["ignored"]).sum())
                for entry in self._objects.values()
            )
            if count:
                right = _first_times(objects[labels == label])
                figures[f"AP/{name}"] = average_precision(right, count, self.metric)
        return {"mAP": float(np.mean(list(figures.values()))) if figures else 0.0, **figures}

    def _objects_by_image(self) -> dict[int, dict[str, np.ndarray]]:
        """Columns boxes (xyxy), labels, ignored and number (unique in the data set) for every image."""
        label_of = {category_id: label for label, category_id in enumerate(self.category_ids)}
        rows: dict[int, list[dict[str, Any]]] = {}
        for annotation in self.annotations:
            rows.setdefault(annotation["image_id"], []).append(annotation)
        objects = {}
        for image_id, present in rows.items():
            boxes = np.array([annotation["bbox"] for annotation in present], np.float64)
            boxes[:, 2:] += boxes[:, :2]
            objects[image_id] = {
                "boxes": boxes,
                "labels": np.array([label_of[annotation["category_id"]] for annotation in present]),
                "ignored": np.array([_is_ignored(annotation) for annotation in present]),
                "number": np.array([annotation["id"] for annotation in present]),
            }
        return objects

    def _matches(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Score, label and object of every detection; object 0: none, -1: one that is to be ignored."""
        scores, labels, matches = [np.zeros(0)], [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
        for image_id in sorted(self._detections):
            detections = self._detections[image_id]
            match = np.zeros(len(detections), np.int64)
            objects = self._objects.get(image_id)
            if objects is not None and len(detections):
                overlap = box_iou(np.asarray(detections.boxes, np.float64), objects["boxes"])
                overlap[np.asarray(detections.labels)[:, None] != objects["labels"]] = 0
                best = overlap.argmax(1)
                number = np.where(objects["ignored"], -1, objects["number"])
                match = np.where(overlap.max(1) >= 0.5, number[best], 0)
            scores.append(np.asarray(detections.scores, np.float64))
            labels.append(np.asarray(detections.labels, np.int64))
            matches.append(match)
        return np.concatenate(scores), np.concatenate(labels), np.concatenate(matches)


def average_precision(right: np.ndarray, count: int, metric: Metric) -> float:
    """Average precision of one class.

    Args:
        right: (N,) bool, whether each detection is right; best score first.
        count: number of objects to be found, at least 1.
        metric: "voc07" or "voc10".
    """
    found = np.cumsum(right)
    precision = found / np.arange(1, len(found) + 1)
    # The best precision at this recall or a higher one.
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    if metric == "voc10":
        return float(envelope[right].sum() / count)
    total = 0.0
    for tenth in range(11):
        first = np.searchsorted(
            found * 10, tenth * count
        )  # whole numbers: 3 of 10 is a recall of 0.3 exactly
        total += envelope[first] if first < len(found) else 0.0
    return float(total / 11)


def _first_times(objects: np.ndarray) -> np.ndarray:
    """Whether each detection is the first to find its object; those of ignored objects are taken out."""
    objects = objects[objects >= 0]
    right = np.zeros(len(objects), bool)
    right[np.unique(objects, return_index=True)[1]] = True
    return right & (objects > 0)


def _is_ignored(annotation: Mapping[str, Any]) -> bool:
    return any(annotation.get(field, 0) for field in ("difficult", "ignore", "iscrowd"))


#: Pascal VOC's mAP as of 2007 (11 recalls) and of 2010 (the whole curve).
VOC_METRICS = {name: metric(VocEvaluator, metric=name) for name in get_args(Metric)}
