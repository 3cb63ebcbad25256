"""Every task with every backbone as an exported file: maps equal to rounding, on realistic statistics."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from ctnet import checkpoint
from ctnet.backbones import list_backbones
from ctnet.base.device import normalise
from ctnet.checkpoint import MEAN, STD, Description
from ctnet.core.task import example_of, list_tasks
from ctnet.export.detector import Trials, export_detector
from ctnet.model import create_model

pytestmark = [pytest.mark.export, pytest.mark.slow]


@pytest.mark.parametrize("suffix", [".onnx", ".xml"])
@pytest.mark.parametrize("backbone", list_backbones())
@pytest.mark.parametrize("name", list_tasks())
def test_maps_are_equal(
    name: str, backbone: str, suffix: str, task_of, need_runtime, monkeypatch, tmp_path: Path
) -> None:
    need_runtime(suffix)
    monkeypatch.setattr("ctnet.export.detector.IMAGES", 2)
    torch.manual_seed(0)
    task = task_of(name)
    model = create_model(task, backbone).train()
    rng = np.random.default_rng(0)
    side = max(128, model.backbone.divisor)
    pictures = np.stack([example_of(task, rng, (side, side)).image for _ in range(4)])
    with torch.no_grad():
        for _ in range(30):  # running means and variances become those of what flows through
            model(normalise(torch.from_numpy(pictures), MEAN, STD))
    checkpoint.save(tmp_path / "run.pt", Description.of(task, backbone, (side, side)), model.state_dict())
    done = export_detector(tmp_path / "run.pt", tmp_path / f"x{suffix}", trials=Trials(score=0.999))
    assert max(done.verification.maps.values()) < 1e-4
