"""Every task with every backbone as an exported file: maps equal up to rounding, on realistic statistics."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.modules.batchnorm import _BatchNorm

from ctnet import checkpoint
from ctnet.backbones import list_backbones
from ctnet.base.device import normalise
from ctnet.checkpoint import MEAN, STD, Description
from ctnet.core.task import Task, example_of, list_tasks
from ctnet.export.detector import Trials, export_detector
from ctnet.model import CenterNet, create_model

pytestmark = [pytest.mark.export, pytest.mark.slow]


@pytest.mark.parametrize("backbone", list_backbones())
@pytest.mark.parametrize("name", list_tasks())
def test_maps_are_equal(name: str, backbone: str, task_of, need_runtime, tmp_path: Path) -> None:
    torch.manual_seed(0)
    task = task_of(name)
    model = create_model(task, backbone)
    side = max(128, model.backbone.divisor)
    take_statistics(model, task, side)
    checkpoint.save(tmp_path / "run.pt", Description.of(task, backbone, (side, side)), model.state_dict())
    for suffix in (".onnx", ".xml"):
        need_runtime(suffix)
        trials = Trials(score=0.999, images=2)
        done = export_detector(tmp_path / "run.pt", tmp_path / f"x{suffix}", trials=trials)
        assert max(done.verification.maps.values()) < 1e-4
    for file in tmp_path.iterdir():  # half a gigabyte for each of 80 tests
        file.unlink()


def take_statistics(model: CenterNet, task: Task, side: int) -> None:
    """Means and variances of real activations, as after training.

    The last norms of residual blocks get small weights, as trained ones have: with weights of 1 a deep
    network amplifies rounding, and float32 itself is 1e-3 from float64 at 101 layers.
    """
    for module in model.modules():
        last = getattr(module, "bn3", None) or getattr(module, "bn2", None)
        if last is not None:
            torch.nn.init.constant_(last.weight, 0.2)
    rng = np.random.default_rng(0)
    images = np.stack([example_of(task, rng, (side, side)).image for _ in range(4)])
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the mean over all batches, the first included
    model.train()
    with torch.no_grad():
        for batch in (images, images[:, ::-1].copy()):
            model(normalise(torch.from_numpy(batch), MEAN, STD))
    used = [norm for norm in norms if norm.num_batches_tracked]  # DLA has some whose outputs nothing reads
    assert len(used) > 0.9 * len(norms)
    assert all(norm.running_mean.abs().sum() > 0 for norm in used)
