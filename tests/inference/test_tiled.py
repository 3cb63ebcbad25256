"""Detections of tiles, against those of the whole image."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from torch import nn

from ctnet.base.errors import CtnetError
from ctnet.checkpoint import Description
from ctnet.core.records import Detections
from ctnet.core.task import create_task, load_task_class, scenes_of
from ctnet.inference import DetectionSettings, Detector
from ctnet.inference import tiled as tiled_module
from ctnet.model import CenterNet, create_model

KEPT = DetectionSettings(resize="keep", score=1e-6, topk=200, clip=False)


def lively(model: CenterNet) -> CenterNet:
    """Random weights whose maps differ everywhere."""
    images = torch.randn(2, 3, 128, 128, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        for branches in model.branches:
            for branch in branches.values():
                branch[-1].weight.normal_(std=0.2)
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = 1.0  # one pass sets the statistics
        model.train()(images)
    return model.eval()


def built(task: str, backbone: str) -> Detector:
    torch.manual_seed(0)
    made = create_task(task, scenes_of(load_task_class(task)).categories)
    model = lively(create_model(made, backbone))
    return Detector(made, model, Description.of(made, backbone, (64, 64)))


def assert_same(whole: Detections, tiled: Detections, scores: float = 1e-5, pixels: float = 0.01) -> None:
    """Equal rows in any order, but for those whose score is so low that others may take their place."""
    assert len(whole) == len(tiled)
    for one, other in ((whole, tiled), (tiled, whole)):
        lowest = one.scores.min() + 2 * scores
        sure = one[one.scores > lowest] if len(one) == KEPT.topk else one
        assert len(sure) > 20
        for row in range(len(sure)):
            gap = np.abs(other.boxes - sure.boxes[row]).max(axis=1)
            nearest = int(np.where(other.labels == sure.labels[row], gap, np.inf).argmin())
            assert gap[nearest] < pixels
            assert abs(other.scores[nearest] - sure.scores[row]) < scores


@pytest.mark.parametrize(
    ("backbone", "size"),
    [
        ("resfpn18", (800, 90)),
        pytest.param("resfpn18", (1000, 690), marks=pytest.mark.thorough),
        pytest.param("resnet18", (1000, 690), marks=pytest.mark.thorough),
    ],
)
def test_exact_tiles_give_what_the_image_gives(backbone: str, size: tuple[int, int], random_image) -> None:
    detector, image = built("ctdet", backbone), random_image(*size)
    (whole,) = detector(image, KEPT)
    (tiled,) = detector(image, replace(KEPT, tiles=640, overlap="exact"))
    assert_same(whole, tiled)


def test_a_narrower_overlap_loses_something(random_image) -> None:
    """The guard above would notice a halo that is too narrow."""
    detector, image = built("ctdet", "resfpn18"), random_image(800, 90)
    (whole,) = detector(image, KEPT)
    (tiled,) = detector(image, replace(KEPT, tiles=640, overlap=64))
    with pytest.raises(AssertionError):
        assert_same(whole, tiled)


@pytest.mark.parametrize("task", ["ctdet", "ddd", "pose"])
@pytest.mark.parametrize("changed", [{}, {"flip": True}, {"scales": (0.5, 1.0, 1.3)}, {"nms": "hard"}])
def test_settings_and_tasks(task: str, changed, tiny: str, random_image: Callable[..., np.ndarray]) -> None:
    detector, image = built(task, tiny), random_image(300, 170)
    record = {"calib": [[700.0, 0, 150, 0], [0, 700, 85, 0], [0, 0, 1, 0]]}
    (whole,) = detector(image, replace(KEPT, **changed), records=[record])
    (tiled,) = detector(image, replace(KEPT, tiles=96, overlap="exact", **changed), records=[record])
    assert_same(whole, tiled)
    assert set(whole.fields()) == set(tiled.fields())


def test_few_tiles_pass_the_network_at_once(detector: Detector, random_image, monkeypatch) -> None:
    settings = DetectionSettings(tiles=96, overlap="exact", score=0.0)
    (expected,) = detector(random_image(300, 300), settings)
    monkeypatch.setattr(tiled_module, "_PIXELS", 64 * 64)
    seen: list[int] = []
    detector.model.backbone.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    (alone,) = detector(random_image(300, 300), settings)
    assert set(seen) == {1}
    assert len(seen) > 15
    assert_same(expected, alone)


def test_images_of_several_sizes(detector: Detector, random_image) -> None:
    images = [random_image(90 + 40 * n, 200 - 30 * n, seed=n) for n in range(4)]
    settings = replace(KEPT, tiles=96, overlap="exact")
    for whole, tiled in zip(detector(images, KEPT), detector(images, settings), strict=True):
        assert_same(whole, tiled)


def test_infinities_are_named(tiny: str, random_image) -> None:
    detector = built("ctdet", tiny)
    with torch.no_grad():
        next(detector.model.parameters()).fill_(float("nan"))
    with pytest.raises(CtnetError, match="outputs NaN or infinities"):
        detector(random_image(200, 200), DetectionSettings(tiles=64, overlap=0))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": (64, 64), "tiles": 64}, "leave out --size or --tiles"),
        ({"overlap": 64}, "--overlap is of tiles"),
    ],
)
def test_settings_that_contradict_each_other(settings, message: str) -> None:
    with pytest.raises(CtnetError, match=message):
        DetectionSettings(**settings)


def test_maps_are_kept_of_whole_images(detector: Detector, random_image) -> None:
    settings = DetectionSettings(tiles=64, overlap=0)
    views = detector.prepares(settings).views(random_image(100, 100), None, (1.0,))  # type: ignore[arg-type]
    with pytest.raises(CtnetError, match="use --resize keep instead of --tiles"):
        detector.detect([views], settings, keep_maps=lambda *_: None)


_LARGE = """
import resource, sys
import numpy as np, torch
from ctnet.checkpoint import Description
from ctnet.core.task import create_task
from ctnet.inference import DetectionSettings, Detector
from ctnet.model import create_model

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 if sys.platform == "darwin" else 2**-10)

torch.manual_seed(0)
task = create_task("ctdet", [{"id": 1, "name": "ball"}])
detector = Detector(task, create_model(task, "resfpn18"), Description.of(task, "resfpn18", (512, 512)))
settings = DetectionSettings(tiles=1024, score=0.0, clip=False)
before = peak()
image = np.zeros((6000, 6000, 3), np.uint8)
image[::7, ::5] = 200
(found,) = detector(image, settings)
print(len(found), (peak() - before - image.nbytes) / 2**20)
"""


@pytest.mark.thorough
@pytest.mark.skipif(find_spec("resource") is None, reason="no peak of memory is known here")
def test_a_large_image_needs_a_few_tiles_of_memory() -> None:
    """Whole, one layer's input and output alone take 2.9 GB."""
    done = subprocess.run([sys.executable, "-c", _LARGE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    number, megabytes = done.stdout.split()
    assert int(number) == 100
    assert float(megabytes) < 1000
