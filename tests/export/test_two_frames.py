"""A network of two frames as one file: the earlier frame and its objects are channels of the input."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ctnet import checkpoint
from ctnet.checkpoint import Description
from ctnet.core.task import create_task
from ctnet.data.shape_scenes import SHAPES
from ctnet.export.detector import Trials, export_detector
from ctnet.export.graph import GraphSettings
from ctnet.inference.detector import Detector
from ctnet.model import create_model

pytestmark = pytest.mark.export


@pytest.mark.parametrize("letterbox", [False, True])
def test_an_exported_network_follows_as_the_run_does(tmp_path, letterbox) -> None:
    pytest.importorskip("ctnet_tasks_tracks")
    pytest.importorskip("onnxruntime")
    film = pytest.importorskip("ctnet_tasks_tracks.scenes").film
    torch.manual_seed(0)
    task = create_task("tracks", SHAPES)
    model = create_model(task, "light16")
    with torch.no_grad():  # so that the earlier frame has an effect
        model.earlier.join.weight.normal_(std=0.3)
    run, file = tmp_path / "run.pt", tmp_path / "run.onnx"
    checkpoint.save(run, Description.of(task, "light16", (64, 64)), model.state_dict())
    done = export_detector(run, file, GraphSettings(letterbox=letterbox), trials=Trials(images=2, score=0.05))
    assert done.exported.description.mean[-1] == 0
    frames = [sample.image for sample in film(np.random.default_rng(1), (64, 64), 4)]
    streams = [[*Detector.load(path, "cpu").stream(frames, score=0.05)] for path in (run, file)]
    for one, other in zip(*streams, strict=True):
        assert len(one.detections) > 0
        assert one.detections.track_id.tolist() == other.detections.track_id.tolist()
        assert one.detections.boxes == pytest.approx(other.detections.boxes, abs=0.05)
