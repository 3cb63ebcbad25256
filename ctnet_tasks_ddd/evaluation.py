"""The KITTI metrics for ``ctnet eval``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from ctnet.plugin import CtnetError, Detections, Evaluator, JoinedTally, MeanTally, Tally
from ctnet_tasks_ddd.deviations import deviations, frame_deviations
from ctnet_tasks_ddd.fields import DONT_CARE, frame_name, is_region, labels_of
from ctnet_tasks_ddd.kitti_eval import CLASSES, Figure, evaluate_objects
from ctnet_tasks_ddd.kitti_tally import KittiTally
from ctnet_tasks_ddd.objects import NO_ALPHA, NO_LOCATION, KittiObjects

#: Name -> metric in ``kitti_eval``.
METRICS = {"AP2D": "detection", "AOS": "orientation", "APBEV": "ground", "AP3D": "3d"}

_POINTS = 40


class KittiEvaluator(Evaluator):
    """The metrics of the KITTI benchmark, in [0, 1], for Car, Pedestrian and Cyclist, and mean errors.

    ``compute`` returns ``AP2D/Car/moderate/R40`` etc.: AP of image boxes (``AP2D``), orientation
    (``AOS``), boxes seen from above (``APBEV``) and 3D boxes (``AP3D``); easy, moderate and hard; over 11 and
    over 40 recall positions; ``AP2D/Car`` etc.: of moderate objects; ``AP2D``, ``AOS``, ``APBEV``, ``AP3D``:
    their means over classes, and the main metric ``AP``, the mean of these. In addition there are the errors
    of ``deviations``.

    The benchmark's own R40 of a class with fewer than 40 objects cannot reach 1, since it uses at most as
    many points of the curve as there are objects. The metrics without a difficulty distribute these over all
    recall positions, so that they are useful on small splits; with 80 objects or more they equal R40.
    """

    main_metric = "AP"
    units = MappingProxyType({"depth_error": "%", "orientation_error": "degrees"})
    needs_all = True

    def __init__(
        self,
        ground_truth: Mapping[str, Any],
        category_ids: Sequence[int] | np.ndarray,
        class_names: Sequence[str],
        iou: str = "strict",
    ) -> None:
        """See ``Evaluator``.

        Args:
            ground_truth: the content of a COCO annotation file with the keys of ``fields``.
            category_ids: category id of each label.
            class_names: name of each label.
            iou: see ``kitti_eval.IOU``.
        """
        super().__init__(ground_truth, category_ids, class_names)
        if not {name.lower() for name in self.class_names} & set(CLASSES):
            raise CtnetError(
                "the metric kitti evaluates Car, Pedestrian and Cyclist, not "
                f"{', '.join(self.class_names)}; evaluate their image boxes with --metric coco"
            )
        self.iou = iou
        self._images = [dict(image) for image in ground_truth["images"]]
        typed = [_typed(entry) for entry in ground_truth["annotations"]]
        self._typed = {**ground_truth, "annotations": typed}
        self._labels = labels_of(self._typed)

    def compute(self) -> dict[str, float]:
        """The metrics; see the class."""
        result = evaluate_objects(self._labels, self._results(), self.iou)
        names = {name.lower(): name for name in self.class_names}
        summary: dict[str, float] = {}
        of_class: dict[str, float] = {}
        figures: dict[str, float] = {}
        for prefix, metric in METRICS.items():
            reached = {}
            for key, name in names.items():
                levels = result.figures.get(key, {}).get(metric, {})
                if key in CLASSES and result.objects[key]["moderate"]:
                    reached[f"{prefix}/{name}"] = _average(levels["moderate"]) if levels else 0.0
                for difficulty, figure in levels.items():
                    if figure.objects:
                        start = f"{prefix}/{name}/{difficulty}"
                        figures |= {f"{start}/R11": figure.R11 / 100, f"{start}/R40": figure.R40 / 100}
            summary[prefix] = float(np.mean(list(reached.values()))) if reached else 0.0
            of_class |= reached
        errors = deviations(self._frames(), self.category_ids, self.class_names)
        main = {self.main_metric: float(np.mean(list(summary.values())))}
        # Tables take their columns from the first metrics of a class.
        return main | summary | of_class | errors | figures

    def tally(self) -> Tally:
        names = {name.lower(): name for name in self.class_names}
        images = sorted(self._images, key=lambda image: int(image["id"]))
        ids = np.array([int(image["id"]) for image in images])
        objects = {}
        for category, name in zip(self.category_ids, self.class_names, strict=True):
            mine = [e for e in self.annotations if e["category_id"] == category and not is_region(e)]
            places = np.searchsorted(ids, np.array([int(e["image_id"]) for e in mine], np.int64))
            objects[name] = np.bincount(places, minlength=len(ids))
        labels = labels_of({**self._typed, "images": images})
        kitti = KittiTally(labels, self._results(images), self.iou, names, ids.tolist(), objects, METRICS)
        sums, counts = frame_deviations(self._frames(images), self.category_ids, self.class_names)
        return JoinedTally(kitti, MeanTally(ids.tolist(), objects, kitti.detections, sums, counts))

    def lower_is_better(self, name: str) -> bool:
        return name.partition("/")[0] in self.units

    def _frames(
        self, images: Sequence[Mapping[str, Any]] | None = None
    ) -> Iterator[tuple[list[Mapping[str, Any]], Detections | None]]:
        by_image: dict[int, list[Mapping[str, Any]]] = {
            image["id"]: [] for image in (self._images if images is None else images)
        }
        for annotation in self.annotations:
            by_image[annotation["image_id"]].append(annotation)
        return ((entries, self._detections.get(int(key))) for key, entries in by_image.items())

    def curves(self) -> dict[str, Any]:
        """Class -> metric -> difficulty -> 41 values, see ``kitti_eval.Figure``."""
        return evaluate_objects(self._labels, self._results(), self.iou).as_dict(curves=True)

    def _results(self, images: Sequence[Mapping[str, Any]] | None = None) -> KittiObjects:
        images = self._images if images is None else images
        found = [self._detections.get(int(image["id"])) for image in images]
        types = [[] if f is None else [self.class_names[label] for label in f.labels] for f in found]
        names = [frame_name(image) for image in images]
        return KittiObjects.of_frames(names, types, [_table(each) for each in found])


def _typed(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    """An ignore region without a KITTI class counts as a DontCare region."""
    return {**entry, "type": DONT_CARE} if is_region(entry) and "type" not in entry else entry


def _table(found: Detections | None) -> np.ndarray:
    """The columns of a result file (N, 15) without the class; unknown values are KITTI's placeholders."""
    if found is None or not len(found):
        return np.zeros((0, 15))
    count, fields = len(found), found.fields()

    def known(name: str, width: int, otherwise: float) -> np.ndarray:
        column = np.asarray(fields.get(name, np.full((count, width), np.nan)), np.float64)
        return np.where(np.isnan(column), otherwise, column).reshape(count, width)

    columns = [
        np.full((count, 2), -1.0),
        known("alpha", 1, NO_ALPHA),
        found.boxes,
        known("dimensions", 3, -1.0),
        known("location", 3, NO_LOCATION),
        known("rotation_y", 1, NO_ALPHA),
        np.asarray(found.scores)[:, None],
    ]
    return np.concatenate([np.asarray(column, np.float64) for column in columns], axis=1)


def _average(figure: Figure) -> float:
    """Mean over 40 recall positions of the best precision (or orientation) at that recall or beyond."""
    point = np.arange(len(figure.thresholds))
    # Points of the curve are one step of recall apart, or one object if that is more.
    recall = np.maximum(point / _POINTS, (point + 1) / max(figure.objects, 1))
    wanted = np.arange(1, _POINTS + 1) / _POINTS
    curve = np.append(figure.curve[: len(point)], 0.0)
    return float(curve[np.searchsorted(recall, wanted - 1e-9)].mean())
