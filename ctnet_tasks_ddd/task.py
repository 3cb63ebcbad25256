"""ddd: 3D boxes from one image. An object is a point; depth, dimensions and angle are read off there."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar, Literal

import numpy as np
from torch import Tensor

from ctnet.plugin import (
    DEMO,
    SMALL,
    Affine,
    Annotations,
    Augmentation,
    CellTargets,
    CocoBoxEvaluator,
    CtnetError,
    Detections,
    Evaluator,
    Grid,
    GroundTruth,
    Heatmap,
    ImageInfo,
    Instances,
    Loss,
    Recipe,
    Sample,
    Target,
    Task,
    View,
    box_centres,
    clip_boxes,
    option,
    unknown_name,
)
from ctnet_tasks_ddd.camera import (
    MIRRORED_CORNERS,
    box_corners,
    camera_of,
    known_camera,
    middle,
    project,
    wrap,
)
from ctnet_tasks_ddd.decode import decode_objects, lift_detections
from ctnet_tasks_ddd.encode import encode_objects, peaks_of
from ctnet_tasks_ddd.faults import faults_of
from ctnet_tasks_ddd.fields import CATEGORIES
from ctnet_tasks_ddd.heads import Depth, Distances, Rotation, Values, released_rotation_losses

_log = logging.getLogger("ctnet")

#: Images are seen as they are: cropping and scaling change what is to be measured (section 5).
_AS_IT_IS = Augmentation(flip=0.0, scale=None, shift=0.0, colour=0.0, lighting=0.0)
_PAPER = Recipe(
    epochs=70,
    batch_size=16,
    learning_rate=1.25e-4,
    drops=(45, 60),
    size=(1280, 384),
    augmentation=_AS_IT_IS,
)
#: As the released code's --aug_ddd: images of another scale train neither depth nor dimensions.
_AUGMENTED = dataclasses.replace(
    _PAPER, augmentation=dataclasses.replace(_AS_IT_IS, scale=(0.6, 1.4), shift=0.2, geometric=0.5)
)
_JITTER = dataclasses.replace(_AS_IT_IS, flip=0.5, colour=0.2, lighting=0.05)

#: Objects that the released code makes room for in an image; only its losses ask for it.
_RELEASED_SLOTS = 50


@dataclass(frozen=True)
class Options:
    """Options of ddd."""

    center: Literal["box", "projected"] = option(
        "box", "an object's peak: centre of its box (as released), or of its body, projected"
    )
    loss: Literal["paper", "released"] = option(
        "paper", "means over objects (equations 5 to 7), or over the released code's 50 slots an image"
    )
    ignore: Literal["gaussian", "rectangle"] = option(
        "gaussian", "an ignore region softens the penalty around its centre, or in all its cells"
    )
    size_weight: float = option(0.1, "weight of the size head (lambda_size)")
    depth_weight: float = option(
        1.0, "weight of the depth head (1 in the paper; 0.1 lets the others learn from scratch)"
    )
    focal: float = option(
        0.581, "focal length, in widths of the image, that depths are learnt for (KITTI: 0.581)"
    )


class Boxes3d(Task):
    """3D boxes (section 4.1, appendix B), for images with a camera: ``calib`` in their entries, 3x4.

    Heads: ``heatmap`` [C], ``offset`` [2], ``size`` [2; 4 distances with center=projected], ``depth`` [1],
    ``dimensions`` [3: height, width, length], ``rotation`` [8: two bins].

    Instances carry ``dimensions`` (N, 3) m, ``location`` (N, 3) m, of the floor's centre in the camera's
    frame, ``rotation_y`` and ``alpha`` (N,) rad, ``depth`` (N,) m, which is what the depth head should say,
    ``measured`` (N,) bool, whether depth and dimensions are known and true of this view, and the points
    ``centre`` (N, 2), the projected middle of the body, and ``corners`` (N, 8, 2), the projected corners.
    What is not known (of crowds) is 0, and its points are the box's centre.

    Detections of ``decode`` carry ``centre`` (through which the ray to the object goes), ``alpha``, ``depth``
    and ``dimensions``; ``lift`` makes ``location``, ``rotation_y`` and ``corners`` of them and of the camera.
    Without a camera they stay as they are, and depths are those of a camera of focal length ``focal``.
    """

    name = "ddd"
    contract = 2
    point_fields = ("boxes", "centre", "corners")
    release_names: ClassVar[Mapping[str, str]] = {
        "heatmap": "hm",
        "depth": "dep",
        "rotation": "rot",
        "dimensions": "dim",
        "size": "wh",
        "offset": "reg",
    }
    metrics = ("kitti", "kitti-shipped", "kitti-half", "coco")
    fit = "width"
    Options = Options
    example_categories = tuple(
        {"id": number, "name": name} for number, name in enumerate(CATEGORIES, start=1)
    )
    example_size = (384, 128)
    # Measured: two idle cores see two thousand of these scenes in five minutes. In scenes so near the ray to
    # the box's centre misses the body's middle by much.
    demo_recipe = dataclasses.replace(
        DEMO,
        epochs=10,
        batch_size=8,
        learning_rate=1e-3,
        size=(384, 128),
        augmentation=_JITTER,
        options={"center": "projected", "depth_weight": 0.1},
    )
    demo_scenes: ClassVar[Mapping[str, int]] = {"train": 200, "val": 50}
    # The box's centre is not the body's, projected: what is lifted from it lies beside the truth.
    tolerances: ClassVar[Mapping[str, float]] = {"location": 1.0, "rotation_y": 0.1, "corners": 60.0}

    def __init__(self, categories: Any, **options: Any) -> None:
        super().__init__(categories, **options)
        chosen: Options = self.options
        if chosen.focal <= 0:
            raise CtnetError(f"option focal of task ddd is {chosen.focal:g}; it must be above 0")
        slots = _RELEASED_SLOTS if chosen.loss == "released" else 0
        projected = chosen.center == "projected"
        self.heads = {
            "heatmap": Heatmap(len(self.categories)),
            "offset": Values(2, slots=slots),
            "size": Distances(4, weight=chosen.size_weight, slots=slots)
            if projected
            else Values(2, weight=chosen.size_weight, symmetric=True, slots=slots),
            "depth": Depth(1, weight=chosen.depth_weight, symmetric=True, slots=slots),
            "dimensions": Values(3, symmetric=True, slots=slots),
            "rotation": Rotation(8),
        }

    # --- from annotations to targets

    def parse(self, annotations: Annotations, image: Mapping[str, Any]) -> Instances:
        instances = super().parse(annotations, image)
        camera = known_camera(image)
        measured = ~instances.crowd if camera is not None else np.zeros(len(instances), bool)
        table = np.zeros((len(instances), 8))
        for row, entry in enumerate(annotations):
            if measured[row]:
                table[row] = [*entry["dim"], *entry["location"], entry["rotation_y"], entry["alpha"]]
        return self._with_bodies(instances, table, measured, camera, image["width"])

    def _with_bodies(
        self,
        instances: Instances,
        table: np.ndarray,
        measured: np.ndarray,
        camera: np.ndarray | None,
        width: float,
    ) -> Instances:
        """Instances in image pixels with the columns that the class names.

        Args:
            instances: without them.
            table: (N, 8) float64: dimensions, location, rotation_y, alpha.
            measured: (N,) bool; all others have zeros in the table.
            camera: (3, 4); None only if nothing is measured.
            width: of the image, pixels.
        """
        middle_of_box = box_centres(instances.boxes)
        corners = np.repeat(middle_of_box[:, None], len(MIRRORED_CORNERS), axis=1)
        centre, depth = middle_of_box.copy(), np.zeros(len(instances))
        dimensions, location, rotation_y = table[:, :3], table[:, 3:6], table[:, 6]
        if camera is not None:
            body = dimensions[measured], location[measured]
            centre[measured] = project(middle(*body), camera)
            corners[measured] = project(box_corners(*body, rotation_y[measured]), camera)
            depth[measured] = (body[1][:, 2] + camera[2, 3]) / self._stretch(camera, width)
        return instances.replace(
            dimensions=dimensions,
            location=location,
            rotation_y=rotation_y,
            alpha=table[:, 7],
            depth=depth,
            measured=measured,
            centre=centre,
            corners=corners,
        )

    def annotate(self, instances: Instances) -> list[dict[str, Any]]:
        annotations = super().annotate(instances)
        for row in np.flatnonzero(instances.measured):
            location = instances.location[row].astype(float).round(4).tolist()
            annotations[row] |= {
                "dim": instances.dimensions[row].astype(float).round(4).tolist(),
                "location": location,
                "depth": location[2],
                "alpha": round(float(instances.alpha[row]), 4),
                "rotation_y": round(float(instances.rotation_y[row]), 4),
            }
        return annotations

    def faults(self, annotation: Mapping[str, Any], image: Mapping[str, Any]) -> list[str]:
        return faults_of(annotation, image)

    def swap_sides(self, instances: Instances) -> Instances:
        """As ``Task.swap_sides``; places are those before the mirrored camera."""
        alpha, rotation_y = instances.alpha, instances.rotation_y
        return instances.replace(
            corners=instances.corners[:, list(MIRRORED_CORNERS)],
            location=instances.location * np.array([-1.0, 1.0, 1.0]),
            # Angles are known where a crop's depths are not, but for crowds.
            alpha=np.where(instances.crowd, alpha, wrap(np.pi - alpha)),
            rotation_y=np.where(instances.crowd, rotation_y, wrap(np.pi - rotation_y)),
        )

    def reframe_instances(self, instances: Instances, change: Affine) -> Instances:
        """Shifted and scaled objects do not train depth and dimensions, as in the released code."""
        return instances.replace(measured=np.zeros(len(instances), bool))

    def measures(self, instances: Instances) -> Mapping[str, np.ndarray]:
        known = instances[instances.measured]
        height, width, length = known.dimensions.T
        return {
            "depth (m)": known.location[:, 2],
            "height (m)": height,
            "width (m)": width,
            "length (m)": length,
            "alpha (degrees)": np.degrees(known.alpha),
            "rotation_y (degrees)": np.degrees(known.rotation_y),
        }

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
            raise CtnetError(f"image {info.image_id} ({info.file_name}): {error}; mend its entry") from error
        if camera is None:
            _say_no_camera()
            return detections
        return lift_detections(detections, camera, self._stretch(camera, info.width))

    def _stretch(self, camera: np.ndarray, width: float) -> float:
        """How many times as far away as the depth head says an object is that this camera sees."""
        return float(camera[0, 0] / width / self.options.focal)

    def results(self, image_id: int, detections: Detections) -> list[dict[str, Any]]:
        from ctnet_tasks_ddd.evaluation import result_entries

        return result_entries(super().results(image_id, detections), detections)

    def read_results(self, entries: Sequence[Mapping[str, Any]]) -> Detections:
        from ctnet_tasks_ddd.evaluation import read_entries

        return read_entries(super().read_results(entries), entries)

    def truth(self, instances: Instances, info: ImageInfo) -> Detections:
        found = super().truth(instances, info)
        names = ("alpha", "depth", "dimensions", "location", "rotation_y", "corners")
        columns = {name: found.extra[name] for name in names}
        return Detections(found.boxes, found.scores, found.labels, {**columns, "depth": found.location[:, 2]})

    def differences(self, truth: Detections, found: Detections) -> Mapping[str, np.ndarray]:
        """As ``Task.differences``, of angles the shorter way round."""
        plain = dict(super().differences(truth, found))
        for name in {"alpha", "rotation_y"} & set(plain):
            plain[name] = np.abs(wrap(found.fields()[name] - truth.fields()[name]))
        return plain

    def collides(self, instances: Instances, grid: Grid) -> np.ndarray:
        boxes = clip_boxes(instances.boxes, grid.width, grid.height)
        peaks = peaks_of(instances, boxes, self.options.center == "projected")
        cells = np.floor(peaks)
        shared: np.ndarray = np.tril((cells[:, None] == cells[None]).all(axis=2), -1).any(axis=1)
        return shared

    def evaluator(
        self, truth: GroundTruth, metric: str | None = None, engine: str | None = None
    ) -> Evaluator:
        from ctnet_tasks_ddd.evaluation import KittiEvaluator

        metric = metric or self.metrics[0]
        if metric not in self.metrics:
            raise unknown_name(f"metric of task {self.name}", metric, self.metrics)
        if metric == "coco":
            engine = engine or "faster-coco-eval"
            return CocoBoxEvaluator(truth.as_coco(), self.category_ids, self.class_names, engine)
        if engine is not None:
            raise CtnetError(f"--engine is for the metric coco; {metric} has one implementation")
        iou = metric.removeprefix("kitti").removeprefix("-") or "strict"
        return KittiEvaluator(truth.as_coco(full=True), self.category_ids, self.class_names, iou)

    def draw(self, image: np.ndarray, detections: Detections, info: ImageInfo | None = None) -> np.ndarray:
        from ctnet_tasks_ddd.drawing import draw_objects

        return draw_objects(image, detections, self.class_names)

    # --- training and example data

    def recipes(self, backbone: str) -> Mapping[str, Recipe]:
        """``paper`` (section 5), ``augmented`` (as the released code's --aug_ddd) and ``small`` (ours)."""
        small = dataclasses.replace(SMALL, size=(640, 192), augmentation=_JITTER)
        return {"paper": _PAPER, "augmented": _AUGMENTED, "small": small}

    def example(self, rng: np.random.Generator, size: tuple[int, int]) -> Sample:
        from ctnet_tasks_ddd.scenes import draw_street

        if self.class_names != CATEGORIES:
            raise CtnetError(
                f"task ddd draws {', '.join(CATEGORIES)}, not {', '.join(self.class_names)}; give a data set "
                "with --data DIR"
            )
        image, boxes, labels, table, camera = draw_street(rng, size)
        instances = Instances.of(boxes, labels)
        measured = np.ones(len(instances), bool)
        info = ImageInfo(0, "street", *size, {"calib": camera.tolist()})
        return Sample(image, self._with_bodies(instances, table, measured, camera, size[0]), info)


@cache
def _say_no_camera() -> None:
    """Once a process."""
    _log.warning(
        "there are images without a camera (calib, 3x4, in their entries): their objects get no place in "
        "space, and depths as a camera of the training's focal length would have them"
    )
