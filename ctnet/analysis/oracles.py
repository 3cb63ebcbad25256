"""What each head's errors cost: heads replaced by their ground truth."""

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
from ctnet.measuring.run import Evaluation, Settings, evaluate
from ctnet.measuring.stored import evaluate_maps

#: Up to so many heads, the first heatmap is combined with each other head.
_FEW_HEADS = 4


@dataclass(frozen=True)
class OracleRow:
    """The figures with some heads replaced.

    Attributes:
        heads: names of the heads that were ground truth.
        metrics: the evaluator's figures.
        gain: of the main metric against no replaced head.
    """

    heads: tuple[str, ...]
    metrics: Mapping[str, float]
    gain: float


@dataclass(frozen=True)
class Setback:
    """A head whose ground truth does not raise the main metric.

    Attributes:
        added: the head.
        heads: what was ground truth already.
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
        main_metric: the figure that gains and setbacks are of.
        rows: the first is the detector as it is.
        problems: images that could not be read; nothing was found in them.
        detections: what the detector as it is found, by image id.
    """

    main_metric: str
    rows: tuple[OracleRow, ...]
    problems: tuple[Problem, ...] = ()
    detections: State = field(default_factory=dict, repr=False, compare=False)

    @property
    def setbacks(self) -> list[Setback]:
        """Every pair of rows that differ by one head, where that head's ground truth does not help."""
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
    """Measure a detector with heads replaced by their ground truth; the network runs once per image.

    The annotations are encoded as for training and rendered (``Head.render``): a heatmap becomes its
    Gaussians, a regression map carries everywhere the values of the nearest object.

    Args:
        detector: what is measured.
        dataset: images and ground truth.
        heads: combinations of head names, or one of them; see ``combinations`` when None.
        settings: choices at test time, at one scale.

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
    """The same of maps that were stored (``ctnet eval --save-maps``), without the network.

    Args:
        maps: of the data set's images, at one scale.
        dataset: what they are maps of.
        heads: see ``oracle``.
        settings: of these topk, nms, metric count.

    Raises:
        CtnetError: for maps of several scales, or of an image that the data set does not have.
    """
    settings = settings or Settings()
    task = maps.description.create_task()
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


def combinations(heads: Mapping[str, Head]) -> list[tuple[str, ...]]:
    """The combinations worth a row: each head, the first heatmap with others, all regressions, all heads.

    The first heatmap is combined with each other head; where a task has more than four heads, with the others
    one after the other, as in the paper's table 7.

    Args:
        heads: of a task, by name.
    """
    names = list(heads)
    heatmaps = [name for name in names if isinstance(heads[name], Heatmap)]
    first = (heatmaps or names)[0]
    others = [name for name in names if name != first]
    rows: list[tuple[str, ...]] = [(name,) for name in names]
    if len(names) <= _FEW_HEADS:
        rows += [(first, name) for name in others]
    else:
        rows += [(first, *others[:count]) for count in range(1, len(others))]
    rows += [tuple(name for name in names if name not in heatmaps), tuple(names)]
    return _distinct(rows)


def render_heads(
    task: Task,
    names: Sequence[str],
    instances: Sequence[Instances],
    views: Sequence[View],
    grid: Grid,
) -> dict[str, Tensor]:
    """The activated maps that heads without error would give, (B, C, H, W) each.

    Args:
        task: encodes.
        names: of its heads.
        instances: of B images, in image pixels.
        views: how the grid lies over these images.
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
    """Decodes every batch's maps once for each combination of replaced heads."""

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
        """What is known of an image."""
        return self.dataset.info(self._index_of[image_id])

    def take(self, maps: Mapping[str, Tensor], batch: Sequence[Prepared], scale: float) -> None:
        """One batch's activated maps, see ``Detector.detect``."""
        self.decode(maps, [prepared.view(self.stride) for prepared in batch])

    @torch.inference_mode()
    def decode(self, maps: Mapping[str, Tensor], views: Sequence[View]) -> None:
        """Decode the maps once for each combination."""
        some = next(iter(maps.values()))
        grid = Grid(some.shape[2], some.shape[3], len(views))
        instances = [self.dataset.instances(self._index_of[view.info.image_id]) for view in views]
        rendered = render_heads(self.task, self._replaced, instances, views, grid)
        rendered = {name: values.to(some.device) for name, values in rendered.items()}
        for names, evaluator in self.evaluators.items():
            mixed = {**maps, **{name: rendered[name] for name in names}}
            # A rendered heatmap is 0 far from objects: what is read there is nothing.
            found = decode(self.task, mixed, views, self.settings)
            for view, detections in zip(views, found, strict=True):
                merged = merge(self.task, [detections], self.settings)
                evaluator.update(view.info.image_id, merged)

    def result(self, plain: Evaluation) -> Oracle:
        """The table, once all images were taken.

        Args:
            plain: the figures without a replaced head.
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
        return combinations(task.heads)
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
