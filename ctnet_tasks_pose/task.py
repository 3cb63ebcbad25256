"""pose: a person is the centre of a box; joints are offsets from it, snapped to peaks of joint heatmaps."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np
from torch import Tensor

from ctnet.plugin import (
    DEMO,
    SMALL,
    Annotations,
    Augmentation,
    CocoBoxEvaluator,
    CtnetError,
    Detections,
    Evaluator,
    Grid,
    GroundTruth,
    Heatmap,
    ImageInfo,
    Instances,
    Recipe,
    Regression,
    Sample,
    Target,
    Task,
    option,
    unknown_name,
)
from ctnet_tasks_pose.decode import decode_poses
from ctnet_tasks_pose.encode import encode_poses
from ctnet_tasks_pose.figures import FIGURES, draw_figures
from ctnet_tasks_pose.heads import JointHeatmap, JointOffsets, PersonValues
from ctnet_tasks_pose.skeleton import Skeleton

_PAPER = Recipe(epochs=320, batch_size=128, learning_rate=5e-4, drops=(270, 300))
_DEMO = replace(
    DEMO,
    epochs=6,
    batch_size=8,
    size=(96, 96),
    augmentation=Augmentation(scale=(0.9, 1.1), shift=0.05, colour=0.1, lighting=0),
)
_HOURGLASS = Recipe(epochs=150, batch_size=24, learning_rate=2.5e-4, drops=(130,))

#: Visibility of a joint in COCO files: not labelled, labelled but hidden, labelled and seen.
UNLABELLED, HIDDEN, SEEN = 0, 1, 2


@dataclass(frozen=True)
class Options:
    """Options of pose."""

    snap: bool = option(True, "move joints to the nearest peak of their heatmap (the paper's -jd; off: -reg)")
    size_weight: float = option(0.1, "weight of the size head (lambda_size)")
    radius: Literal["official", "corrected"] = option("official", "formula of the Gaussian radius")
    crowd: Literal["positive", "ignore"] = option(
        "positive", "crowd regions are persons, or only soften the penalty around them"
    )
    unlabelled: Literal["positive", "ignore"] = option(
        "positive", "persons of whom no joint is labelled are found, or only soften the penalty around them"
    )


class Pose(Task):
    """Poses (section 4.2). Joints, their names, pairs and limbs are those of the data set's categories.

    Heads for J joints: ``heatmap`` [C], ``offset`` [2], ``size`` [2], ``joints`` [2 J], ``joint_heatmap``
    [J], ``joint_offset`` [2].

    Instances carry ``keypoints`` (N, J, 2) and ``visibility`` (N, J) int64 (0 not labelled, 1 hidden, 2
    seen); detections carry ``keypoints`` and ``keypoint_scores`` (N, J).
    """

    name = "pose"
    contract = 2
    point_fields = ("boxes", "keypoints")
    annotation_prefix = "person_keypoints"
    release_names: ClassVar[Mapping[str, str]] = {
        "heatmap": "hm",
        "offset": "reg",
        "size": "wh",
        "joints": "hps",
        "joint_heatmap": "hm_hp",
        "joint_offset": "hp_offset",
    }
    metrics = ("keypoints", "coco")
    Options = Options
    example_categories = FIGURES
    demo_recipe = _DEMO
    # New scenes teach more than seeing the same ones again.
    demo_scenes: ClassVar[Mapping[str, int]] = {"train": 1200, "val": 100}
    # Joints of all kinds share one offset map: where two lie in one cell, a peak may be off within it.
    tolerances: ClassVar[Mapping[str, float]] = {"keypoints": 4.0}

    def __init__(self, categories: Any, **options: Any) -> None:
        super().__init__(categories, **options)
        self.skeleton = Skeleton.of_categories(self.categories)
        joints, mirrored = len(self.skeleton), tuple(self.skeleton.mirrored)
        self.heads = {
            "heatmap": Heatmap(len(self.categories)),
            "offset": PersonValues(2),
            "size": PersonValues(2, weight=self.options.size_weight, symmetric=True),
            "joints": JointOffsets(2 * joints, mirrored=mirrored),
            "joint_heatmap": JointHeatmap(joints, mirrored=mirrored),
            "joint_offset": Regression(2),
        }

    # --- from annotations to targets

    def parse(self, annotations: Annotations, image: Mapping[str, Any]) -> Instances:
        joints = len(self.skeleton)
        instances = super().parse(annotations, image)
        blank = [0.0] * (3 * joints)
        rows = [annotation.get("keypoints") or blank for annotation in annotations]
        table = np.array(rows, np.float64).reshape(len(rows), joints, 3)
        return instances.replace(
            keypoints=table[..., :2].astype(np.float32), visibility=table[..., 2].astype(np.int64)
        )

    def annotate(self, instances: Instances) -> list[dict[str, Any]]:
        return [
            {**annotation, "keypoints": _triples(points, seen), "num_keypoints": int((seen > 0).sum())}
            for annotation, points, seen in zip(
                super().annotate(instances), instances.keypoints, instances.visibility, strict=True
            )
        ]

    def faults(self, annotation: Mapping[str, Any], image: Mapping[str, Any]) -> list[str]:
        values = annotation.get("keypoints")
        if not values:
            return []  # a person of whom only the box is known
        joints = self.skeleton.joints
        if not isinstance(values, Sequence) or len(values) != 3 * len(joints):
            count = f"{len(values)} numbers" if isinstance(values, Sequence) else repr(values)
            return [
                f"keypoints are {count}, not {3 * len(joints)} (x, y, visibility of {len(joints)} joints)"
            ]
        faults = []
        for name, x, y, visibility in zip(joints, values[::3], values[1::3], values[2::3], strict=True):
            if visibility not in (UNLABELLED, HIDDEN, SEEN):
                faults.append(f"visibility of {name} is {visibility!r}, not 0, 1 or 2")
            elif not (_is_finite(x) and _is_finite(y)):
                faults.append(f"{name} lies at ({x!r}, {y!r}), which are no finite numbers")
        return faults

    def remarks(self, annotation: Mapping[str, Any], image: Mapping[str, Any]) -> list[str]:
        """What is worth knowing of an annotation without faults: labelled joints that its image cannot show.

        They are trained as not labelled, like joints outside a crop, and evaluated as COCO does: as they are.
        """
        values = annotation.get("keypoints") or []
        width, height = image["width"], image["height"]
        return [
            f"{name} lies at ({x:g}, {y:g}), outside the {width}x{height} image"
            for name, x, y, v in zip(
                self.skeleton.joints, values[::3], values[1::3], values[2::3], strict=False
            )
            if v and not (0 <= x < width and 0 <= y < height)
        ]

    def swap_sides(self, instances: Instances) -> Instances:
        order = self.skeleton.mirrored
        return instances.replace(
            keypoints=instances.keypoints[:, order], visibility=instances.visibility[:, order]
        )

    def measures(self, instances: Instances) -> Mapping[str, np.ndarray]:
        return {"labelled joints": (instances.visibility > UNLABELLED).sum(axis=1)}

    def encode(self, instances: Instances, grid: Grid) -> dict[str, Target]:
        chosen: Options = self.options
        ignored = np.zeros(len(instances), bool)
        if chosen.crowd == "ignore":
            ignored |= instances.crowd
        if chosen.unlabelled == "ignore":
            ignored |= (instances.visibility == UNLABELLED).all(axis=1)
        return encode_poses(instances, grid, chosen.radius, ignored)

    # --- from maps to results

    def decode(self, maps: Mapping[str, Tensor], k: int) -> Detections:
        return decode_poses(maps, k, self.options.snap)

    def results(self, image_id: int, detections: Detections) -> list[dict[str, Any]]:
        from ctnet_tasks_pose.evaluation import keypoint_results

        return keypoint_results(image_id, detections, self.category_ids)

    def read_results(self, entries: Sequence[Mapping[str, Any]]) -> Detections:
        found = super().read_results(entries)
        shape = (len(entries), len(self.skeleton), 3)
        table = np.array([entry["keypoints"] for entry in entries], np.float64).reshape(shape)
        return found.replace(keypoints=table[..., :2], keypoint_scores=table[..., 2])

    def truth(self, instances: Instances, info: ImageInfo) -> Detections:
        found = super().truth(instances, info)
        labelled = (found.visibility > UNLABELLED).astype(np.float32)
        extra = {"keypoints": found.keypoints, "keypoint_scores": labelled}
        return Detections(found.boxes, found.scores, found.labels, extra)

    def differences(self, truth: Detections, found: Detections) -> Mapping[str, np.ndarray]:
        """As ``Task.differences``, of labelled joints alone."""
        plain = super().differences(truth, found)
        distance = np.abs(found.keypoints - truth.keypoints) * (truth.keypoint_scores > 0)[..., None]
        farthest = distance.reshape(len(truth), -1).max(axis=1, initial=0)
        return {"boxes": plain["boxes"], "keypoints": farthest}

    def evaluator(
        self, truth: GroundTruth, metric: str | None = None, engine: str | None = None
    ) -> Evaluator:
        from ctnet_tasks_pose.evaluation import CocoKeypointEvaluator

        metric = metric or self.metrics[0]
        if metric not in self.metrics:
            raise unknown_name(f"metric of task {self.name}", metric, self.metrics)
        engine = engine or "faster-coco-eval"
        if metric == "coco":
            return CocoBoxEvaluator(truth.as_coco(), self.category_ids, self.class_names, engine)
        return CocoKeypointEvaluator(
            truth.as_coco(full=True), self.category_ids, self.class_names, self.skeleton, engine
        )

    def draw(self, image: np.ndarray, detections: Detections, info: ImageInfo | None = None) -> np.ndarray:
        from ctnet_tasks_pose.drawing import draw_poses

        return draw_poses(image, detections, self.skeleton, self.class_names)

    # --- training and example data

    def recipes(self, backbone: str) -> Mapping[str, Recipe]:
        """``paper`` (section 6.3, fine-tuned from ctdet) and ``small`` (ours)."""
        paper = _HOURGLASS if backbone.startswith("hourglass") else _PAPER
        return {"paper": paper, "small": SMALL}

    def example(self, rng: np.random.Generator, size: tuple[int, int]) -> Sample:
        if self.skeleton.joints != tuple(FIGURES[0]["keypoints"]):
            raise CtnetError(
                "task pose draws figures with the joints of its example_categories, not of other skeletons; "
                "give a data set with --data DIR"
            )
        return draw_figures(rng, size)


def _triples(points: np.ndarray, visibility: np.ndarray) -> list[float | int]:
    """COCO's x, y, visibility of each joint; an unlabelled joint is 0, 0, 0."""
    values: list[float | int] = []
    for (x, y), seen in zip(points.astype(float).tolist(), visibility.tolist(), strict=True):
        values += [round(x, 2), round(y, 2), seen] if seen else [0, 0, 0]
    return values


def _is_finite(value: Any) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)
