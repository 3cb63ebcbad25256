"""The Task contract, and discovering tasks through entry points."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, get_type_hints

import numpy as np
from torch import Tensor

from ctnet.base.errors import CtnetError, unknown_name
from ctnet.base.plugins import discover, load_plugin
from ctnet.core.attributed import wants_attributes, with_attributes
from ctnet.core.attributes import with_examples
from ctnet.core.boxes import box_cells
from ctnet.core.categories import Categories, check_categories
from ctnet.core.declarations import Layout, Scenes, Suppression
from ctnet.core.evaluator import MetricFactory
from ctnet.core.fields import Field
from ctnet.core.frames import Frames
from ctnet.core.geometry import View
from ctnet.core.heads import Head
from ctnet.core.losses import Loss
from ctnet.core.options import NoOptions, parse_options
from ctnet.core.recipe import SMALL, Recipe
from ctnet.core.records import Detections, ImageInfo, Instances, Sample
from ctnet.core.targets import Grid, Target
from ctnet.ops.boxes import box_iou

GROUP = "ctnet.tasks"


class AnnotationWarning(str):
    """A phrase of ``Task.errors`` that is only a warning, shown by ``ctnet data check``."""


class Task(ABC):
    """Everything that defines a detector of one kind of object as a point. The engine uses nothing else.

    A subclass declares its heads, fields and metrics, and implements encoding (instances to targets) and
    decoding (maps to detections). The round trip ties the two together: ``decode(render(encode(x)))`` returns
    x, up to objects that share a cell.

    Attributes:
        name: equals the entry point's name.
        Options: a frozen dataclass of ``option`` fields.
        metrics: name -> factory of an evaluator (see ``metric``); the first is the default.
        scenes: synthetic scenes for its demo and its tests; None for a task without.
        layout: how images are fitted into the input, and which annotation files the task reads.
        suppression: the default non-maximum suppression after ``decode``.
        fields: the columns of instances and detections beyond box, label, crowd and score, by name.
        heads: head name -> Head.
        peaks: the head whose 3x3 peaks are the objects, where ``decode`` reads all else of an object at its
            peak: large images are then decoded tile by tile. None: ``decode`` joins values of several places,
            and gets the maps of the whole image.
        oracles: groups of heads, by a name, whose values mean something only together: ``ctnet analyze
            errors`` replaces them by ground truth at once.
        needs_average: whether the moving average of the weights teaches, see ``taught``.
        frames: what it is shown of a video: this image alone, or the one before and its objects too.
    """

    name: ClassVar[str]
    Options: ClassVar[type] = NoOptions
    metrics: ClassVar[Mapping[str, MetricFactory]]
    scenes: ClassVar[Scenes | None] = None
    layout: ClassVar[Layout] = Layout()
    suppression: ClassVar[Suppression] = Suppression()
    fields: Mapping[str, Field] = {}
    heads: Mapping[str, Head]
    peaks: str | None = None
    oracles: Mapping[str, Sequence[str]] = {}
    needs_average: bool = False
    frames: Frames = Frames()

    def __new__(cls, categories: Any = (), **options: Any) -> Task:
        """A task of this class, or of a subclass where option or categories declare attributes."""
        extends = wants_attributes(categories, options) and not hasattr(cls, "plain")
        made: Task = object.__new__(with_attributes(cls) if extends else cls)
        return made

    def __init__(self, categories: Sequence[Mapping[str, Any]], **options: Any) -> None:
        """Bind the task to a data set's categories.

        Args:
            categories: as in the COCO file (``id``, ``name``, and other keys that the task reads); labels are
                in the order of ids.
            options: values for the fields of ``Options``, converted from strings where needed.

        Raises:
            CtnetError: for categories without id or name, and for unknown or invalid options.
        """
        self.categories = Categories(categories)
        self.options: Any = parse_options(self.Options, options, f"task {self.name}")

    # --- from annotations to targets

    def errors(self, annotation: Mapping[str, Any], image: Mapping[str, Any]) -> list[str]:
        """Errors that no declaration can express: values of an annotation that contradict each other.

        Such a record is left out and listed (or refused with ``--strict``), like one with a bad box. With an
        ``AnnotationWarning`` it is still used; only ``ctnet data check`` shows the warning.

        Args:
            annotation: as in the COCO file, of a known category, with a usable box and usable fields.
            image: the image's entry of the COCO file.

        Returns:
            One short phrase per error ("depth is 10, but the location's z is 12").
        """
        return []

    def complete(self, instances: Instances, image: Mapping[str, Any]) -> Instances:
        """Add derived columns to instances in image pixels, as read by the declarations.

        Args:
            instances: objects of one image; missing values are NaN, or -1 in columns of choices.
            image: the image's entry of the COCO file.
        """
        return instances

    @abstractmethod
    def encode(self, instances: Instances, grid: Grid) -> dict[str, Target]:
        """Instances of one image on the output grid -> each head's targets. No limit on their number."""

    def losses(self, predicted: Mapping[str, Tensor], targets: Mapping[str, Target]) -> dict[str, Loss]:
        """The losses of a batch by name; each head's own unless overridden.

        Override it where a loss reads several heads, or where the positives depend on the predictions. A loss
        with a head's name is multiplied by the head's weight, any other by 1. Names are the same for all
        batches, and counts depend on the targets alone.

        Args:
            predicted: by head, as ``Head.loss`` reads it.
            targets: by head, joined over the batch.
        """
        return {name: head.loss(predicted[name], targets[name]) for name, head in self.heads.items()}

    def taught(self, targets: Mapping[str, Target], seen: Mapping[str, Tensor]) -> Mapping[str, Target]:
        """The targets of a batch as a teacher changes them, before the forward pass; unchanged by default.

        A teacher is a network that does not learn, such as the moving average of the weights. It is asked
        for with ``needs_average``, or given by whoever trains. The counts of the losses must stay as they
        are, since all processes know them already; values, weights and ``Peaks.soft`` may change.

        Args:
            targets: by head, joined over the batch, on the device.
            seen: the teacher's activated maps (B, C, H, W) by head, of the same images.
        """
        return targets

    def cells(self, instances: Instances, grid: Grid) -> np.ndarray:
        """(N, 2) int64: the cell (x, y) of each object's peak; (-1, -1) where the grid shows none of it.

        Unless overridden: the centre of the part of its box that lies on the grid.

        Args:
            instances: objects of one image, on the output grid.
            grid: its size.
        """
        return box_cells(instances.boxes, grid.width, grid.height)

    def collides(self, instances: Instances, grid: Grid) -> np.ndarray:
        """(N,) bool: objects that cannot be decoded because an earlier one takes their place.

        Unless overridden: those that share a cell. Extend it where objects can collide in other ways.

        Args:
            instances: objects of one image, on the output grid.
            grid: its size.
        """
        cells = self.cells(instances, grid)
        shared: np.ndarray = np.tril((cells[:, None] == cells[None]).all(axis=2), -1).any(axis=1)
        return shared

    # --- from maps to results

    @abstractmethod
    def decode(self, maps: Mapping[str, Tensor], k: int) -> Detections:
        """Activated maps -> k detections per image on the output grid (all cells, if fewer), best first.

        It is exported with the network: tensor operations only, no branching on values. The column ``cells``
        (B, k, 2) int64, which the engine removes again, holds the cell (x, y) of each object's peak, where
        the heads of attributes are read.
        """

    def lift(self, detections: Detections, view: View) -> Detections:
        """Add what needs more than pixels (such as a camera) to detections of one image in image pixels.

        Args:
            detections: the best ones above the score threshold, highest score first; their points are in
                image pixels.
            view: the image (``view.info``), and the map from the output grid to its pixels (``view.affine``).

        Returns:
            As many rows.
        """
        return detections

    def overlap(self, a: Detections, b: Detections) -> np.ndarray:
        """Pairwise overlap of detections: (N, M) in [0, 1], 1 for equal ones.

        It is used by non-maximum suppression, by the merging of scales and by the error breakdown. Unless
        overridden: the IoU of the axis-aligned boxes. Override it where these do not describe the objects.

        Args:
            a, b: N and M rows of one image, lifted, in image pixels.
        """
        one, other = (np.asarray(record.boxes, np.float64).reshape(-1, 4) for record in (a, b))
        return box_iou(one, other)

    @abstractmethod
    def draw(self, image: np.ndarray, detections: Detections, info: ImageInfo | None = None) -> np.ndarray:
        """A copy of the image (H, W, 3) uint8 RGB with its detections drawn.

        It may be wider, to show another view next to the image.

        Args:
            image: the image.
            detections: lifted, in image pixels.
            info: metadata of the image (such as its camera).
        """

    # --- training

    def recipes(self, backbone: str) -> Mapping[str, Recipe]:
        """Recipes by name for this task and a backbone; the first is the default."""
        return {"small": SMALL}


def create_task(name: str, categories: Sequence[Mapping[str, Any]], /, **options: Any) -> Task:
    """Create a task by its entry-point name.

    Args:
        name: see ``list_tasks``.
        categories: as in the COCO file.
        options: the task's own, see ``ctnet tasks show NAME``.

    Raises:
        CtnetError: for an unknown task, a plugin that does not load, invalid categories or options.
    """
    made = load_task_class(name)
    check_categories(list(categories))
    if taken := {"self", "cls", "categories"}.intersection(options):  # names of the call's own
        raise unknown_name(f"option of task {name}", min(taken), get_type_hints(made.Options))
    return made(categories, **options)


def scenes_of(task: Task | type[Task]) -> Scenes:
    """The example scenes of a task.

    Raises:
        CtnetError: for a task without scenes.
    """
    if task.scenes is None:
        raise CtnetError(f"task {task.name} has no example scenes; give a data set with --data DIR")
    return task.scenes


def example_of(task: Task, rng: np.random.Generator, size: tuple[int, int] | None = None) -> Sample:
    """A synthetic scene; the same generator state gives the same scene.

    Args:
        task: bound to the categories of its scenes.
        rng: the only source of randomness.
        size: (width, height), pixels; the scenes' default when None.

    Raises:
        CtnetError: for a task without scenes, or one bound to other categories.
    """
    scenes = scenes_of(task)
    if json.dumps([*task.categories]) != json.dumps([*Categories(scenes.categories)]):
        raise CtnetError(
            f"task {task.name} has scenes of {', '.join(Categories(scenes.categories).names)}, not "
            f"{', '.join(task.categories.names)} of other data; give a data set with --data DIR"
        )
    sample = scenes.draw(rng, size or scenes.size)
    image = {**sample.info.record, "width": sample.info.width, "height": sample.info.height}
    instances = with_examples(task.complete(sample.instances, image), task.fields, rng)
    return replace(sample, instances=instances)


def list_tasks() -> list[str]:
    """Names of all installed tasks; imports none of them."""
    return list(discover(GROUP))


def load_task_class(name: str) -> type[Task]:
    """Import a task's class.

    Raises:
        CtnetError: for an unknown name or a plugin that does not load or is not a Task.
    """
    cls = load_plugin(GROUP, name, "task")
    if not (isinstance(cls, type) and issubclass(cls, Task)):
        raise CtnetError(
            f"plugin {name!r} is {cls!r}, not a subclass of ctnet.core.task.Task; report it to its author"
        )
    called = getattr(cls, "name", None)
    if called != name:
        raise CtnetError(
            f"plugin {name!r} is a task with the name {called!r}, so its checkpoints could not be opened "
            "again; its author must make the two names equal"
        )
    return cls
