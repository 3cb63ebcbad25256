"""The authors' exdet checkpoints: recognised, read, and written again."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ctnet_tasks_exdet import ExtremeDetection
from torch import Tensor

from ctnet.checkpoint import from_official, load, load_model, official_state_dict, read_tensors, to_official
from ctnet.model import create_model

COCO_CLASSES = 80
CATEGORIES = [{"id": number, "name": f"class {number}"} for number in range(1, COCO_CLASSES + 1)]


def recipe_weight(name: str, shape: tuple[int, ...], seed: int) -> np.ndarray:
    """An entry of the weight recipe in the reference numbers' README, for networks without deformation."""
    rng = np.random.default_rng(zlib.crc32(name.encode()) + seed)
    if name.endswith("num_batches_tracked"):
        return np.zeros(shape, np.int64)
    if name.endswith("running_var"):
        return (0.5 + rng.random(shape)).astype(np.float32)
    if name.endswith("running_mean") or (len(shape) == 1 and name.endswith(".bias")):
        return (0.1 * rng.standard_normal(shape)).astype(np.float32)
    if len(shape) == 1:
        scale = 0.15 if name.endswith(("bn2.weight", "bn3.weight")) else 1.0
        return ((0.5 + rng.random(shape)) * scale).astype(np.float32)
    weight = rng.standard_normal(shape, np.float64) * np.sqrt(2 / np.prod(shape[1:]))
    return (weight * (2.0 if name.startswith("deconv_layers.") else 1.0)).astype(np.float32)


def layout(golden: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((golden / "state_dict_hourglass_exdet.json").read_text())
    return document


@pytest.mark.golden
def test_the_network_has_the_entries_of_the_release(golden: Path):
    document = layout(golden)
    with torch.device("meta"):
        model = create_model(ExtremeDetection(CATEGORIES), "hourglass104")
    ours = official_state_dict(model)
    expected = {name: (shape, dtype) for name, shape, dtype in document["state_dict"]}
    assert {
        name: (list(value.shape), str(value.dtype).removeprefix("torch.")) for name, value in ours.items()
    } == expected
    assert sum(parameter.numel() for parameter in model.parameters()) == document["num_parameters"]


@pytest.mark.parametrize("agnostic", [False, True])
def test_a_small_network_goes_there_and_back(tmp_path: Path, agnostic: bool):
    task = ExtremeDetection(CATEGORIES, agnostic=agnostic)
    model = create_model(task, "resnet18")
    shapes = official_state_dict(model)
    state = {
        name: torch.from_numpy(np.asarray(recipe_weight(name, tuple(value.shape), 1)))
        for name, value in shapes.items()
    }
    done = _there_and_back(tmp_path, state, {"agnostic": agnostic})
    assert (done.description.backbone, done.description.options["agnostic"]) == ("resnet18", agnostic)


@pytest.mark.golden
@pytest.mark.slow
def test_the_released_network_goes_there_and_back(golden: Path, tmp_path: Path):
    """The hourglass of 198 million weights: 0.8 GB, written twice."""
    state = {
        name: torch.from_numpy(np.asarray(recipe_weight(name, tuple(shape), 1)))
        for name, shape, _ in layout(golden)["state_dict"]
    }
    done = _there_and_back(tmp_path, state, {})
    assert done.description.backbone == "hourglass104"


def _there_and_back(folder: Path, state: dict[str, Tensor], options: dict[str, Any]) -> Any:
    torch.save({"epoch": 3, "state_dict": state}, folder / "theirs.pth")
    done = from_official(folder / "theirs.pth", folder / "ours.pt", options=options)
    assert done.description.task == "exdet"
    assert len(done.description.categories) == COCO_CLASSES
    task, model = load_model(load(folder / "ours.pt"))
    assert isinstance(task, ExtremeDetection)
    branch = model.branches[0]["left"]
    kernel = state.get("hm_l.0.weight", state.get("hm_l.0.0.conv.weight"))
    assert kernel is not None
    assert torch.equal(branch[0].weight, kernel)
    to_official(folder / "ours.pt", folder / "back.pth")
    back = read_tensors(folder / "back.pth")["state_dict"]
    assert list(back) == list(state) or set(back) == set(state)
    assert all(torch.equal(back[name], value) for name, value in state.items())
    return done
