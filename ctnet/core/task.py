"""The Task contract, and the discovery of tasks through entry points."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from torch import Tensor

from ctnet.base.errors import CtnetError
from ctnet.base.plugins import discover, load_plugin
from ctnet.core.evaluator import Evaluator, GroundTruth
from ctnet.core.geometry import Affine, Fit, View
from ctnet.core.heads import Head
from ctnet.core.losses import Loss
from ctnet.core.options import NoOptions, parse_options
from ctnet.core.recipe import DEMO, SMALL, Recipe
from ctnet.core.records import Annotations, Detections, ImageInfo, Instances, Sample
from ctnet.core.targets import Grid, Target
from ctnet.ops.boxes import box_centres, box_iou
from ctnet.ops.nms import Nms

__all__ = [
    "Annotations",
    "Detections",
    "Grid",
    "ImageInfo",
    "Instances",
    "Sample",
    "Task",
    "create_task",
    "list_tasks",
    "load_task_class",
]

GROUP = "ctnet.tasks"


class Task(ABC):
    """What a detector of one kind of object-as-a-point is made of. The engine knows nothing else about it.

    A subclass declares its heads, says how instances become targets and how maps become detections. The law
    that binds the two: ``decode(render(encode(x)))`` gives x back, up to objects that share a cell.

    Attributes:
        name: equals the entry point's name.
        contract: the version of the contract that it was written for, or the oldest and the newest, see
            ``ctnet.plugin.CONTRACTS``.
        point_fields: fields of instances and detections made of (x, y) pairs; the engine moves them between
            image, input and grid. "boxes" stays upright, other fields have shape (N, ..., 2).
        annotation_prefix: which annotation file of a data directory is the task's own.
        release_names: this task's heads -> their names in the authors' release.
        metrics: names for ``evaluator``; the first is the default.
        fit: how an image is laid into an input of fixed size: "inside" shows all of it, "width" fills the
            input's width, and cuts or pads top and bottom alike.
        nms: suppression after ``decode`` when nobody asks for another: "none", since an object is one peak;
            a task that joins several points to an object may find one in several ways.
        candidates: how many detections ``decode`` is asked for at least, where suppression has to choose
            among them before the best are kept.
        Options: a frozen dataclass of ``option`` fields.
        example_categories: categories of the scenes that ``example`` draws.
        example_size: (width, height) of such a scene when nobody asks for another, pixels.
        demo_recipe: what ``ctnet demo`` trains with, on scenes of its ``size``; also known as recipe "demo".
        demo_scenes: how many scenes per split it draws.
        tolerances: how far the law may miss, by the names that ``differences`` gives; 0.01 unless named.
    """

    name: ClassVar[str]
    contract: ClassVar[int | tuple[int, int]]
    point_fields: ClassVar[tuple[str, ...]] = ("boxes",)
    annotation_prefix: ClassVar[str] = "instances"
    release_names: ClassVar[Mapping[str, str]] = {}
    metrics: ClassVar[tuple[str, ...]] = ("coco",)
    fit: ClassVar[Fit] = "inside"
    nms: ClassVar[Nms] = "none"
    candidates: ClassVar[int] = 0
    Options: ClassVar[type] = NoOptions
    example_categories: ClassVar[Sequence[Mapping[str, Any]]] = ()
    example_size: ClassVar[tuple[int, int]] = (192, 192)
    demo_recipe: ClassVar[Recipe] = DEMO
    demo_scenes: ClassVar[Mapping[str, int]] = {"train": 600, "val": 100}
    tolerances: ClassVar[Mapping[str, float]] = {}

    heads: Mapping[str, Head]

    def __init__(self, categories: Sequence[Mapping[str, Any]], **options: Any) -> None:
        """Bind the task to a data set's categories.

        Args:
            categories: as in the COCO file (``id``, ``name``, what else the task reads); labels follow
                the order of ids.
            options: values for the fields of ``Options``, converted from strings where needed.

        Raises:
            CtnetError: for categories without id or name, and for options that do not exist or do not fit.
        """
        self.categories = _checked_categories(categories)
        self.options: Any = parse_options(self.Options, options, f"task {self.name}")

    @property
    def class_names(self) -> tuple[str, ...]:
        """Name of each label."""
        return tuple(str(category["name"]) for category in self.categories)

    @property
    def category_ids(self) -> np.ndarray:
        """(C,) int64, ascending: the data set's category id of each label."""
        return np.array([category["id"] for category in self.categories], np.int64)

    def labels(self, category_ids: np.ndarray) -> np.ndarray:
        """Data-set category ids -> labels, -1 for an id that the task does not know."""
        known = self.category_ids
        position = np.searchsorted(known, category_ids).clip(max=len(known) - 1)
        return np.where(known[position] == category_ids, position, -1)

    # --- from annotations to targets

    def parse(self, annotations: Annotations, image: Mapping[str, Any]) -> Instances:
        """Annotations of one image -> instances in image pixels. Extend it to add the task's own fields.

        Args:
            annotations: those of known categories and usable boxes.
            image: the image's entry of the COCO file.
        """
        return Instances(annotations.boxes, self.labels(annotations.category_ids), annotations.crowd)

    def faults(self, annotation: Mapping[str, Any], image: Mapping[str, Any]) -> list[str]:
        """What makes an annotation unusable for this task beyond its box; none unless overridden.

        Such a record is left out and listed (or refused with ``--strict``), like one with a bad box.

        Args:
            annotation: as in the COCO file, of a known category and with a usable box.
            image: the image's entry of the COCO file.

        Returns:
            A short phrase for each fault ("keypoints are 50 numbers, not 51").
        """
        return []

    def remarks(self, annotation: Mapping[str, Any], image: Mapping[str, Any]) -> list[str]:
        """What is worth knowing of an annotation without faults, for ``ctnet data check``; see ``faults``."""
        return []

    def annotate(self, instances: Instances) -> list[dict[str, Any]]:
        """Instances in image pixels -> COCO annotations without ids: the inverse of ``parse``."""
        boxes = instances.boxes.astype(float)
        sizes = boxes[:, 2:] - boxes[:, :2]
        return [
            {
                "category_id": int(self.categories[label]["id"]),
                "bbox": [*(round(float(v), 2) for v in box[:2]), *(round(float(v), 2) for v in size)],
                "area": round(float(size[0] * size[1]), 2),
                "iscrowd": int(crowd),
            }
            for box, size, label, crowd in zip(boxes, sizes, instances.labels, instances.crowd, strict=True)
        ]

    def swap_sides(self, instances: Instances) -> Instances:
        """What the mirror changes besides places: left and right change places, angles turn the other way.

        Unless overridden: nothing. Override it where a point is a left or a right one (joints, corners in an
        order), or where a column says where something faces.

        Args:
            instances: of a mirrored image; the engine has moved their points already.
        """
        return instances

    def mirror_maps(self, maps: Mapping[str, Tensor]) -> dict[str, Tensor | None]:
        """Activated maps as seen on the mirrored input, by head; None for one that must not be averaged.

        Unless overridden: what each head's ``mirror`` says of its own map. Override it where heads change
        places (the map of left ends is that of right ends in the mirror).

        Args:
            maps: (B, C, H, W) by head, of all heads.
        """
        return {name: self.heads[name].mirror(values) for name, values in maps.items()}

    def reframe_instances(self, instances: Instances, change: Affine) -> Instances:
        """Instances of an image that augmentation shifts, zooms or turns; called before they are moved.

        Override it where that makes a value untrue (a depth, when the image is zoomed), to mark it so.
        Mirroring plays no part in it: see ``swap_sides``, which is called later.

        Args:
            instances: in image pixels.
            change: from where the plain view shows a pixel to where the augmented one does, input pixels.
        """
        return instances

    def measures(self, instances: Instances) -> Mapping[str, np.ndarray]:
        """Figures of instances whose distribution is worth a line in ``ctnet data stats``, by name with unit.

        Args:
            instances: of one image, in image pixels, no crowds.
        """
        return {}

    @abstractmethod
    def encode(self, instances: Instances, grid: Grid) -> dict[str, Target]:
        """Instances of one image on the output grid -> each head's targets. No cap on their number."""

    def losses(self, predicted: Mapping[str, Tensor], targets: Mapping[str, Target]) -> dict[str, Loss]:
        """Totals and counts of a batch by name; each head's own unless overridden.

        Override it where a loss reads several heads, or where what counts as a positive depends on what was
        predicted. A loss with a head's name is multiplied by the head's weight, any other by 1. Names are the
        same for all batches, and counts depend on the targets alone.

        Args:
            predicted: by head, as ``Head.loss`` reads it.
            targets: by head, joined over the batch.
        """
        return {name: head.loss(predicted[name], targets[name]) for name, head in self.heads.items()}

    # --- from maps to results

    @abstractmethod
    def decode(self, maps: Mapping[str, Tensor], k: int) -> Detections:
        """Activated maps -> k detections per image on the output grid (all cells, if fewer), best first.

        It is exported with the network: tensor operations only, no branching on values.
        """

    def lift(self, detections: Detections, view: View) -> Detections:
        """Detections of one image in image pixels -> with what needs more than pixels (a camera, say).

        Args:
            detections: the best that are above the score, best first; their points are in image pixels.
            view: the image (``view.info``), and the map from the output grid to its pixels (``view.affine``).

        Returns:
            As many rows.
        """
        return detections

    def overlap(self, a: Detections, b: Detections) -> np.ndarray:
        """How much each of some detections overlaps each of others: (N, M) in [0, 1], 1 for equal ones.

        It decides for non-maximum suppression, for the merging of scales and for the error breakdown. Unless
        overridden: the IoU of the upright boxes. Override it where an object is not its upright box.

        Args:
            a, b: N and M rows of one image, lifted, in image pixels.
        """
        return box_iou(_solid(a.boxes), _solid(b.boxes))

    def results(self, image_id: int, detections: Detections) -> list[dict[str, Any]]:
        """Detections of one image -> entries of a COCO results file. Extend it to add the task's own."""
        return detections.to_coco(image_id, self.category_ids)

    def read_results(self, entries: Sequence[Mapping[str, Any]]) -> Detections:
        """Entries of one image in a COCO results file -> detections in image pixels: inverse of ``results``.

        Raises:
            KeyError, TypeError, ValueError: for an entry that lacks something; the caller names it.
        """
        return Detections.from_coco(entries, self.category_ids)

    def truth(self, instances: Instances, info: ImageInfo) -> Detections:
        """Annotated objects (no crowds) as detections of score 1, to be drawn or measured like them."""
        return Detections.of_truth(instances)

    @abstractmethod
    def evaluator(
        self, truth: GroundTruth, metric: str | None = None, engine: str | None = None
    ) -> Evaluator:
        """What measures detections on a data set.

        Args:
            truth: the ground truth, a data set.
            metric: one of ``metrics``; the first when None.
            engine: the implementation behind it, where there are several; the fastest when None.
        """

    @abstractmethod
    def draw(self, image: np.ndarray, detections: Detections, info: ImageInfo | None = None) -> np.ndarray:
        """A copy of the image (H, W, 3) uint8 RGB with detections of one image drawn in.

        It may be wider, to show another view beside the image.

        Args:
            image: the image.
            detections: lifted, in image pixels.
            info: what is known of the image (a camera, say).
        """

    # --- training and example data

    def recipes(self, backbone: str) -> Mapping[str, Recipe]:
        """Recipes by name for this task with a backbone; the first is the default."""
        return {"small": SMALL}

    def example(self, rng: np.random.Generator, size: tuple[int, int]) -> Sample:
        """A synthetic scene of ``example_categories``; the same generator state gives the same scene.

        Args:
            rng: the only source of randomness.
            size: (width, height), pixels.
        """
        raise CtnetError(f"task {self.name} draws no example scenes; give a data set with --data DIR")

    # --- what the law leaves open

    def collides(self, instances: Instances, grid: Grid) -> np.ndarray:
        """(N,) bool: objects that cannot come back because another one, further up, takes their place.

        Unless overridden: those whose box has its centre in the same cell. Extend it where objects also
        compete for something else.

        Args:
            instances: of one image, on the output grid.
            grid: its size.
        """
        cells = np.floor(box_centres(instances.boxes))
        shared: np.ndarray = np.tril((cells[:, None] == cells[None]).all(axis=2), -1).any(axis=1)
        return shared

    def differences(self, truth: Detections, found: Detections) -> Mapping[str, np.ndarray]:
        """How far apart two records are, row by row; with ``tolerances`` it says what "comes back" means.

        Unless overridden: the largest difference in each column of numbers that both have, but for scores.
        Override it where that misleads: an angle that starts again, a point that is not labelled.

        Args:
            truth, found: M rows each, of one image, lifted, in image pixels.

        Returns:
            (M,) by name.
        """
        mine, other = truth.fields(), found.fields()
        return {
            name: np.abs(other[name] - column).max(axis=tuple(range(1, column.ndim)), initial=0)
            for name, column in mine.items()
            if name in other and name != "scores" and np.issubdtype(column.dtype, np.floating)
        }


def create_task(name: str, categories: Sequence[Mapping[str, Any]], **options: Any) -> Task:
    """Make a task by its entry-point name.

    Args:
        name: see ``list_tasks``.
        categories: as in the COCO file.
        options: the task's own, see ``ctnet tasks show NAME``.

    Raises:
        CtnetError: for an unknown task, a plugin that does not load, or options that do not fit.
    """
    return load_task_class(name)(categories, **options)


def list_tasks() -> list[str]:
    """Names of all installed tasks; imports none of them."""
    return list(discover(GROUP))


def load_task_class(name: str) -> type[Task]:
    """Import a task's class.

    Raises:
        CtnetError: for an unknown name or a plugin that does not load or is no Task.
    """
    cls = load_plugin(GROUP, name, "task")
    if not (isinstance(cls, type) and issubclass(cls, Task)):
        raise CtnetError(
            f"plugin {name!r} is {cls!r}, not a subclass of ctnet.core.task.Task; report it to its author"
        )
    called = getattr(cls, "name", None)
    if called != name:
        raise CtnetError(
            f"plugin {name!r} is a task that calls itself {called!r}, so its checkpoints could not be "
            "opened again; its author must make the two names equal"
        )
    return cls


def _solid(boxes: np.ndarray) -> np.ndarray:
    """Boxes in float64; one that ends before it begins (early in training) is empty."""
    boxes = np.array(boxes, np.float64).reshape(-1, 4)
    boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2])
    return boxes


def _checked_categories(categories: Sequence[Mapping[str, Any]]) -> tuple[dict[str, Any], ...]:
    checked = []
    for category in categories:
        if not isinstance(category.get("id"), int) or not category.get("name"):
            raise CtnetError(
                f"category {dict(category)} needs a whole-number id and a name; mend the annotation file"
            )
        checked.append(dict(category))
    checked.sort(key=lambda category: int(category["id"]))
    ids = [category["id"] for category in checked]
    twice = {identity for identity in ids if ids.count(identity) > 1}
    if twice:
        raise CtnetError(f"category id {min(twice)} occurs twice; mend the annotation file")
    if not checked:
        raise CtnetError("there are no categories; the annotation file needs at least one")
    return tuple(checked)
