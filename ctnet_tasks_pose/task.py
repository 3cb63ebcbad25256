"""pose: a person is the centre of a box; joints are offsets from it, snapped to peaks of joint heatmaps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np
from torch import Tensor

from ctnet.plugin import (
    BOX_METRICS,
    DEMO,
    SMALL,
    AnnotationWarning,
    Augmentation,
    Detections,
    Grid,
    Heatmap,
    ImageInfo,
    Instances,
    Layout,
    MetricFactory,
    Recipe,
    Regression,
    Scenes,
    Target,
    Task,
    metric,
    option,
)
from ctnet_tasks_pose.decode import decode_poses
from ctnet_tasks_pose.drawing import draw_poses
from ctnet_tasks_pose.encode import encode_poses
from ctnet_tasks_pose.evaluation import CocoKeypointEvaluator
from ctnet_tasks_pose.figures import FIGURES, draw_figures
from ctnet_tasks_pose.heads import JointHeatmap, JointOffsets, PersonValues
from ctnet_tasks_pose.skeleton import Skeleton

_PAPER = Recipe(epochs=320, batch_size=128, learning_rate=5e-4, milestones=(270, 300))
_DEMO = replace(
    DEMO,
    epochs=6,
    batch_size=8,
    size=(96, 96),
    augmentation=Augmentation(scale=(0.9, 1.1), shift=0.05, colour=0.1, lighting=0),
)
_HOURGLASS = Recipe(epochs=150, batch_size=24, learning_rate=2.5e-4, milestones=(130,))

#: Visibility of an unlabelled joint in COCO files.
UNLABELLED = 0


@dataclass(frozen=True)
class Options:
    """Options of pose."""

    snap: bool = option(True, "move joints to the nearest peak of their heatmap (the paper's -jd; off: -reg)")
    size_weight: float = option(0.1, "weight of the size head (lambda_size)")
    radius: Literal["official", "corrected"] = option("official", "formula of the Gaussian radius")
    crowd: Literal["positive", "ignore"] = option(
        "positive", "crowd regions are persons, or only reduce the penalty around them"
    )
    unlabelled: Literal["positive", "ignore"] = option(
        "positive", "persons without labelled joints are positives, or only reduce the penalty around them"
    )


class Pose(Task):
    """Poses (section 4.2). Joints, names, pairs and limbs are taken from the data set's categories.

    Heads for J joints: ``heatmap`` [C], ``offset`` [2], ``size`` [2], ``joints`` [2 J], ``joint_heatmap``
    [J], ``joint_offset`` [2].

    Instances carry ``keypoints`` (N, J, 2) and ``visibility`` (N, J) int64 (0 not labelled, 1 hidden, 2
    seen); detections carry ``keypoints`` and ``keypoint_scores`` (N, J).
    """

    name = "pose"
    contract = 2
    Options = Options
    metrics: ClassVar[Mapping[str, MetricFactory]] = {
        "keypoints": metric(CocoKeypointEvaluator),
        "keypoints-reference": metric(CocoKeypointEvaluator, engine="pycocotools"),
        **BOX_METRICS,
    }
    # New scenes help more than further epochs on the same ones.
    scenes = Scenes(FIGURES, draw_figures, counts={"train": 1200, "val": 100}, recipe=_DEMO)
    layout = Layout(prefix="person_keypoints")

    def __init__(self, categories: Any, **options: Any) -> None:
        super().__init__(categories, **options)
        self.skeleton = Skeleton.of_categories(self.categories)
        joints, mirrored = len(self.skeleton), tuple(self.skeleton.mirrored)
        self.fields = {"keypoints": self.skeleton.field}
        self.heads = {
            "heatmap": Heatmap(len(self.categories), released="hm"),
            "offset": PersonValues(2, released="reg"),
            "size": PersonValues(2, weight=self.options.size_weight, released="wh", symmetric=True),
            "joints": JointOffsets(2 * joints, released="hps", mirrored=mirrored),
            "joint_heatmap": JointHeatmap(joints, released="hm_hp", mirrored=mirrored),
            "joint_offset": Regression(2, released="hp_offset"),
        }

    # --- from annotations to targets

    def errors(self, annotation: Mapping[str, Any], image: Mapping[str, Any]) -> list[str]:
        """Warnings about labelled joints outside the image.

        In training they count as unlabelled, like joints outside a crop; they are evaluated unchanged, as in
        COCO.
        """
        values = annotation.get("keypoints") or []
        width, height = image["width"], image["height"]
        return [
            AnnotationWarning(f"{name} is at ({x:g}, {y:g}), outside the {width}x{height} image")
            for name, x, y, v in zip(
                self.skeleton.joints, values[::3], values[1::3], values[2::3], strict=False
            )
            if v and not (0 <= x < width and 0 <= y < height)
        ]

    def encode(self, instances: Instances, grid: Grid) -> dict[str, Target]:
        chosen: Options = self.options
        unlabelled = (instances.visibility == UNLABELLED).all(axis=1)
        ignored = (chosen.crowd == "ignore") & instances.crowd | (chosen.unlabelled == "ignore") & unlabelled
        return encode_poses(instances, grid, chosen.radius, ignored)

    # --- from maps to results

    def decode(self, maps: Mapping[str, Tensor], k: int) -> Detections:
        return decode_poses(maps, k, self.options.snap)

    def draw(self, image: np.ndarray, detections: Detections, info: ImageInfo | None = None) -> np.ndarray:
        return draw_poses(image, detections, self.skeleton, self.categories.names)

    # --- training

    def recipes(self, backbone: str) -> Mapping[str, Recipe]:
        """``paper`` (section 6.3, fine-tuned from ctdet) and ``small`` (ours)."""
        paper = _HOURGLASS if backbone.startswith("hourglass") else _PAPER
        return {"paper": paper, "small": SMALL}
