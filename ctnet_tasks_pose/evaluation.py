"""The COCO metrics for keypoints, with the tolerances of any skeleton."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ctnet.plugin import CocoEvaluator, CtnetError, Detections, check_column, warn_once, write_fields
from ctnet_tasks_pose.skeleton import DEFAULT_SIGMA, Skeleton


class CocoKeypointEvaluator(CocoEvaluator):
    """Average precision and recall of poses by object keypoint similarity, as COCO defines them.

    ``compute`` returns ``AP, AP50, AP75, APM, APL, AR, AR50, AR75, ARM, ARL`` (M, L: persons from 32² up to
    96² and above, pixels of area), and with several classes ``AP/<class>``. At most ``max_dets`` detections
    per class and image count (COCO: 20). Crowd regions and persons without labelled joints absorb detections
    without counting.
    """

    needs_all = True
    max_dets: int = 20

    def __init__(
        self,
        ground_truth: Mapping[str, Any],
        category_ids: Sequence[int] | np.ndarray,
        class_names: Sequence[str],
        engine: str = "faster-coco-eval",
    ) -> None:
        """See ``CocoEvaluator``; the categories of the ground truth have ``keypoints``."""
        known = [entry for entry in ground_truth["categories"] if entry["id"] in category_ids]
        self.skeleton = Skeleton.of_categories(known)
        self.sigmas = self.skeleton.sigmas
        entries = [entry for entry in ground_truth["annotations"] if entry["category_id"] in category_ids]
        persons = [_counted(entry, len(self.skeleton)) for entry in entries]
        super().__init__({**ground_truth, "annotations": persons}, category_ids, class_names, engine)
        if not any(person["num_keypoints"] for person in self.annotations if not person["iscrowd"]):
            raise CtnetError(
                "no person of the ground truth has a labelled joint, so there is nothing to evaluate; give "
                "a split that has keypoints"
            )
        if self.skeleton.assumed:
            warn_once(
                f"no OKS sigma is known for {', '.join(self.skeleton.assumed)}: {DEFAULT_SIGMA:g} is used; "
                "add 'sigmas' to the category to state them"
            )

    def update(self, image_id: int, detections: Detections) -> None:
        """See ``Evaluator.update``; the detections need ``keypoints`` (N, J, 2) in image pixels."""
        super().update(image_id, detections)
        check_column(image_id, detections, "keypoints", (len(self.skeleton), 2))

    def results(self, image_id: int, detections: Detections) -> list[dict[str, Any]]:
        entries = super().results(image_id, detections)
        write_fields({"keypoints": self.skeleton.field}, entries, detections.fields(), found=True)
        return entries

    def figures(
        self, precision: np.ndarray, recall: np.ndarray, columns: Mapping[str, int]
    ) -> dict[str, np.ndarray]:
        # Axes of precision: OKS threshold, recall, class, size of person, limit of detections (one).
        # Recall lacks the second.
        figures = {
            "AP": precision[:, :, :, 0, 0],
            "AP50": precision[0, :, :, 0, 0],
            "AP75": precision[5, :, :, 0, 0],
            "APM": precision[:, :, :, 1, 0],
            "APL": precision[:, :, :, 2, 0],
            "AR": recall[:, :, 0, 0],
            "AR50": recall[0, :, 0, 0],
            "AR75": recall[5, :, 0, 0],
            "ARM": recall[:, :, 1, 0],
            "ARL": recall[:, :, 2, 0],
        }
        classes = columns if len(columns) > 1 else {}
        return figures | {f"AP/{name}": precision[:, :, row, 0, 0] for name, row in classes.items()}


def _counted(annotation: Mapping[str, Any], joints: int) -> dict[str, Any]:
    """A copy with optional COCO keys filled in."""
    values = annotation.get("keypoints") or [0] * (3 * joints)
    if len(values) != 3 * joints:
        raise CtnetError(
            f"annotation id {annotation.get('id')} of the ground truth has {len(values)} keypoint numbers, "
            f"not {3 * joints}; see `ctnet data check`"
        )
    labelled = sum(visibility > 0 for visibility in values[2::3])
    return {**annotation, "keypoints": values, "num_keypoints": labelled}
