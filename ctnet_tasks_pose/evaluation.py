"""COCO's figures for keypoints, with the tolerances of any skeleton."""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np

from ctnet.plugin import ENGINES, CtnetError, Detections, Evaluator, unknown_name
from ctnet_tasks_pose.skeleton import DEFAULT_SIGMA, Skeleton

_log = logging.getLogger("ctnet")


class CocoKeypointEvaluator(Evaluator):
    """Average precision and recall of poses by object keypoint similarity, as COCO defines them.

    ``compute`` gives ``AP, AP50, AP75, APM, APL, AR, AR50, AR75, ARM, ARL`` (M, L: persons from 32² up to 96²
    and above, pixels of area), and with several classes ``AP/<class>``, all in [0, 1]. A figure for which no
    person exists is left out. At most 20 detections of a class count in an image. Crowd regions and
    persons of whom no joint is labelled absorb detections without counting.
    """

    main_metric = "AP"
    needs_all = True

    def __init__(
        self,
        ground_truth: Mapping[str, Any],
        category_ids: Sequence[int] | np.ndarray,
        class_names: Sequence[str],
        skeleton: Skeleton,
        engine: str = "faster-coco-eval",
    ) -> None:
        """See ``Evaluator``.

        Args:
            ground_truth: the content of a COCO annotation file.
            category_ids: category id of each label.
            class_names: name of each label.
            skeleton: names of the joints and their tolerances.
            engine: "faster-coco-eval", or "pycocotools", which gives the same figures more slowly.
        """
        self.skeleton = skeleton
        if engine not in ENGINES:
            raise unknown_name("evaluation engine", engine, ENGINES)
        self.engine = engine
        super().__init__(ground_truth, category_ids, class_names)
        self._images = [{"id": int(image["id"])} for image in ground_truth["images"]]
        self._persons = _persons(ground_truth, self.category_ids, len(skeleton))
        _say_assumed(skeleton.assumed)

    def update(self, image_id: int, detections: Detections) -> None:
        """See ``Evaluator.update``; the detections need ``keypoints`` (N, J, 2) in image pixels."""
        shape = (len(detections), len(self.skeleton), 2)
        if len(detections):
            points = np.asarray(detections.keypoints)
            if points.shape != shape or not np.isfinite(points).all():
                raise CtnetError(
                    f"the detections of image {image_id} have keypoints of shape {points.shape} or not all "
                    f"finite; needed are finite ones of shape {shape}: are they of another skeleton?"
                )
        super().update(image_id, detections)

    def compute(self) -> dict[str, float]:
        """The figures; see the class."""
        # Axes of precision: OKS threshold, recall, class, size of person, limit of detections (one: 20).
        # Recall lacks the second.
        precision, recall, category_ids = self._curves()
        figures = {
            "AP": precision[:, :, :, 0],
            "AP50": precision[0, :, :, 0],
            "AP75": precision[5, :, :, 0],
            "APM": precision[:, :, :, 1],
            "APL": precision[:, :, :, 2],
            "AR": recall[:, :, 0],
            "AR50": recall[0, :, 0],
            "AR75": recall[5, :, 0],
            "ARM": recall[:, :, 1],
            "ARL": recall[:, :, 2],
        }
        if len(self.class_names) > 1:
            for category_id, name in zip(self.category_ids, self.class_names, strict=True):
                figures[f"AP/{name}"] = precision[:, :, category_ids.index(category_id), 0]
        defined = {name: values[values > -1] for name, values in figures.items()}
        return {name: float(values.mean()) for name, values in defined.items() if values.size}

    def _curves(self) -> tuple[np.ndarray, np.ndarray, list[int]]:
        """Run the engine: precision, recall, and the category id of each class column."""
        if self.engine == "pycocotools":
            from pycocotools.coco import COCO
            from pycocotools.cocoeval import COCOeval
        else:
            from faster_coco_eval import COCO
            from faster_coco_eval import COCOeval_faster as COCOeval

        categories = [{"id": category_id} for category_id in self.category_ids]
        found = [
            entry
            for image_id, detections in sorted(self.state().items())
            for entry in keypoint_results(image_id, detections, self.category_ids)
        ]
        for number, entry in enumerate(found, start=1):  # the engines read an id of 0 as "not matched"
            entry.update(id=number, area=entry["bbox"][2] * entry["bbox"][3], iscrowd=0)
        sides = []
        with contextlib.redirect_stdout(io.StringIO()):
            for annotations in ([dict(person) for person in self._persons], found):
                side = COCO()
                side.dataset = {"images": self._images, "categories": categories, "annotations": annotations}
                side.createIndex()
                sides.append(side)
            evaluation = COCOeval(*sides, iouType="keypoints")
            evaluation.params.kpt_oks_sigmas = np.array(self.skeleton.sigmas)
            evaluation.evaluate()
            evaluation.accumulate()
        curves = evaluation.eval
        ordered = [int(category_id) for category_id in evaluation.params.catIds]
        return np.asarray(curves["precision"])[..., 0], np.asarray(curves["recall"])[..., 0], ordered


def _persons(
    ground_truth: Mapping[str, Any], category_ids: Sequence[int], joints: int
) -> list[dict[str, Any]]:
    """Own copies of the annotations that count, with what COCO leaves optional filled in."""
    persons: list[dict[str, Any]] = []
    for annotation in ground_truth["annotations"]:
        if annotation["category_id"] not in category_ids:
            continue
        values = annotation.get("keypoints") or [0] * (3 * joints)
        if len(values) != 3 * joints:
            raise CtnetError(
                f"annotation id {annotation.get('id')} of the ground truth has {len(values)} keypoint "
                f"numbers, not {3 * joints}; see `ctnet data check`"
            )
        width, height = annotation["bbox"][2:]
        filled = {
            "id": len(persons) + 1,
            "iscrowd": int(annotation.get("iscrowd", 0)),
            "area": annotation.get("area", width * height),
            "keypoints": values,
            "num_keypoints": sum(visibility > 0 for visibility in values[2::3]),
        }
        persons.append({**annotation, **filled})
    if not any(person["num_keypoints"] for person in persons if not person["iscrowd"]):
        raise CtnetError(
            "no person of the ground truth has a labelled joint, so there is nothing to measure; give a "
            "split that has keypoints"
        )
    return persons


def keypoint_results(
    image_id: int, detections: Detections, category_ids: Sequence[int] | np.ndarray
) -> list[dict[str, Any]]:
    """Entries of a COCO keypoint results file: those of boxes with x, y, score of each joint.

    Args:
        image_id: as in the COCO file.
        detections: of one image, in image pixels.
        category_ids: category id of each label.
    """
    entries = detections.to_coco(image_id, category_ids)
    if entries:
        points = np.asarray(detections.keypoints, np.float64)
        scores = np.asarray(detections.keypoint_scores, np.float64)
        table = np.concatenate([points, scores[..., None]], axis=2).reshape(len(entries), -1)
        for entry, row in zip(entries, table.tolist(), strict=True):
            entry["keypoints"] = row
    return entries


@cache
def _say_assumed(joints: tuple[str, ...]) -> None:
    """Tell once which joints are measured by a tolerance that nobody stated."""
    if joints:
        _log.warning(
            "no OKS sigma is known for %s: %g is taken; add 'sigmas' to the category to state them",
            ", ".join(joints),
            DEFAULT_SIGMA,
        )
