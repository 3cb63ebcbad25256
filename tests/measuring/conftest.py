"""Five images, and a detector that finds what is annotated in them."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ctnet.checkpoint import MEAN, STD, Description
from ctnet.core.records import Instances
from ctnet.core.targets import Grid
from ctnet.core.task import Task, create_task
from ctnet.data.dataset import Dataset
from ctnet.inference import Detector

SIZES = [(64, 64), (60, 40), (64, 64), (64, 64), (60, 40)]
CATEGORIES = [{"id": 4, "name": "ball"}, {"id": 9, "name": "box"}]


class OneBox(nn.Module):
    """Finds one box of 16x16 input pixels around (32, 32) in every image, of the class of its grey value."""

    backbone = SimpleNamespace(divisor=32, stride=4)

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.task = task
        self.batches: list[tuple[int, ...]] = []

    def activated(self, inputs: Tensor) -> dict[str, Tensor]:
        self.batches.append(tuple(inputs.shape))
        grey = (inputs[:, 0, 20, 20] * STD[0] + MEAN[0]) * 255
        grid = Grid(inputs.shape[2] // 4, inputs.shape[3] // 4)
        maps: dict[str, list[Tensor]] = {name: [] for name in self.task.heads}
        for value in grey.tolist():
            targets = self.task.encode(Instances.of([[6, 6, 10, 10]], [int(value > 128)]), grid)
            for name, head in self.task.heads.items():
                maps[name].append(head.render(targets[name], grid))
        return {name: torch.cat(parts) for name, parts in maps.items()}


@pytest.fixture
def detector() -> Detector:
    task = create_task("ctdet", CATEGORIES)
    return Detector(task, OneBox(task), Description.of(task, "one", (64, 64)))  # type: ignore[arg-type]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Five images whose ground truth is what ``OneBox`` finds with "keep"; even ones are dark."""
    images, annotations = [], []
    for number, (width, height) in enumerate(SIZES, start=1):
        name = f"{number}.png"
        grey = 60 if number % 2 == 0 else 200
        cv2.imwrite(str(tmp_path / name), np.full((height, width, 3), grey, np.uint8))
        images.append({"id": 10 * number, "file_name": name, "width": width, "height": height})
        # "keep" pads to (64, 64) or (96, 96) and centres: the box in the image's own pixels.
        pad_x, pad_y = ((side | 31) + 1 for side in (width, height))
        corner = [24 - (pad_x // 2 - width // 2), 24 - (pad_y // 2 - height // 2)]
        category = 4 if number % 2 == 0 else 9
        bbox = [*corner, 16, 16]
        annotations.append({"id": number, "image_id": 10 * number, "category_id": category, "bbox": bbox})
    content = {"images": images, "annotations": annotations, "categories": CATEGORIES}
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "instances_val.json").write_text(json.dumps(content))
    return tmp_path


@pytest.fixture
def dataset(folder: Path, detector: Detector, monkeypatch, tmp_path_factory) -> Dataset:
    monkeypatch.setenv("CTNET_CACHE", str(tmp_path_factory.mktemp("cache")))
    return Dataset.open(folder, "val", task=detector.task)
