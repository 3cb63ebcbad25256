"""Checks of what becomes of detections: figures, results files, pictures."""

from __future__ import annotations

import json
import math
import pickle
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from ctnet.core.documents import detections_of, results_of, truth_of
from ctnet.core.evaluator import Evaluator
from ctnet.core.records import Detections
from ctnet.core.task import evaluator_of
from ctnet.data.dataset import Dataset
from ctnet.testing.check import require
from ctnet.testing.dataset import scenes_as_dataset
from ctnet.testing.probe import Probe, task_check

_IMAGES = 6


@task_check("Task.metrics, Task.fields")
def evaluator_gives_truth_the_perfect_score(probe: Probe) -> None:
    """The annotated objects as detections reach 1 in the main figure of every metric."""
    with _ground_truth(probe) as (dataset, truth):
        for metric in probe.task.metrics:
            evaluator = evaluator_of(probe.task, dataset, metric)
            for image_id, detections in truth.items():
                evaluator.update(image_id, detections)
            reached = _main_figure(evaluator, metric)
            require(reached >= 0.999, f"metric {metric!r} gives {evaluator.main_metric} {reached:.4g}")
            require(reached <= 1 + 1e-6, f"metric {metric!r} gives {evaluator.main_metric} {reached:.4g}")


@task_check("Task.metrics")
def evaluator_takes_no_detections(probe: Probe) -> None:
    """Without any detection every figure is finite, and the main figure is 0."""
    with _ground_truth(probe) as (dataset, truth):
        for metric in probe.task.metrics:
            for way in ("no image is handed over", "every image is handed over without detections"):
                evaluator = evaluator_of(probe.task, dataset, metric)
                if way.startswith("every"):
                    for image_id, detections in truth.items():
                        evaluator.update(image_id, detections[:0])
                reached = _main_figure(evaluator, metric)
                require(reached == 0, f"metric {metric!r} gives {reached:.4g} when {way}")


@task_check("Evaluator.state, Evaluator.merge")
def evaluators_merge(probe: Probe) -> None:
    """Figures from several processes, merged, are those of one; an image seen twice counts once."""
    with _ground_truth(probe) as (dataset, truth):
        worse = {image_id: _worse(found, image_id) for image_id, found in truth.items()}
        for metric in probe.task.metrics:
            whole, *parts = (evaluator_of(probe.task, dataset, metric) for _ in range(4))
            for position, (image_id, detections) in enumerate(worse.items()):
                whole.update(image_id, detections)
                parts[position % 3].update(image_id, detections)
                parts[(position + 1) % 3].update(image_id, detections)
            states = [pickle.loads(pickle.dumps(part.state())) for part in reversed(parts)]
            merged = evaluator_of(probe.task, dataset, metric)
            merged.merge(states)
            one, other = whole.compute(), merged.compute()
            different = [name for name in {*one, *other} if not _close(one.get(name), other.get(name))]
            require(
                not different,
                f"metric {metric!r} gives other {', '.join(sorted(different)[:3])} when merged",
            )


def _close(one: float | None, other: float | None) -> bool:
    return one is not None and other is not None and math.isclose(one, other, abs_tol=1e-9)


def _worse(truth: Detections, seed: int) -> Detections:
    """Detections of which some are missing and some too low, with scores of every kind, best first."""
    rng = np.random.default_rng(seed)
    scores = rng.uniform(0.05, 1, len(truth)).astype(np.float32)
    kept = truth.replace(scores=scores)[rng.random(len(truth)) < 0.8]
    return kept[np.argsort(-kept.scores, kind="stable")]


def _main_figure(evaluator: Evaluator, metric: str) -> float:
    figures = evaluator.compute()
    require(
        evaluator.main_metric in figures,
        f"metric {metric!r} gives {sorted(figures)} without its main figure {evaluator.main_metric!r}",
    )
    broken = [name for name, value in figures.items() if not math.isfinite(value)]
    require(not broken, f"metric {metric!r} gives {', '.join(broken)} that are not finite")
    return figures[evaluator.main_metric]


@contextmanager
def _ground_truth(probe: Probe) -> Iterator[tuple[Dataset, dict[int, Detections]]]:
    """The first scenes as a data set, and their objects as detections by image id."""
    with scenes_as_dataset(probe, _IMAGES) as dataset:
        truth = {}
        for index in range(len(dataset)):
            info = dataset.info(index)
            truth[info.image_id] = truth_of(probe.task, dataset.instances(index))
        yield dataset, truth


@task_check("Task.fields")
def results_come_back(probe: Probe) -> None:
    """Detections written as entries of a COCO results file and read again are the same."""
    with _ground_truth(probe) as (_, truth):
        for image_id, found in truth.items():
            before = _worse(found, image_id)
            entries = json.loads(json.dumps(results_of(probe.task, image_id, before), allow_nan=False))
            require(len(entries) == len(before), f"{len(before)} detections gave {len(entries)} entries")
            require(
                all(entry["image_id"] == image_id for entry in entries), "an entry has another image's id"
            )
            after = detections_of(probe.task, entries)
            derived = {name for name, field in probe.task.fields.items() if not field.json}
            for name, column in before.fields().items():
                if name in derived or column.dtype == object:
                    continue
                require(name in after.fields(), f"field {name!r} is lost")
                same = np.allclose(after.fields()[name], column, rtol=1e-3, atol=0.02)
                require(same, f"{name} {np.asarray(column).tolist()} became {after.fields()[name].tolist()}")


@task_check("Task.draw")
def drawing_makes_a_new_picture(probe: Probe) -> None:
    """draw returns a new image, as high and as wide or wider, that shows the objects; no input changes."""
    for seed, scene in enumerate(probe.scenes(3)):
        truth = truth_of(probe.task, scene.instances)
        image, columns = scene.image.copy(), {k: np.copy(v) for k, v in truth.fields().items()}
        for detections in (truth, _worse(truth, 0), truth[:0]):
            drawn = probe.task.draw(image, detections, scene.info)
            require(
                drawn.dtype == np.uint8
                and drawn.shape[::2] == image.shape[::2]
                and drawn.shape[1] >= image.shape[1],
                f"scene {seed}: the picture is {drawn.dtype} {drawn.shape}, the image {image.shape}",
            )
            require(np.array_equal(image, scene.image), f"scene {seed}: the image itself was drawn on")
            require(
                not np.shares_memory(drawn, image), f"scene {seed}: the picture shares the image's memory"
            )
            shown = len(detections) == 0 or not np.array_equal(drawn, image)
            require(shown, f"scene {seed}: {len(detections)} objects leave no trace")
        for name, column in columns.items():
            same = np.array_equal(truth.fields()[name], column)
            require(same, f"scene {seed}: {name} of the detections was changed")
