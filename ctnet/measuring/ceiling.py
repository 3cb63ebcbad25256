"""The metrics that no training can exceed: a data set's annotations, encoded, rendered and decoded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ctnet.base.progress import track
from ctnet.core.task import Task
from ctnet.data.dataset import Dataset
from ctnet.evaluation.evaluators import evaluator_of
from ctnet.inference.preprocessing import Preprocessor
from ctnet.measuring.rendered import missed_objects, render, under_a_cell
from ctnet.model import check_input_size


@dataclass(frozen=True)
class NamedObject:
    """An object that a perfect network of this grid cannot find well, or only by its centre.

    Attributes:
        image_id, file_name: its image.
        category: name of its class.
        bbox: x, y, width, height in image pixels.
        cause: why it is named.
    """

    image_id: int
    file_name: str
    category: str
    bbox: tuple[float, float, float, float]
    cause: str


@dataclass(frozen=True)
class Ceiling:
    """What a perfect network reaches at one input size.

    Attributes:
        size: (width, height) of the input in pixels; None where images keep their resolution.
        objects: number of objects, without crowd regions.
        metrics, main_metric: see ``Evaluator``.
        missed: objects that are not found with the required IoU.
        under_a_cell: objects with a side shorter than a cell of the output grid, whether found or not.
    """

    size: tuple[int, int] | None
    objects: int
    metrics: dict[str, float]
    main_metric: str
    missed: tuple[NamedObject, ...]
    under_a_cell: tuple[NamedObject, ...]

    @property
    def name(self) -> str:
        """The size in words."""
        return "own resolution" if self.size is None else "{}x{}".format(*self.size)

    def causes(self) -> dict[str, int]:
        """How many objects are missed for each cause, most first."""
        return dict(Counter(each.cause for each in self.missed).most_common())

    def to_json(self) -> dict[str, Any]:
        return {
            "size": None if self.size is None else list(self.size),
            "objects": self.objects,
            "main_metric": self.main_metric,
            "metrics": self.metrics,
            "causes": self.causes(),
            "missed": [asdict(each) for each in self.missed],
            "under_a_cell": [asdict(each) for each in self.under_a_cell],
        }


def ceiling(
    dataset: Dataset,
    task: Task,
    preprocess: Preprocessor,
    stride: int = 4,
    topk: int = 100,
    threshold: float = 0.75,
    metric: str | None = None,
) -> Ceiling:
    """Encode, render and decode every image's annotations, and evaluate what is found.

    Args:
        dataset: the annotations; images are not read.
        task: encodes, renders and decodes; bound to the data set.
        preprocess: how images are fitted into the input.
        stride: input pixels per output cell.
        topk: detections per image.
        threshold: IoU below which an object counts as missed.
        metric: see ``evaluator_of``.
    """
    evaluator = evaluator_of(task, dataset, metric)
    size = preprocess.size if preprocess.resize == "fix" else None
    missed: list[NamedObject] = []
    small: list[NamedObject] = []
    objects = 0
    description = "rendering" if size is None else "rendering {}x{}".format(*size)
    for index in track(range(len(dataset)), description):
        rendered = render(task, dataset, index, preprocess, topk, stride)
        evaluator.update(dataset.info(index).image_id, rendered.detections)
        objects += int((~rendered.instances.crowd).sum())
        lost = missed_objects(rendered, threshold, topk)
        missed += [_named(dataset, task, index, row, cause) for row, cause in lost]
        tiny = under_a_cell(rendered)
        small += [_named(dataset, task, index, row, "a side is shorter than a cell") for row in tiny]
    metrics = evaluator.compute()
    return Ceiling(size, objects, metrics, evaluator.main_metric, tuple(missed), tuple(small))


def ceilings(
    dataset: Dataset,
    task: Task,
    sizes: Sequence[tuple[int, int] | None],
    divisor: int = 32,
    stride: int = 4,
    topk: int = 100,
    threshold: float = 0.75,
) -> list[Ceiling]:
    """The ceiling at several input sizes; arguments as ``ceiling``.

    Args:
        dataset, task, stride, topk, threshold: see ``ceiling``.
        sizes: (width, height) in pixels, multiples of the divisor; None: images keep their resolution.
        divisor: see ``Backbone``.

    Raises:
        CtnetError: for a size that does not fit the divisor.
    """
    for size in sizes:
        if size is not None:
            check_input_size(size, divisor, "the network")
    found = []
    for size in sizes:
        fit = task.layout.fit
        preprocess = Preprocessor("keep" if size is None else "fix", size or (divisor, divisor), divisor, fit)
        found.append(ceiling(dataset, task, preprocess, stride, topk, threshold))
    return found


def _named(dataset: Dataset, task: Task, index: int, row: int, cause: str) -> NamedObject:
    info, instances = dataset.info(index), dataset.instances(index)
    x1, y1, x2, y2 = (round(float(edge), 2) for edge in np.asarray(instances.boxes[row]))
    name = task.categories.names[int(instances.labels[row])]
    box = (x1, y1, round(x2 - x1, 2), round(y2 - y1, 2))
    return NamedObject(info.image_id, info.file_name, name, box, cause)
