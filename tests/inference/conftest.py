"""Detectors without training: one with random weights, and one whose network knows the answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ctnet import checkpoint
from ctnet.checkpoint import MEAN, STD, Description
from ctnet.core.fields import move_record
from ctnet.core.geometry import Affine
from ctnet.core.records import Instances
from ctnet.core.targets import Grid
from ctnet.core.task import Task, create_task
from ctnet.inference import Detector, Prepared
from ctnet.model import create_model

CATEGORIES = [{"id": 3, "name": "ball"}, {"id": 8, "name": "box"}]


@pytest.fixture(scope="package")
def tiny(tiny_backbone) -> Iterator[str]:
    """The name of a backbone of two convolutions."""
    with tiny_backbone() as name:
        yield name


@pytest.fixture
def detector(tiny: str) -> Detector:
    """A detector with random weights whose heads' outputs differ everywhere."""
    torch.manual_seed(0)
    task = create_task("ctdet", CATEGORIES)
    model = create_model(task, tiny)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.15)
    return Detector(task, model, Description.of(task, tiny, (64, 64)))


@pytest.fixture
def run_folder(tmp_path: Path, detector: Detector) -> Path:
    """best.pt and last.pt, which differ in their weights."""
    weights = detector.model.state_dict()
    checkpoint.save(tmp_path / "run" / "best.pt", detector.description, weights)
    other = {name: tensor * 2 for name, tensor in weights.items()}
    checkpoint.save(tmp_path / "run" / "last.pt", detector.description, other)
    return tmp_path / "run"


@pytest.fixture
def random_image() -> Callable[..., np.ndarray]:
    def make(width: int, height: int, seed: int = 0) -> np.ndarray:
        return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)

    return make


class Knowing(nn.Module):
    """Returns the rendered maps of known instances; recognises images by the grey value that fills them."""

    backbone = SimpleNamespace(divisor=32, stride=4)

    def __init__(self, task: Task, instances: Mapping[int, Instances]) -> None:
        super().__init__()
        self.task, self.instances = task, instances
        self.prepared: dict[int, Prepared] = {}
        self.batches: list[int] = []

    def activated(self, inputs: Tensor) -> dict[str, Tensor]:
        self.batches.append(len(inputs))
        height, width = inputs.shape[2:]
        grey = (inputs[:, 0, height // 2, width // 2] * STD[0] + MEAN[0]) * 255
        grid = Grid(height // 4, width // 4)
        maps: dict[str, list[Tensor]] = {name: [] for name in self.task.heads}
        for value in grey.round().int().tolist():
            to_grid = Affine.scaling(1 / 4).after(self.prepared[value].affine)
            targets = self.task.encode(move_record(self.instances[value], to_grid, self.task.fields), grid)
            for name, head in self.task.heads.items():
                maps[name].append(head.render(targets[name], grid))
        return {name: torch.cat(parts) for name, parts in maps.items()}


@pytest.fixture
def knowing() -> Callable[[Mapping[int, Instances]], Detector]:
    """Make a detector that knows the contents of images, each filled with one grey value."""

    def make(instances: Mapping[int, Instances]) -> Detector:
        task = create_task("ctdet", CATEGORIES)
        model = Knowing(task, instances)
        return Detector(task, model, Description.of(task, "knowing", (128, 96)))  # type: ignore[arg-type]

    return make
