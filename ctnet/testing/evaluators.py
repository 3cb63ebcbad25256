"""Checks of evaluators: every way to be worse than the truth costs."""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable, Iterator, Mapping
from unittest import SkipTest

import numpy as np

from ctnet.core.evaluator import Evaluator
from ctnet.core.fields import Angle, Choice, Field, Points, Value
from ctnet.core.masks import Mask
from ctnet.core.records import Detections, object_column
from ctnet.evaluation.evaluators import evaluator_of
from ctnet.testing.check import require
from ctnet.testing.dataset import truth_of_scenes
from ctnet.testing.probe import Probe, task_check

Found = Mapping[int, Detections]

#: By how much the main figure must fall where most detections are spoilt.
_MUCH = 0.1
_LITTLE = 1e-3


def figures_of(probe: Probe, metric: str, found: Found) -> tuple[Evaluator, dict[str, float]]:
    """What a metric makes of detections; images that ``found`` lacks are not handed over."""
    evaluator = evaluator_of(probe.task, truth_of_scenes(probe), metric)
    for image_id, detections in found.items():
        evaluator.update(image_id, detections)
    return evaluator, evaluator.compute()


def main_figure(probe: Probe, metric: str, found: Found) -> float:
    """The figure that tells which of two models is better; all figures must be finite.

    Raises:
        ContractViolation: when they are not, or when it is missing.
    """
    evaluator, figures = figures_of(probe, metric, found)
    require(
        evaluator.main_metric in figures,
        f"metric {metric!r} gives {sorted(figures)} without its main figure {evaluator.main_metric!r}",
    )
    broken = [name for name, value in figures.items() if not math.isfinite(value)]
    require(not broken, f"metric {metric!r} gives {', '.join(broken)} that are not finite")
    return figures[evaluator.main_metric]


def _distinct_metrics(probe: Probe) -> Iterator[str]:
    """The first metric of every class of evaluators: others differ in settings."""
    seen = set()
    for metric in probe.task.metrics:
        kind = type(evaluator_of(probe.task, truth_of_scenes(probe), metric))
        if kind not in seen:
            seen.add(kind)
            yield metric


def _must_cost(probe: Probe, spoil: Callable[[int, Detections], Detections], what: str, least: float) -> None:
    """Spoil the detections of every image: the main figure of each kind of metric must fall."""
    truth = truth_of_scenes(probe).found
    spoilt = {image_id: spoil(image_id, found) for image_id, found in truth.items()}
    for metric in _distinct_metrics(probe):
        reached = main_figure(probe, metric, spoilt)
        require(reached <= 1 - least, f"metric {metric!r} gives {reached:.4g} {what}")
        require(reached >= 0, f"metric {metric!r} gives {reached:.4g} {what}")


@task_check("Task.metrics, Task.fields")
def evaluator_gives_truth_the_perfect_score(probe: Probe) -> None:
    """The annotated objects as detections reach 1 in the main figure of every metric."""
    truth = truth_of_scenes(probe).found
    for metric in probe.task.metrics:
        reached = main_figure(probe, metric, truth)
        require(0.999 <= reached <= 1 + 1e-6, f"metric {metric!r} gives {reached:.4g} for the truth")


@task_check("Task.metrics")
def evaluator_takes_no_detections(probe: Probe) -> None:
    """Without any detection every figure is finite, and the main figure is 0."""
    nothing = {image_id: found[:0] for image_id, found in truth_of_scenes(probe).found.items()}
    for metric in probe.task.metrics:
        for way, found in (("no image", {}), ("every image without detections", nothing)):
            reached = main_figure(probe, metric, found)
            require(reached == 0, f"metric {metric!r} gives {reached:.4g} when {way} is handed over")


@task_check("Evaluator.state, Evaluator.merge")
def evaluators_merge(probe: Probe) -> None:
    """Figures from several processes, merged, are those of one; an image seen twice counts once."""
    truth = truth_of_scenes(probe)
    found = {image_id: worse(detections, image_id) for image_id, detections in truth.found.items()}
    for metric in probe.task.metrics:
        whole, *parts = (evaluator_of(probe.task, truth, metric) for _ in range(4))
        for position, (image_id, detections) in enumerate(found.items()):
            whole.update(image_id, detections)
            parts[position % 3].update(image_id, detections)
            parts[(position + 1) % 3].update(image_id, detections)
        states = [pickle.loads(pickle.dumps(part.state())) for part in reversed(parts)]
        merged = evaluator_of(probe.task, truth, metric)
        merged.merge(states)
        one, other = whole.compute(), merged.compute()
        different = [name for name in {*one, *other} if not _close(one.get(name), other.get(name))]
        require(
            not different,
            f"metric {metric!r} gives other {', '.join(sorted(different)[:3])} when merged",
        )


def _close(one: float | None, other: float | None) -> bool:
    return one is not None and other is not None and math.isclose(one, other, abs_tol=1e-9)


@task_check("Evaluator.compute, Task.metrics")
def evaluator_counts_an_object_once(probe: Probe) -> None:
    """Every object found twice scores less than the truth: one of each two detections is wrong."""
    _must_cost(probe, lambda _, found: _twice(_graded(found)), "for the truth given twice", _LITTLE)


@task_check("Evaluator.compute, Task.metrics")
def evaluator_reads_labels(probe: Probe) -> None:
    """Objects found with the label of another class score less."""
    classes = len(probe.task.categories)
    if classes == 1:
        raise SkipTest("there is one class")
    _must_cost(
        probe,
        lambda _, found: found.replace(labels=(found.labels + 1) % classes),
        "for the truth with the labels of other classes",
        _MUCH,
    )


@task_check("Evaluator.compute, Task.metrics")
def evaluator_reads_places(probe: Probe) -> None:
    """Objects found beside their places, by their own size, score less."""
    _must_cost(
        probe, lambda _, found: _beside(probe, found), "for objects shifted by the size of their boxes", _MUCH
    )


@task_check("Evaluator.compute, Task.metrics")
def evaluator_reads_scores(probe: Probe) -> None:
    """Wrong detections above the right ones score less than the same ones below."""
    truth = truth_of_scenes(probe).found
    below, above = (
        {image_id: _with_wrong(probe, found, score) for image_id, found in truth.items()}
        for score in (0.1, 0.9)
    )
    for metric in _distinct_metrics(probe):
        good, bad = (main_figure(probe, metric, found) for found in (below, above))
        require(
            bad <= good - _LITTLE,
            f"metric {metric!r} gives {good:.4g} with wrong detections of low scores, "
            f"{bad:.4g} with high ones",
        )


@task_check("Evaluator.compute, Task.metrics")
def evaluator_counts_images_without_detections(probe: Probe) -> None:
    """Images in which nothing was found cost as much whether they are handed over or not."""
    truth = truth_of_scenes(probe).found
    empty = [image_id for image_id, found in truth.items() if len(found)][::2]
    handed = {image_id: found[: 0 if image_id in empty else None] for image_id, found in truth.items()}
    left_out = {image_id: found for image_id, found in truth.items() if image_id not in empty}
    for metric in _distinct_metrics(probe):
        one, other = (main_figure(probe, metric, found) for found in (handed, left_out))
        where = f"metric {metric!r}, {len(empty)} of {len(truth)} images without detections: "
        require(one <= 1 - _LITTLE, f"{where}it gives {one:.4g}")
        require(abs(one - other) <= 1e-9, f"{where}it gives {one:.4g}, not handed over {other:.4g}")


@task_check("Task.metrics, Task.fields")
def metrics_read_every_field(probe: Probe) -> None:
    """For every field of detections some metric gives other figures when its values are wrong."""
    truth = truth_of_scenes(probe).found
    before = {metric: figures_of(probe, metric, truth)[1] for metric in _distinct_metrics(probe)}
    names = probe.task.decode(probe.random_maps(1), 1).fields()
    for name, field in probe.task.fields.items():
        if not field.json or not field.annotated or name not in names:
            continue
        wrong = {image_id: _with_wrong_field(name, field, found) for image_id, found in truth.items()}
        reads = any(figures_of(probe, metric, wrong)[1] != figures for metric, figures in before.items())
        require(reads or not field.measured, f"no figure of {', '.join(before)} changes with {name!r}")
        require(
            field.measured or not reads,
            f"field {name!r} is declared measured=False, but figures change with it",
        )


def _graded(found: Detections) -> Detections:
    """With scores that fall from row to row."""
    return found.replace(scores=np.linspace(0.9, 0.5, len(found)).astype(np.float32))


def _twice(found: Detections) -> Detections:
    return found[np.repeat(np.arange(len(found)), 2)]


def _beside(probe: Probe, found: Detections) -> Detections:
    """Every object shifted by the width and height of its box."""
    rows = []
    for row in range(len(found)):
        one = found[row]
        rows.append(probe.moved(one, 1, (one.boxes[:, 2:] - one.boxes[:, :2]).ravel()))
    return _joined(rows) if rows else found


def _with_wrong(probe: Probe, found: Detections, score: float) -> Detections:
    """With shifted objects of one score beside the right ones of 0.5, best first."""
    right = found.replace(scores=np.full(len(found), 0.5, np.float32))
    wrong = _beside(probe, found).replace(scores=np.full(len(found), score, np.float32))
    both = _joined([right, wrong])
    return both[np.argsort(-both.scores, kind="stable")]


def _joined(parts: list[Detections]) -> Detections:
    columns = [part.fields() for part in parts]
    joined = {}
    for name, first in columns[0].items():
        values = [column[name] for column in columns]
        plain = np.asarray(first).dtype != object
        joined[name] = np.concatenate(values) if plain else object_column(v for some in values for v in some)
    return parts[0].replace(**joined)


def _with_wrong_field(name: str, field: Field, found: Detections) -> Detections:
    """With wrong values of one field, everything else as it was."""
    column = found.fields()[name]
    changed: dict[str, np.ndarray] = {}
    if isinstance(field, Points):
        sides = found.boxes[:, 2:] - found.boxes[:, :2]
        changed = {name: column + sides.reshape(len(found), *[1] * (column.ndim - 2), 2)}
    elif isinstance(field, Angle):
        changed = {name: column + 0.4 * field.period}
    elif isinstance(field, Value):
        changed = {name: 2 * column + 1}
    elif isinstance(field, Choice):
        count = len(field.choices)
        changed = {name: np.where(column < 0, column, (column + 1) % count)}
        if field.scores in found.extra:
            changed |= {field.scores: np.roll(found.extra[field.scores], 1, axis=1)}
    elif isinstance(field, Mask):
        changed = {name: object_column(None for _ in column)}
    return found.replace(**{key: value.astype(found.fields()[key].dtype) for key, value in changed.items()})


def worse(truth: Detections, seed: int) -> Detections:
    """Detections of which some are missing and some too low, with scores of every kind, best first."""
    rng = np.random.default_rng(seed)
    scores = rng.uniform(0.05, 1, len(truth)).astype(np.float32)
    kept = truth.replace(scores=scores)[rng.random(len(truth)) < 0.8]
    return kept[np.argsort(-kept.scores, kind="stable")]
