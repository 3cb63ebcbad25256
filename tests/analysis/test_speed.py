from __future__ import annotations

import json
import time

import numpy as np
import pytest
import torch

from ctnet.analysis import measure_speed
from ctnet.analysis.speed import hardware
from ctnet.base.errors import CtnetError
from ctnet.core.task import create_task, list_tasks, load_task_class, scenes_of
from ctnet.inference import DetectionSettings
from ctnet.inference.timing import STAGES


def test_its_description(detector):
    settings = DetectionSettings(flip=True, size=(96, 64))
    done = measure_speed(detector, settings, batch_size=2, repeats=4, warm_up=1)
    assert (done.repeats, done.warm_up, done.batch_size, done.size, done.flip) == (4, 1, 2, (96, 64), True)
    assert (done.task, done.backbone, done.dtype) == ("ctdet", "tiny", "float32")
    assert done.parameters == sum(parameter.numel() for parameter in detector.model.parameters())
    assert f"{torch.get_num_threads()} threads" in done.hardware
    assert {"torch", "ctnet", "torchvision"} <= set(done.versions)
    assert tuple(done.stages) == STAGES
    assert all(0 < duration.median <= duration.p95 for duration in [*done.stages.values(), done.total])
    assert done.images_per_second == pytest.approx(1000 / done.total.median)
    assert json.loads(json.dumps(done.as_dict()))["stages"]["network"]["median"] > 0


def test_only_batches_after_the_warming_up_count(detector, monkeypatch):
    """The network takes 300 ms at first and 5 ms later, 20 ms once; a batch has two images."""
    network = detector.model.activated
    naps = iter([0.3, 0.3, *[0.005] * 9, 0.02])

    def slowly(inputs):
        time.sleep(next(naps))
        return network(inputs)

    monkeypatch.setattr(detector.model, "activated", slowly)
    done = measure_speed(detector, batch_size=2, repeats=10, warm_up=2)
    assert next(naps, None) is None
    assert 2.5 <= done.stages["network"].median < 100
    assert done.stages["network"].p95 >= np.percentile([2.5] * 9 + [10], 95)


def test_tasks_that_draw_no_scenes_get_other_pictures(detector, monkeypatch):
    monkeypatch.setattr(type(detector.task), "scenes", None)
    assert measure_speed(detector, repeats=2, warm_up=0).total.median > 0


@pytest.mark.parametrize("name", list_tasks())
def test_every_task(name, untrained):
    task = create_task(name, scenes_of(load_task_class(name)).categories)
    assert measure_speed(untrained(task, (64, 64)), repeats=1, warm_up=0).task == name


def test_too_little_memory(detector, monkeypatch):
    def full(inputs):
        raise torch.OutOfMemoryError("no memory")

    monkeypatch.setattr(detector.model, "activated", full)
    with pytest.raises(CtnetError, match="needs more memory than available; use --tiles"):
        measure_speed(detector, batch_size=3)


def test_a_size_that_does_not_fit(detector):
    with pytest.raises(CtnetError, match="size 70x70 does not fit"):
        measure_speed(detector, DetectionSettings(size=(70, 70)))


def test_hardware_names_the_processor():
    assert hardware(torch.device("cpu")).endswith("threads")
    assert hardware(torch.device("meta")).startswith("meta (")
