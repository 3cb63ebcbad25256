"""Checks of example scenes, and of converting instances to annotations and back."""

from __future__ import annotations

import json
import pickle

import numpy as np

from ctnet.base.errors import CtnetError
from ctnet.core.documents import annotation_errors
from ctnet.core.fields import differences
from ctnet.core.records import Instances, Sample
from ctnet.core.task import example_of, scenes_of
from ctnet.testing.check import require
from ctnet.testing.dataset import scenes_as_dataset
from ctnet.testing.probe import Probe, task_check

_FEW = 8
#: Annotation files carry two decimals.
_ROUNDING = 0.02


@task_check("Task.scenes")
def example_is_valid(probe: Probe) -> None:
    """Example scenes are RGB images of the requested size, with boxes inside the image."""
    task = probe.task
    try:
        scenes_of(task)
        example_of(task, np.random.default_rng(0), probe.size)
    except CtnetError as error:
        require(False, f"none is drawn: {error}")
    width, height = probe.size
    for seed, scene in enumerate(probe.scenes(_FEW)):
        where = f"the scene of seed {seed} "
        image, instances = scene.image, scene.instances
        require(
            image.dtype == np.uint8 and image.shape == (height, width, 3),
            f"{where}is {image.dtype} {image.shape}, not uint8 {(height, width, 3)}",
        )
        require((scene.info.width, scene.info.height) == (width, height), f"{where}has another size in info")
        inside = (instances.boxes >= 0).all() and (instances.boxes <= [width, height] * 2).all()
        require(inside, f"{where}has a box outside the image: {instances.boxes.tolist()}")
        require(
            (instances.boxes[:, 2:] > instances.boxes[:, :2]).all(),
            f"{where}has a box without area: {instances.boxes.tolist()}",
        )
        known = (instances.labels >= 0) & (instances.labels < len(task.categories))
        require(known.all(), f"{where}has labels {instances.labels.tolist()}")
        for name, column in instances.fields().items():
            require(
                column.dtype == object or np.isfinite(column).all(),
                f"{where}has NaN or infinities in {name!r}",
            )
    require(any(len(scene.instances) for scene in probe.scenes(_FEW)), "no scene shows an object")


@task_check("Task.scenes")
def example_is_reproducible(probe: Probe) -> None:
    """Equal generator states give equal scenes, others differ; there is no other source of randomness."""
    probe.scenes(1)  # skips where there are none
    state = pickle.dumps(np.random.get_state())
    one, same, other = (
        example_of(probe.task, np.random.default_rng(seed), probe.size) for seed in (100, 100, 101)
    )
    require(_equal(one, same), "two scenes of seed 100 differ")
    require(not _equal(one, other), "the scenes of seeds 100 and 101 are the same")
    require(pickle.dumps(np.random.get_state()) == state, "it draws from numpy's global generator")


def _equal(one: Sample, other: Sample) -> bool:
    first, second = one.instances.fields(), other.instances.fields()
    return np.array_equal(one.image, other.image) and all(
        np.array_equal(first[name], second[name]) for name in first
    )


@task_check("Task.fields, Task.complete, Task.errors")
def annotations_survive_a_file(probe: Probe) -> None:
    """Instances survive writing to and reading from COCO annotations, without errors."""
    with scenes_as_dataset(probe, _FEW) as dataset:
        require(not dataset.problems, f"ctnet leaves out {dataset.problems[0] if dataset.problems else ''}")
        for index in range(len(dataset)):
            _compare(probe, index, dataset.instances(index))
            for annotation in dataset.annotations(index):
                json.dumps(dict(annotation), allow_nan=False)
                errors = annotation_errors(probe.task, annotation, dataset.info(index).record)
                require(not errors, f"scene {index}: annotation has errors: {errors}")


def _compare(probe: Probe, index: int, after: Instances) -> None:
    """Compare declared fields by their own distance, and other columns for equality."""
    scene, where = probe.scenes(_FEW)[index], f"scene {index}: "
    before = scene.instances
    require(len(before) == len(after), f"{where}{len(before)} instances became {len(after)}")
    gaps = differences(probe.task.fields, before, after)
    for name, values in gaps.items():
        require((values <= _ROUNDING).all(), f"{where}{name} of the instances differ by {values.tolist()}")
    for name, column in before.fields().items():
        require(name in after.fields(), f"{where}field {name!r} is lost")
        if name not in gaps:
            same = np.allclose(column, after.fields()[name], atol=_ROUNDING, equal_nan=True)
            require(same, f"{where}{name} {column.tolist()} became {after.fields()[name].tolist()}")
