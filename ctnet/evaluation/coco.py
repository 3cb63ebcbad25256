"""The COCO metrics for boxes."""

from __future__ import annotations

import contextlib
import io
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ctnet.base.errors import unknown_name
from ctnet.core.evaluator import Evaluator, metric
from ctnet.core.records import Detections
from ctnet.core.tally import Tally
from ctnet.evaluation.coco_tally import CocoTally
from ctnet.evaluation.matching import IOUS

#: Implementations of the COCO metrics; the second is the reference.
ENGINES = ("faster-coco-eval", "pycocotools")

Figures = dict[str, np.ndarray]


class CocoEvaluator(Evaluator):
    """The base of the COCO metrics for boxes, masks and keypoints: the engine, and means over defined values.

    All metrics are in [0, 1]. Where COCO prints -1 because no object of that size or class exists, the metric
    is left out, and the class is not part of the means.

    Attributes:
        sigmas: tolerance of each joint, to measure keypoints; None to measure boxes.
        masks: whether overlaps are those of masks: annotations and results then have a ``segmentation``, a
            compressed run-length encoding.
    """

    main_metric = "AP"
    max_dets: int
    sigmas: Sequence[float] | None = None
    masks: bool = False

    def __init__(
        self,
        ground_truth: Mapping[str, Any],
        category_ids: Sequence[int] | np.ndarray,
        class_names: Sequence[str],
        engine: str = "faster-coco-eval",
    ) -> None:
        """See ``Evaluator``.

        Args:
            ground_truth: the content of a COCO annotation file.
            category_ids: category id of each label.
            class_names: name of each label.
            engine: "faster-coco-eval", or "pycocotools", which computes the same metrics more slowly.

        Raises:
            CtnetError: for an engine that does not exist, and as ``Evaluator``.
        """
        super().__init__(ground_truth, category_ids, class_names)
        if engine not in ENGINES:
            raise unknown_name("evaluation engine", engine, ENGINES)
        self.engine = engine

    @abstractmethod
    def figures(self, precision: np.ndarray, recall: np.ndarray, columns: Mapping[str, int]) -> Figures:
        """The values that each metric is the mean of, by its name; undefined ones are -1.

        Args:
            precision, recall: see ``coco_curves``; for draws of the images, see ``CocoTally``.
            columns: index of each class in the curves, by name.
        """

    def limits(self) -> list[int]:
        """The limits of detections per class and image, ascending: an axis of the curves."""
        return [self.max_dets]

    def results(self, image_id: int, detections: Detections) -> list[dict[str, Any]]:
        """Detections of one image as entries of a COCO results file."""
        return detections.to_coco(image_id, self.category_ids)

    def compute(self) -> dict[str, float]:
        """The metrics; see the class."""
        figures = self.figures(*self._curves())
        defined = {name: values[values > -1] for name, values in figures.items()}
        return {name: float(values.mean()) for name, values in defined.items() if values.size}

    def _curves(self) -> tuple[np.ndarray, np.ndarray, dict[str, int]]:
        """Run the engine: precision, recall, and the column of each class."""
        precision, recall, ordered = coco_curves(*self._arguments())
        return precision, recall, self._columns(ordered)

    def tally(self) -> Tally:
        arguments = self._arguments()
        evaluation = coco_evaluation(*arguments)
        columns = self._columns([int(category_id) for category_id in evaluation.params.catIds])

        def figures(precision: np.ndarray, recall: np.ndarray) -> Figures:
            return self.figures(precision, recall, columns)

        return CocoTally(evaluation, self.annotations, arguments[4], figures, columns)

    def _arguments(self) -> tuple[Any, ...]:
        """Those of ``coco_curves``."""
        found = [entry for state in sorted(self.state().items()) for entry in self.results(*state)]
        return (
            self.engine,
            self._image_names,
            self.category_ids,
            self.annotations,
            found,
            self.limits(),
            self.sigmas,
            self.masks,
        )

    def _columns(self, ordered: list[int]) -> dict[str, int]:
        """Index of each class in the curves, by name."""
        classes = zip(self.class_names, self.category_ids, strict=True)
        return {name: ordered.index(category_id) for name, category_id in classes}


class CocoBoxEvaluator(CocoEvaluator):
    """Average precision and recall as the COCO challenge defines them.

    ``compute`` returns the twelve metrics ``AP, AP50, AP75, APS, APM, APL, AR1, AR10, AR100, ARS, ARM, ARL``
    (S, M, L: objects up to 32², up to 96² and above, pixels of area) and ``AP/<class>`` and ``AP50/<class>``.
    At most ``max_dets`` detections per class and image count (COCO: 100), which AR100 is named after.
    Crowd regions absorb detections without counting as objects.
    """

    max_dets: int = 100

    def limits(self) -> list[int]:
        return [min(1, self.max_dets), min(10, self.max_dets), self.max_dets]

    def figures(self, precision: np.ndarray, recall: np.ndarray, columns: Mapping[str, int]) -> Figures:
        # Axes of precision: IoU threshold, recall, class, size of object, limit of detections.
        # Recall lacks the second.
        figures = {
            "AP": precision[:, :, :, 0, 2],
            "AP50": precision[0, :, :, 0, 2],
            "AP75": precision[5, :, :, 0, 2],
            "APS": precision[:, :, :, 1, 2],
            "APM": precision[:, :, :, 2, 2],
            "APL": precision[:, :, :, 3, 2],
            "AR1": recall[:, :, 0, 0],
            "AR10": recall[:, :, 0, 1],
            f"AR{self.max_dets}": recall[:, :, 0, 2],
            "ARS": recall[:, :, 1, 2],
            "ARM": recall[:, :, 2, 2],
            "ARL": recall[:, :, 3, 2],
        }
        for name, column in columns.items():
            figures[f"AP/{name}"] = precision[:, :, column, 0, 2]
            figures[f"AP50/{name}"] = precision[0, :, column, 0, 2]
        return figures

    def curves(self) -> dict[str, Any]:
        """Precision at the 101 recalls 0, 0.01 ... 1, for every class with objects and every IoU.

        Objects of all sizes, as in ``AP``.
        """
        precision, _, columns = self._curves()
        classes = {
            name: {
                f"{iou:.2f}": [round(value, 6) for value in precision[row, :, column, 0, 2].tolist()]
                for row, iou in enumerate(IOUS)
            }
            for name, column in columns.items()
            if precision[0, 0, column, 0, 2] > -1
        }
        return {
            "metric": "coco",
            "iou": list(IOUS),
            "recall": [percent / 100 for percent in range(101)],
            "precision": classes,
        }


def coco_curves(
    engine: str,
    image_ids: Iterable[int],
    category_ids: Sequence[int],
    annotations: Sequence[Mapping[str, Any]],
    found: Sequence[dict[str, Any]],
    limits: Sequence[int],
    sigmas: Sequence[float] | None = None,
    masks: bool = False,
) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """Match and accumulate as COCO's evaluation does.

    Args:
        engine: one of ``ENGINES``.
        image_ids: ids of all images.
        category_ids: the categories to evaluate.
        annotations: annotations of a COCO file, with ids from 1; they are not changed.
        found: entries of a results file; missing keys are added in place.
        limits: limits of detections per class and image, ascending.
        sigmas: tolerance of each joint, to measure keypoints; None to measure boxes.
        masks: measure masks, see ``CocoEvaluator``.

    Returns:
        Precision (IoU threshold, recall, class, size of object, limit of detections), recall (the same
        without the second axis), and the category id of each class.
    """
    evaluation = coco_evaluation(engine, image_ids, category_ids, annotations, found, limits, sigmas, masks)
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation.accumulate()
    curves = evaluation.eval
    ordered = [int(category_id) for category_id in evaluation.params.catIds]
    return np.asarray(curves["precision"]), np.asarray(curves["recall"]), ordered


def coco_evaluation(
    engine: str,
    image_ids: Iterable[int],
    category_ids: Sequence[int],
    annotations: Sequence[Mapping[str, Any]],
    found: Sequence[dict[str, Any]],
    limits: Sequence[int],
    sigmas: Sequence[float] | None = None,
    masks: bool = False,
) -> Any:
    """Match as COCO's evaluation does.

    Args:
        engine, image_ids, category_ids, annotations, found, limits, sigmas, masks: see ``coco_curves``.

    Returns:
        The engine's ``COCOeval``: ``params``, and ``ious`` by image and category id.
    """
    if engine == "pycocotools":
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    else:
        from faster_coco_eval import COCO
        from faster_coco_eval import COCOeval_faster as COCOeval

    # The engines look sizes up, but an encoding has its own.
    images = [{"id": int(image_id), "width": 0, "height": 0} for image_id in image_ids]
    categories = [{"id": category_id} for category_id in category_ids]
    for number, entry in enumerate(found, start=1):  # the engines read an id of 0 as "not matched"
        area = _pixels_of(entry["segmentation"]) if masks else entry["bbox"][2] * entry["bbox"][3]
        entry.update(id=number, area=area, iscrowd=0)
    sides = []
    with contextlib.redirect_stdout(io.StringIO()):
        for entries in ([dict(annotation) for annotation in annotations], found):
            side = COCO()
            side.dataset = {"images": images, "categories": categories, "annotations": entries}
            side.createIndex()
            sides.append(side)
        kind = "segm" if masks else "bbox" if sigmas is None else "keypoints"
        evaluation = COCOeval(*sides, iouType=kind)
        evaluation.params.maxDets = list(limits)
        if sigmas is not None:
            evaluation.params.kpt_oks_sigmas = np.array(sigmas)
        evaluation.evaluate()
    return evaluation


def _pixels_of(encoding: Mapping[str, Any]) -> int:
    from pycocotools import mask as coco_mask

    return int(coco_mask.area(encoding))


#: The COCO metrics for boxes, for any task; the reference computes the same ones more slowly.
BOX_METRICS = {
    "coco": metric(CocoBoxEvaluator),
    "coco-reference": metric(CocoBoxEvaluator, engine="pycocotools"),
}
