"""Checks of evaluators: every kind of error lowers the main metric."""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable, Iterator, Mapping
from unittest import SkipTest

import numpy as np

from ctnet.base.errors import CtnetError
from ctnet.core.evaluator import Evaluator
from ctnet.core.fields import Angle, Choice, Field, Points, Value
from ctnet.core.masks import Mask
from ctnet.core.records import Detections, object_column
from ctnet.evaluation.evaluators import evaluator_of
from ctnet.testing.check import require
from ctnet.testing.dataset import Truth, truth_of_scenes
from ctnet.testing.probe import Probe, task_check
from ctnet.testing.redrawn import Json, require_exact

Found = Mapping[int, Detections]

#: Minimum drop of the main metric where most detections are wrong.
_MUCH = 0.1
_LITTLE = 1e-3


def metrics_of(probe: Probe, metric: str, found: Found) -> tuple[Evaluator, dict[str, float]]:
    """The metrics of detections; images that are not in ``found`` are not passed to the evaluator."""
    evaluator = evaluator_of(probe.task, truth_of_scenes(probe), metric)
    for image_id, detections in found.items():
        evaluator.update(image_id, detections)
    return evaluator, evaluator.compute()


def main_metric_of(probe: Probe, metric: str, found: Found) -> float:
    """The main metric; all metrics must be finite.

    Raises:
        ContractViolation: when they are not, or when it is missing.
    """
    evaluator, figures = metrics_of(probe, metric, found)
    require(
        evaluator.main_metric in figures,
        f"metric {metric!r} returns {sorted(figures)} without its main metric {evaluator.main_metric!r}",
    )
    broken = [name for name, value in figures.items() if not math.isfinite(value)]
    require(not broken, f"metric {metric!r} gives {', '.join(broken)} that are not finite")
    return figures[evaluator.main_metric]


def _distinct_metrics(probe: Probe) -> Iterator[str]:
    """The first metric of every evaluator class: others differ only in settings."""
    seen = set()
    for metric in probe.task.metrics:
        kind = type(evaluator_of(probe.task, truth_of_scenes(probe), metric))
        if kind not in seen:
            seen.add(kind)
            yield metric


def _must_cost(probe: Probe, spoil: Callable[[int, Detections], Detections], what: str, least: float) -> None:
    """Degrade the detections of every image: the main metric of each evaluator must drop."""
    truth = truth_of_scenes(probe).found
    spoilt = {image_id: spoil(image_id, found) for image_id, found in truth.items()}
    for metric in _distinct_metrics(probe):
        reached = main_metric_of(probe, metric, spoilt)
        require(reached <= 1 - least, f"metric {metric!r} gives {reached:.4g} {what}")
        require(reached >= 0, f"metric {metric!r} gives {reached:.4g} {what}")


@task_check("Task.metrics, Task.fields")
def evaluator_gives_truth_the_perfect_score(probe: Probe) -> None:
    """The annotated objects as detections score 1 in the main metric."""
    truth = truth_of_scenes(probe).found
    for metric in probe.task.metrics:
        reached = main_metric_of(probe, metric, truth)
        require(0.999 <= reached <= 1 + 1e-6, f"metric {metric!r} gives {reached:.4g} for the truth")


@task_check("Task.metrics")
def evaluator_takes_no_detections(probe: Probe) -> None:
    """Without detections every metric is finite, and the main metric is 0."""
    nothing = {image_id: found[:0] for image_id, found in truth_of_scenes(probe).found.items()}
    for metric in probe.task.metrics:
        for way, found in (("no image", {}), ("every image without detections", nothing)):
            reached = main_metric_of(probe, metric, found)
            require(reached == 0, f"metric {metric!r} gives {reached:.4g} when {way} is passed")


@task_check("Evaluator.state, Evaluator.merge")
def evaluators_merge(probe: Probe) -> None:
    """Merged results of several processes equal those of one; an image passed twice counts once."""
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
    """Duplicates cost: every object detected twice scores less than the truth."""
    _must_cost(probe, lambda _, found: _twice(_graded(found)), "for the truth given twice", _LITTLE)


@task_check("Evaluator.compute, Task.metrics")
def evaluator_reads_labels(probe: Probe) -> None:
    """Detections with wrong labels score less."""
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
def evaluator_reads_positions(probe: Probe) -> None:
    """Detections shifted by their own size score less."""
    _must_cost(
        probe, lambda _, found: _beside(probe, found), "for objects shifted by the size of their boxes", _MUCH
    )


@task_check("Evaluator.compute, Task.metrics")
def evaluator_reads_scores(probe: Probe) -> None:
    """Wrong detections with higher scores than the right ones cost more than with lower scores."""
    truth = truth_of_scenes(probe).found
    below, above = (
        {image_id: _with_wrong(probe, found, score) for image_id, found in truth.items()}
        for score in (0.1, 0.9)
    )
    for metric in _distinct_metrics(probe):
        good, bad = (main_metric_of(probe, metric, found) for found in (below, above))
        require(
            bad <= good - _LITTLE,
            f"metric {metric!r} gives {good:.4g} with wrong detections of low scores, "
            f"{bad:.4g} with high ones",
        )


@task_check("Evaluator.compute, Task.metrics")
def evaluator_counts_images_without_detections(probe: Probe) -> None:
    """Images without detections cost the same whether they are passed to the evaluator or not."""
    truth = truth_of_scenes(probe).found
    empty = [image_id for image_id, found in truth.items() if len(found)][::2]
    handed = {image_id: found[: 0 if image_id in empty else None] for image_id, found in truth.items()}
    left_out = {image_id: found for image_id, found in truth.items() if image_id not in empty}
    for metric in _distinct_metrics(probe):
        one, other = (main_metric_of(probe, metric, found) for found in (handed, left_out))
        where = f"metric {metric!r}, {len(empty)} of {len(truth)} images without detections: "
        require(one <= 1 - _LITTLE, f"{where}it gives {one:.4g}")
        require(abs(one - other) <= 1e-9, f"{where}it gives {one:.4g}, not passed {other:.4g}")


@task_check("Evaluator.tally")
def evaluator_tallies_exactly(probe: Probe) -> None:
    """The tally gives, for images drawn again, what ``compute`` gives for a data set of those images."""
    truth = truth_of_scenes(probe)
    found = {image_id: worse(detections, image_id) for image_id, detections in truth.found.items()}
    weights = np.random.default_rng(0).multinomial(len(found), [1 / len(found)] * len(found), 2)
    compared = 0
    for metric in _distinct_metrics(probe):

        def make(content: Json, metric: str = metric) -> Evaluator:
            return evaluator_of(probe.task, Truth(content, content, {}), metric)

        try:
            make(truth.as_coco(full=True)).tally()
        except CtnetError:
            continue
        require_exact(make, truth.as_coco(full=True), found, weights, complete=False)
        compared += 1
    if not compared:
        raise SkipTest("no evaluator keeps a tally")


@task_check("Evaluator.tally")
def matched_truth_is_right(probe: Probe) -> None:
    """The annotated objects as detections are all right, and find every object that counts."""
    truth = truth_of_scenes(probe)
    compared = 0
    for metric in _distinct_metrics(probe):
        evaluator = evaluator_of(probe.task, truth, metric)
        for image_id, found in truth.found.items():
            evaluator.update(image_id, found)
        try:
            matches = evaluator.tally().matches()
        except CtnetError:
            continue
        names = list(probe.task.categories.names)
        require(
            list(matches.classes) == names, f"metric {metric!r} matches {list(matches.classes)}, not {names}"
        )
        for name, matched in matches.classes.items():
            right, wrong = int(matched.right.sum()), int(matched.wrong.sum())
            objects = int(matched.objects.sum())
            require(
                (right, wrong) == (objects, 0),
                f"metric {metric!r}: truth finds {right} of {objects} objects of {name!r}, {wrong} are wrong",
            )
        compared += 1
    if not compared:
        raise SkipTest("no evaluator keeps matched detections")


@task_check("Task.metrics, Task.fields")
def metrics_read_every_field(probe: Probe) -> None:
    """Wrong values of any field of detections change some metric."""
    truth = truth_of_scenes(probe).found
    before = {metric: metrics_of(probe, metric, truth)[1] for metric in _distinct_metrics(probe)}
    names = probe.task.decode(probe.random_maps(1), 1).fields()
    for name, field in probe.task.fields.items():
        if not field.json or not field.annotated or name not in names:
            continue
        wrong = {image_id: _with_wrong_field(name, field, found) for image_id, found in truth.items()}
        reads = any(metrics_of(probe, metric, wrong)[1] != figures for metric, figures in before.items())
        require(reads or not field.measured, f"no metric of {', '.join(before)} changes with {name!r}")
        require(
            field.measured or not reads,
            f"field {name!r} is declared measured=False, but metrics change with it",
        )


def _graded(found: Detections) -> Detections:
    """Detections with scores that decrease from row to row."""
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
    """Right detections of score 0.5 and shifted ones of another score, best first."""
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
    """Detections with wrong values of one field."""
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
    """Detections with some missing, some shifted, and varied scores, best first."""
    rng = np.random.default_rng(seed)
    scores = rng.uniform(0.05, 1, len(truth)).astype(np.float32)
    kept = truth.replace(scores=scores)[rng.random(len(truth)) < 0.8]
    return kept[np.argsort(-kept.scores, kind="stable")]
