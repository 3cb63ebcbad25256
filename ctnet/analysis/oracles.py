"""The cost of each head's errors: heads are replaced by ground truth."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ctnet.base.errors import CtnetError, unknown_name
from ctnet.base.progress import track
from ctnet.core.evaluator import Evaluator, State
from ctnet.core.fields import move_record
from ctnet.core.geometry import View
from ctnet.core.heads import Head, Heatmap
from ctnet.core.records import ImageInfo, Instances
from ctnet.core.targets import Grid, Target, collate_targets
from ctnet.core.task import Task
from ctnet.data.dataset import Dataset
from ctnet.data.problems import Problem
from ctnet.evaluation.evaluators import evaluator_of
from ctnet.inference.decoding import decode, merge
from ctnet.inference.detector import Detector
from ctnet.inference.maps import MapFile
from ctnet.inference.preprocessing import Prepared
from ctnet.measuring.reading import Settings
from ctnet.measuring.run import Evaluation, evaluate
from ctnet.measuring.stored import evaluate_maps

#: With up to this many heads, the first heatmap is combined with each other head.
_FEW_HEADS = 4


@dataclass(frozen=True)
class OracleRow:
    """The metrics with some heads replaced.

    Attributes:
        heads: names of the heads replaced by ground truth.
        metrics: the evaluator's figures.
        gain: the gain of the main metric over no replaced head.
    """

    heads: tuple[str, ...]
    metrics: Mapping[str, float]
    gain: float


@dataclass(frozen=True)
class Setback:
    """A head whose ground truth does not raise the main metric.

    Attributes:
        added: the head.
        heads: the heads that were already replaced.
        before, after: the main metric.
    """

    added: str
    heads: tuple[str, ...]
    before: float
    after: float


@dataclass(frozen=True)
class Oracle:
    """The paper's table 7.

    Attributes:
        main_metric: the metric that gains and setbacks refer to.
        rows: the first is the detector without replacement.
        problems: images that could not be read; nothing was found in them.
        detections: the detector's own detections, by image id.
    """

    main_metric: str
    rows: tuple[OracleRow, ...]
    problems: tuple[Problem, ...] = ()
    detections: State = field(default_factory=dict, repr=False, compare=False)

    @property
    def setbacks(self) -> list[Setback]:
        """All pairs of rows that differ by one head whose ground truth does not help."""
        main = self.main_metric
        found = []
        for row in self.rows:
            for other in self.rows:
                added = set(other.heads) - set(row.heads)
                if len(added) == 1 and set(row.heads) < set(other.heads):
                    before, after = row.metrics.get(main, 0.0), other.metrics.get(main, 0.0)
                    if after <= before:
                        found.append(Setback(added.pop(), row.heads, before, after))
        return found

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON; without the detections."""
        return {
            "main_metric": self.main_metric,
            "rows": [dataclasses.asdict(row) for row in self.rows],
            "setbacks": [dataclasses.asdict(setback) for setback in self.setbacks],
        }


#: Combinations of heads, or a single one.
Heads = Sequence[str] | Sequence[Sequence[str]]


def oracle(
    detector: Detector, dataset: Dataset, heads: Heads | None = None, settings: Settings | None = None
) -> Oracle:
    """Evaluate a detector with heads replaced by their ground truth; the network runs once per image.

    The annotations are encoded as for training and rendered (``Head.render``): a heatmap becomes its
    Gaussians, a regression map has the values of the nearest object in every cell.

    Args:
        detector: what is measured.
        dataset: images and ground truth.
        heads: combinations of head names, or one of them; see ``combinations`` when None.
        settings: test-time settings, at one scale.

    Raises:
        CtnetError: for an unknown head, and all that ``evaluate`` refuses.

    Source: appendix E, table 7.
    """
    settings = settings or Settings()
    if len(settings.scales) > 1:
        raise CtnetError("heads are replaced at one scale; leave --scales and --multiscale out")
    dataset = dataset.with_task(detector.task)
    study = _Study(detector.task, detector.description.stride, dataset, settings, heads)
    plain = evaluate(detector, dataset, settings, "replacing heads", keep_maps=study.take)
    return study.result(plain)


def oracle_of_maps(
    maps: MapFile, dataset: Dataset, heads: Heads | None = None, settings: Settings | None = None
) -> Oracle:
    """The same for stored maps (``ctnet eval --save-maps``), without the network.

    Args:
        maps: the maps of the data set's images, at one scale.
        dataset: the data set of the maps.
        heads: see ``oracle``.
        settings: only topk, nms and metric are used.

    Raises:
        CtnetError: for maps of several scales, or of an image that the data set does not have.
    """
    settings = settings or Settings()
    task = maps.description.create_task(maps.path)
    dataset = dataset.with_task(task)
    study = _Study(task, maps.description.stride, dataset, settings, heads)
    plain = evaluate_maps(maps, dataset, task, settings.topk, settings.nms, settings.metric)
    for image_id in track(maps.image_ids, "replacing heads"):
        stored = maps[image_id]
        if len(stored) > 1:
            raise CtnetError(f"{maps.path} holds maps of several scales; heads are replaced at one scale")
        view = View.through(study.info(image_id), stored[0].affine, maps.description.stride)
        study.decode(stored[0].maps, [view])
    return study.result(plain)


def combinations(
    heads: Mapping[str, Head], groups: Mapping[str, Sequence[str]] | None = None
) -> list[tuple[str, ...]]:
    """The combinations to evaluate: each head, the first heatmap with others, all regressions, all heads.

    The first heatmap is combined with each other head; where a task has more than four heads, with the others
    added one by one, as in the paper's table 7. The heads of a group count as one.

    Args:
        heads: the heads of a task, by name.
        groups: see ``Task.oracles``.
    """
    owner = {name: tuple(members) for members in (groups or {}).values() for name in members}
    units = list(dict.fromkeys(owner.get(name, (name,)) for name in heads))
    heatmaps = [unit for unit in units if any(isinstance(heads[name], Heatmap) for name in unit)]
    first = (heatmaps or units)[0]
    others = [unit for unit in units if unit != first]
    rows: list[list[tuple[str, ...]]] = [[unit] for unit in units]
    if len(units) <= _FEW_HEADS:
        rows += [[first, unit] for unit in others]
    else:
        rows += [[first, *others[:count]] for count in range(1, len(others))]
    rows += [[unit for unit in units if unit not in heatmaps], units]
    return _distinct([tuple(name for unit in row for name in unit) for row in rows])


def render_heads(
    task: Task,
    names: Sequence[str],
    instances: Sequence[Instances],
    views: Sequence[View],
    grid: Grid,
) -> dict[str, Tensor]:
    """The activated maps of perfect heads, (B, C, H, W) each.

    Args:
        task: encodes.
        names: the names of the heads to render.
        instances: objects of B images, in image pixels.
        views: the views of these images.
        grid: the output grid; its ``batch`` is B.
    """
    targets: list[dict[str, Target]] = []
    for of_image, view in zip(instances, views, strict=True):
        on_grid = move_record(of_image, view.affine.inverse(), task.fields)
        targets.append(task.encode(on_grid, Grid(grid.height, grid.width)))
    return {
        name: task.heads[name].render(collate_targets([target[name] for target in targets]), grid)
        for name in names
    }


class _Study:
    """Decodes every batch's maps once per combination of replaced heads."""

    def __init__(
        self, task: Task, stride: int, dataset: Dataset, settings: Settings, heads: Heads | None
    ) -> None:
        self.task, self.stride, self.dataset, self.settings = task, stride, dataset, settings
        chosen = _checked(task, heads)
        self.evaluators: dict[tuple[str, ...], Evaluator] = {
            names: evaluator_of(task, dataset, settings.metric) for names in chosen
        }
        self._replaced = [name for name in task.heads if any(name in names for names in chosen)]
        self._index_of = {int(image_id): index for index, image_id in enumerate(dataset.image_ids)}

    def info(self, image_id: int) -> ImageInfo:
        """Metadata of an image."""
        return self.dataset.info(self._index_of[image_id])

    def take(self, maps: Mapping[str, Tensor], batch: Sequence[Prepared], scale: float) -> None:
        """One batch's activated maps, see ``Detector.detect``."""
        self.decode(maps, [prepared.view(self.stride) for prepared in batch])

    @torch.inference_mode()
    def decode(self, maps: Mapping[str, Tensor], views: Sequence[View]) -> None:
        """Decode the maps once per combination."""
        some = next(iter(maps.values()))
        grid = Grid(some.shape[2], some.shape[3], len(views))
        instances = [self.dataset.instances(self._index_of[view.info.image_id]) for view in views]
        rendered = render_heads(self.task, self._replaced, instances, views, grid)
        rendered = {name: values.to(some.device) for name, values in rendered.items()}
        for names, evaluator in self.evaluators.items():
            mixed = {**maps, **{name: rendered[name] for name in names}}
            # A rendered heatmap is 0 far from objects: these detections have score 0.
            found = decode(self.task, mixed, views, self.settings)
            for view, detections in zip(views, found, strict=True):
                merged = merge(self.task, [detections], self.settings)
                evaluator.update(view.info.image_id, merged)

    def result(self, plain: Evaluation) -> Oracle:
        """The table, after all images.

        Args:
            plain: the metrics without a replaced head.
        """
        assert plain.evaluator is not None
        main = plain.main_metric
        rows = [OracleRow((), plain.metrics, 0.0)]
        for names, evaluator in self.evaluators.items():
            metrics = evaluator.compute()
            rows.append(OracleRow(names, metrics, metrics.get(main, 0.0) - plain.metrics.get(main, 0.0)))
        return Oracle(main, tuple(rows), tuple(plain.problems), plain.evaluator.state())


def _checked(task: Task, heads: Heads | None) -> list[tuple[str, ...]]:
    """Combinations of known heads, each in the task's order."""
    if heads is None:
        return combinations(task.heads, task.oracles)
    single = all(isinstance(name, str) for name in heads)
    rows: list[Any] = [heads] if single else list(heads)
    for name in (name for row in rows for name in row):
        if name not in task.heads:
            raise unknown_name(f"head of task {task.name}", name, task.heads)
    return _distinct([tuple(name for name in task.heads if name in row) for row in rows])


def _distinct(rows: Sequence[tuple[str, ...]]) -> list[tuple[str, ...]]:
    first: dict[frozenset[str], tuple[str, ...]] = {}
    for row in rows:
        if row:
            first.setdefault(frozenset(row), row)
    return list(first.values())
