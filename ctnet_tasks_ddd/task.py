"""ddd: 3D boxes from one image. An object is a point, where depth, dimensions and angle are predicted."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from torch import Tensor

from ctnet.plugin import (
    BOX_METRICS,
    DEMO,
    SMALL,
    Angle,
    Augmentation,
    CellTargets,
    CtnetError,
    Detections,
    Field,
    Grid,
    Heatmap,
    ImageInfo,
    Instances,
    Layout,
    Loss,
    MetricFactory,
    Points,
    Recipe,
    Scenes,
    Target,
    Task,
    Value,
    View,
    box_centres,
    clip_boxes,
    metric,
    option,
    warn_once,
)
from ctnet_tasks_ddd.camera import (
    MIRRORED_CORNERS,
    box_corners,
    camera_of,
    known_camera,
    middle,
    project,
)
from ctnet_tasks_ddd.contradictions import contradictions
from ctnet_tasks_ddd.decode import decode_objects, lift_detections
from ctnet_tasks_ddd.drawing import draw_objects
from ctnet_tasks_ddd.encode import encode_objects, peaks_of
from ctnet_tasks_ddd.evaluation import KittiEvaluator
from ctnet_tasks_ddd.fields import CATEGORIES
from ctnet_tasks_ddd.heads import Depth, Distances, Rotation, Values, released_rotation_losses
from ctnet_tasks_ddd.scenes import draw_street

#: No cropping or scaling, which would change the depth (section 5).
_AS_IT_IS = Augmentation(flip=0.0, scale=None, shift=0.0, colour=0.0, lighting=0.0)
_PAPER = Recipe(
    epochs=70,
    batch_size=16,
    learning_rate=1.25e-4,
    milestones=(45, 60),
    size=(1280, 384),
    augmentation=_AS_IT_IS,
)
#: As the released code's --aug_ddd: rescaled images train neither depth nor dimensions.
_AUGMENTED = dataclasses.replace(
    _PAPER, augmentation=dataclasses.replace(_AS_IT_IS, scale=(0.6, 1.4), shift=0.2, geometric=0.5)
)
_JITTER = dataclasses.replace(_AS_IT_IS, flip=0.5, colour=0.2, lighting=0.05)

#: Slots for objects per image in the released code; only used by its losses.
_RELEASED_SLOTS = 50


@dataclass(frozen=True)
class Options:
    """Options of ddd."""

    center: Literal["box", "projected"] = option(
        "box", "an object's peak: centre of its box (as released), or its projected 3D centre"
    )
    loss: Literal["paper", "released"] = option(
        "paper", "means over objects (equations 5 to 7), or over the released code's 50 slots per image"
    )
    ignore: Literal["gaussian", "rectangle"] = option(
        "gaussian", "an ignore region reduces the penalty around its centre, or in all its cells"
    )
    size_weight: float = option(0.1, "weight of the size head (lambda_size)")
    depth_weight: float = option(
        1.0, "weight of the depth head (1 in the paper; 0.1 lets the others learn from scratch)"
    )
    focal: float = option(0.581, "focal length, in image widths, that depths are learnt for (KITTI: 0.581)")


class Boxes3d(Task):
    """3D boxes (section 4.1, appendix B), for images with a camera: ``calib`` in their entries, 3x4.

    Heads: ``heatmap`` [C], ``offset`` [2], ``size`` [2; 4 distances with center=projected], ``depth`` [1],
    ``dimensions`` [3: height, width, length], ``rotation`` [8: two bins].

    Instances carry ``dimensions`` (N, 3) m, ``location`` (N, 3) m, the bottom centre in the camera's frame,
    ``depth`` (N,) m, its z, ``rotation_y`` and ``alpha`` (N,) rad, ``depth_target`` (N,) m, the target of the
    depth head, and the points ``centre`` (N, 2), the projected 3D centre, and ``corners`` (N, 8, 2), the
    projected corners. Unknown values (of crowd regions), or those invalid in this view, are NaN; unknown
    points are the box's centre.

    Detections of ``decode`` carry ``centre`` (through which the ray to the object goes), ``alpha``, ``depth``
    and ``dimensions``; ``lift`` computes ``location``, ``rotation_y`` and ``corners`` from them and the
    camera. Without a camera they are unchanged, and depths are those of a camera of focal length ``focal``.
    """

    name = "ddd"
    contract = 2
    Options = Options
    metrics: ClassVar[Mapping[str, MetricFactory]] = {
        "kitti": metric(KittiEvaluator),
        "kitti-shipped": metric(KittiEvaluator, iou="shipped"),
        "kitti-half": metric(KittiEvaluator, iou="half"),
        **BOX_METRICS,
    }
    # Measured: two idle cores see two thousand of these scenes in five minutes. In scenes this close, the ray
    # to the box's centre is far from the 3D centre.
    scenes = Scenes(
        tuple({"id": number, "name": name} for number, name in enumerate(CATEGORIES, start=1)),
        draw_street,
        size=(384, 128),
        counts={"train": 200, "val": 50},
        recipe=dataclasses.replace(
            DEMO,
            epochs=10,
            batch_size=8,
            learning_rate=1e-3,
            size=(384, 128),
            augmentation=_JITTER,
            options={"center": "projected", "depth_weight": 0.1},
        ),
    )
    layout = Layout(fit="width")
    peaks = "heatmap"
    # The box's centre is not the projected 3D centre, so positions lifted from it are biased.
    fields: Mapping[str, Field] = {
        "dimensions": Value(
            json="dim", needed="objects", width=3, limits=(1e-6, math.inf), digits=4, unit="m",
            parts=("height", "width", "length"), under_zoom="unknown",
        ),
        "location": Value(
            json="location", needed="objects", width=3, digits=4, unit="m", parts=("x", "y", "z"),
            mirror_sign=(-1, 1, 1), tolerance=1.0,
        ),
        # Metrics evaluate the location, which includes the depth as z.
        "depth": Value(
            json="depth", needed="never", measured=False, digits=4, unit="m", under_zoom="unknown"
        ),
        "alpha": Angle(json="alpha", needed="objects"),
        "rotation_y": Angle(json="rotation_y", needed="objects", tolerance=0.1),
        "centre": Points(json=""),
        "corners": Points(
            json="corners", needed="never", annotated=False, n=8, swap=MIRRORED_CORNERS, tolerance=60.0
        ),
    }  # fmt: skip

    def __init__(self, categories: Any, **options: Any) -> None:
        super().__init__(categories, **options)
        chosen: Options = self.options
        if chosen.focal <= 0:
            raise CtnetError(f"option focal of task ddd is {chosen.focal:g}; it must be above 0")
        slots = _RELEASED_SLOTS if chosen.loss == "released" else 0
        projected = chosen.center == "projected"
        self.heads = {
            "heatmap": Heatmap(len(self.categories), released="hm"),
            "offset": Values(2, released="reg", slots=slots),
            "size": Distances(4, weight=chosen.size_weight, released="wh", slots=slots)
            if projected
            else Values(2, weight=chosen.size_weight, released="wh", symmetric=True, slots=slots),
            "depth": Depth(1, weight=chosen.depth_weight, released="dep", symmetric=True, slots=slots),
            "dimensions": Values(3, released="dim", symmetric=True, slots=slots),
            "rotation": Rotation(8, released="rot"),
        }

    # --- from annotations to targets

    def complete(self, instances: Instances, image: Mapping[str, Any]) -> Instances:
        """Columns derived from 3D boxes and the camera; for objects without 3D data, from their boxes."""
        camera = known_camera(image)
        measured = ~np.isnan(instances.dimensions).any(axis=1)
        middle_of_box = box_centres(instances.boxes)
        corners = np.repeat(middle_of_box[:, None], len(MIRRORED_CORNERS), axis=1)
        centre, target = middle_of_box.copy(), np.full(len(instances), np.nan)
        if camera is not None:
            known = instances[measured]
            body = known.dimensions.astype(np.float64), known.location.astype(np.float64)
            centre[measured] = project(middle(*body), camera)
            corners[measured] = project(box_corners(*body, known.rotation_y.astype(np.float64)), camera)
            target[measured] = (body[1][:, 2] + camera[2, 3]) / self._stretch(camera, image["width"])
        return instances.replace(
            depth=instances.location[:, 2], depth_target=target, centre=centre, corners=corners
        )

    def errors(self, annotation: Mapping[str, Any], image: Mapping[str, Any]) -> list[str]:
        return contradictions(annotation, image)

    def cells(self, instances: Instances, grid: Grid) -> np.ndarray:
        boxes = clip_boxes(instances.boxes, grid.width, grid.height)
        peaks = np.floor(peaks_of(instances.replace(boxes=boxes), self.options.center == "projected"))
        visible = (boxes[:, 2:] > boxes[:, :2]).all(axis=1, keepdims=True)
        return np.where(visible, peaks, -1).astype(np.int64)

    def encode(self, instances: Instances, grid: Grid) -> dict[str, Target]:
        chosen: Options = self.options
        return encode_objects(instances, grid, chosen.center == "projected", chosen.ignore == "rectangle")

    def losses(self, predicted: Mapping[str, Tensor], targets: Mapping[str, Target]) -> dict[str, Loss]:
        losses = super().losses(predicted, targets)
        if self.options.loss == "released":
            del losses["rotation"]
            rotation = targets["rotation"]
            assert isinstance(rotation, CellTargets)
            losses |= released_rotation_losses(predicted["rotation"], rotation, _RELEASED_SLOTS)
        return losses

    # --- from maps to results

    def decode(self, maps: Mapping[str, Tensor], k: int) -> Detections:
        return decode_objects(maps, k)

    def lift(self, detections: Detections, view: View) -> Detections:
        info = view.info
        try:
            camera = camera_of(info.record)
        except ValueError as error:
            raise CtnetError(f"image {info.image_id} ({info.file_name}): {error}; fix its entry") from error
        if camera is None:
            warn_once(
                "there are images without a camera (calib, 3x4, in their entries): their objects get no 3D "
                "position, and their depths are those of a camera with the training's focal length"
            )
            return detections
        return lift_detections(detections, camera, self._stretch(camera, info.width))

    def _stretch(self, camera: np.ndarray, width: float) -> float:
        """The factor from predicted depths to depths for this camera."""
        return float(camera[0, 0] / width / self.options.focal)

    def draw(self, image: np.ndarray, detections: Detections, info: ImageInfo | None = None) -> np.ndarray:
        return draw_objects(image, detections, self.categories.names)

    # --- training

    def recipes(self, backbone: str) -> Mapping[str, Recipe]:
        """``paper`` (section 5), ``augmented`` (as the released code's --aug_ddd) and ``small`` (ours)."""
        small = dataclasses.replace(SMALL, size=(640, 192), augmentation=_JITTER)
        return {"paper": _PAPER, "augmented": _AUGMENTED, "small": small}
