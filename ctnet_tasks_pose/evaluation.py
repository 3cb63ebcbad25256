"""COCO's figures for keypoints, with the tolerances of any skeleton."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np

from ctnet.plugin import CtnetError, Detections, Evaluator, Points, check_engine, coco_curves, write_fields
from ctnet_tasks_pose.skeleton import DEFAULT_SIGMA, Skeleton

_log = logging.getLogger("ctnet")


class CocoKeypointEvaluator(Evaluator):
    """Average precision and recall of poses by object keypoint similarity, as COCO defines them.

    ``compute`` gives ``AP, AP50, AP75, APM, APL, AR, AR50, AR75, ARM, ARL`` (M, L: persons from 32² up to 96²
    and above, pixels of area), and with several classes ``AP/<class>``, all in [0, 1]. A figure for which no
    person exists is left out. At most ``max_dets`` detections of a class count in an image (COCO: 20).
    Crowd regions and persons of whom no joint is labelled absorb detections without counting.
    """

    main_metric = "AP"
    needs_all = True
    max_dets: int = 20

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
            engine: "faster-coco-eval", or "pycocotools", which gives the same figures more slowly.
        """
        check_engine(engine)
        self.engine = engine
        super().__init__(ground_truth, category_ids, class_names)
        known = [entry for entry in ground_truth["categories"] if entry["id"] in self.category_ids]
        self.skeleton = skeleton = Skeleton.of_categories(known)
        self._persons = _persons(ground_truth, self.category_ids, len(skeleton))
        _say_assumed(skeleton.assumed)

    def update(self, image_id: int, detections: Detections) -> None:
        """See ``Evaluator.update``; the detections need ``keypoints`` (N, J, 2) in image pixels."""
        shape = (len(detections), len(self.skeleton), 2)
        if len(detections):
            points = np.asarray(detections.fields().get("keypoints", ()))
            if points.shape != shape or not np.isfinite(points).all():
                raise CtnetError(
                    f"the detections of image {image_id} have keypoints of shape {points.shape} or not all "
                    f"finite; needed are finite ones of shape {shape}: are they of another skeleton?"
                )
        super().update(image_id, detections)

    def compute(self) -> dict[str, float]:
        """The figures; see the class."""
        # Axes of precision: OKS threshold, recall, class, size of person, limit of detections (one).
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
        joints = Points(
            json="keypoints", n=len(self.skeleton), visible="visibility", scores="keypoint_scores"
        )
        found = []
        for image_id, detections in sorted(self.state().items()):
            entries = detections.to_coco(image_id, self.category_ids)
            write_fields({"keypoints": joints}, entries, detections.fields(), found=True)
            found += entries
        precision, recall, ordered = coco_curves(
            self.engine,
            self._image_names,
            self.category_ids,
            self._persons,
            found,
            [self.max_dets],
            self.skeleton.sigmas,
        )
        return precision[..., 0], recall[..., 0], ordered


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


@cache
def _say_assumed(joints: tuple[str, ...]) -> None:
    """Tell once which joints are measured by a tolerance that nobody stated."""
    if joints:
        _log.warning(
            "no OKS sigma is known for %s: %g is taken; add 'sigmas' to the category to state them",
            ", ".join(joints),
            DEFAULT_SIGMA,
        )
