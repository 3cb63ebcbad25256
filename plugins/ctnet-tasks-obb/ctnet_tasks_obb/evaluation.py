"""Mean average precision over rotated IoU, by the rules of Pascal VOC and DOTA."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, get_args

import numpy as np

from ctnet.plugin import CtnetError, Detections, Evaluator, Metric, average_precision, unknown_name
from ctnet_tasks_obb.boxes import corners_iou

#: The IoUs that mAP is the mean over, as COCO's.
IOUS = tuple(hundredths / 100 for hundredths in range(50, 100, 5))

Points = Literal["rotated", "rotated07"]

_CURVE: dict[Points, Metric] = {"rotated": "voc10", "rotated07": "voc07"}


class _Objects(NamedTuple):
    """The annotated objects of one image; ``number`` is unique in the data set, -1 for what is ignored."""

    corners: np.ndarray
    labels: np.ndarray
    number: np.ndarray


class RotatedEvaluator(Evaluator):
    """Mean average precision of rotated boxes.

    ``compute`` gives ``mAP`` (the mean over IoUs 0.5, 0.55 ... 0.95), ``mAP50``, ``mAP75`` and
    ``AP50/<class>``, all in [0, 1]. "rotated" takes the area under the precision made monotone, "rotated07"
    the mean of the best precision at the recalls 0, 0.1 ... 1, as DOTA's development kit. A class without
    objects is left out.

    Every detection, best score first, looks for the object of its class that it overlaps most. An overlap of
    at least the threshold makes it right the first time that object is found and wrong every further time;
    less makes it wrong. Where the object is to be ignored (``difficult``, ``ignore`` or ``iscrowd``), the
    detection is neither right nor wrong, nor does the object count.
    """

    main_metric = "mAP50"
    needs_all = True

    def __init__(
        self,
        ground_truth: Mapping[str, Any],
        category_ids: Sequence[int] | np.ndarray,
        class_names: Sequence[str],
        metric: str = "rotated",
    ) -> None:
        """See ``Evaluator``.

        Args:
            ground_truth: the content of a COCO annotation file whose annotations have ``corners``.
            category_ids: category id of each label.
            class_names: name of each label.
            metric: "rotated" or "rotated07".
        """
        super().__init__(ground_truth, category_ids, class_names)
        if metric not in get_args(Points):
            raise unknown_name("metric of rotated boxes", metric, get_args(Points))
        self.metric = _CURVE[metric]  # type: ignore[index]  # it is one of them
        label_of = {category_id: label for label, category_id in enumerate(self.category_ids)}
        self._labels = np.array([label_of[entry["category_id"]] for entry in self.annotations], np.int64)
        self._ignored = np.array([_is_ignored(entry) for entry in self.annotations], bool)
        self._objects = self._objects_by_image()

    def update(self, image_id: int, detections: Detections) -> None:
        """See ``Evaluator.update``; corners must be finite as well."""
        corners = detections.extra.get("corners", np.zeros((0, 4, 2)))
        if corners.shape != (len(detections), 4, 2) or not np.isfinite(corners).all():
            raise CtnetError(
                f"the detections in image {image_id} have corners of shape {corners.shape} or not all "
                f"finite; needed are finite ones of shape {(len(detections), 4, 2)}"
            )
        super().update(image_id, detections)

    def compute(self) -> dict[str, float]:
        """The figures; see the class."""
        scores, labels, numbers, overlaps = self._matches()
        order = np.argsort(-scores, kind="stable")
        labels, numbers, overlaps = labels[order], numbers[order], overlaps[order]
        table = {}
        for label, name in enumerate(self.class_names):
            count = int(((self._labels == label) & ~self._ignored).sum())
            mine = labels == label
            if count:
                found = [np.where(overlaps[mine] >= iou, numbers[mine], 0) for iou in IOUS]
                table[name] = [average_precision(_first_times(each), count, self.metric) for each in found]
        by_iou = np.mean(list(table.values()), axis=0) if table else np.zeros(len(IOUS))
        figures = {"mAP": by_iou.mean(), "mAP50": by_iou[0], "mAP75": by_iou[IOUS.index(0.75)]}
        figures |= {f"AP50/{name}": row[0] for name, row in table.items()}
        return {name: float(value) for name, value in figures.items()}

    def _objects_by_image(self) -> dict[int, _Objects]:
        rows: dict[int, list[int]] = {}
        for row, annotation in enumerate(self.annotations):
            rows.setdefault(annotation["image_id"], []).append(row)
        corners = np.array([entry["corners"] for entry in self.annotations], np.float64).reshape(-1, 4, 2)
        number = np.where(self._ignored, -1, np.arange(1, len(self.annotations) + 1))
        return {
            image_id: _Objects(corners[mine], self._labels[mine], number[mine])
            for image_id, mine in rows.items()
        }

    def _matches(self) -> tuple[np.ndarray, ...]:
        """Score, label, number of the most overlapped object (0: none) and that overlap of every detection.

        In the order of the image ids, whichever process found what.
        """
        columns: list[tuple[np.ndarray, ...]] = [
            (np.zeros(0), np.zeros(0, int), np.zeros(0, int), np.zeros(0))
        ]
        for image_id, found in sorted(self.state().items()):
            number, best = np.zeros(len(found), int), np.zeros(len(found))
            objects = self._objects.get(image_id)
            if objects is not None and len(found):
                overlap = corners_iou(found.corners, objects.corners)
                overlap[np.asarray(found.labels)[:, None] != objects.labels] = 0
                number, best = objects.number[overlap.argmax(axis=1)], overlap.max(axis=1)
            columns.append((np.asarray(found.scores, float), np.asarray(found.labels, int), number, best))
        return tuple(np.concatenate(column) for column in zip(*columns, strict=True))


def _first_times(numbers: np.ndarray) -> np.ndarray:
    """Whether each detection is the first to find its object; those of ignored objects are taken out."""
    numbers = numbers[numbers >= 0]
    right = np.zeros(len(numbers), bool)
    right[np.unique(numbers, return_index=True)[1]] = True
    return right & (numbers > 0)


def _is_ignored(annotation: Mapping[str, Any]) -> bool:
    return any(annotation.get(field, 0) for field in ("difficult", "ignore", "iscrowd"))
