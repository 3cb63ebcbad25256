"""docs/deploy: the scripts that run an exported file without ctnet give ctnet's results."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

from ctnet import checkpoint
from ctnet.checkpoint import Description
from ctnet.core.operating import OperatingPoint, OperatingPoints
from ctnet.core.task import create_task
from ctnet.data.shape_scenes import SHAPES
from ctnet.export.detector import export_detector
from ctnet.export.operating import write_operating_points
from ctnet.inference import DetectionSettings, Detector
from ctnet.model import create_model

DEPLOY = Path(__file__).parents[2] / "docs" / "deploy"
WIDTH, HEIGHT = 90, 70

pytestmark = pytest.mark.export


def unless_required(what: str) -> None:
    """Skip; fail if all extras are declared to be installed."""
    if "CTNET_ALL_EXTRAS" in os.environ:
        pytest.fail(f"needs {what}, and CTNET_ALL_EXTRAS is set")
    pytest.skip(f"needs {what}")


@pytest.fixture(scope="module")
def model(tiny_backbone, tmp_path_factory: pytest.TempPathFactory) -> Path:
    if find_spec("onnxruntime") is None or find_spec("onnxscript") is None:
        unless_required("onnxruntime and onnxscript")
    folder = tmp_path_factory.mktemp("deploy")
    with tiny_backbone() as name:
        torch.manual_seed(0)
        task = create_task("ctdet", SHAPES)
        network = create_model(task, name)
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.normal_(std=0.15)
        checkpoint.save(folder / "run.pt", Description.of(task, name, (96, 96)), network.state_dict())
        return export_detector(folder / "run.pt", folder / "model.onnx").path


@pytest.fixture(scope="module")
def chosen(model: Path) -> Path:
    """The same file with operating points: some classes keep more than without them, others less."""
    path = model.with_name("chosen.onnx")
    shutil.copy(model, path)
    scores = dict(zip((one["name"] for one in SHAPES), (0.9, 0.2, 0.5, 0.1, 0.7), strict=True))
    points = {name: OperatingPoint(score, None, None, None, 50) for name, score in scores.items()}
    everything = OperatingPoint(0.4, None, None, None, 250)
    write_operating_points(path, OperatingPoints("f1", None, "IoU 0.5", "val", 9, points, everything))
    return path


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)


def check(lines: str, model: Path, image: np.ndarray) -> None:
    padded = np.pad(image, ((0, 96 - HEIGHT), (0, 96 - WIDTH), (0, 0)))
    detector = Detector.load(model)
    (expected,) = detector([padded], DetectionSettings(clip=False))
    (plain,) = detector([padded], DetectionSettings(score=0.3, clip=False))
    assert (len(plain) == len(expected)) == (detector.operating_points is None)
    rows = [json.loads(line) for line in lines.splitlines()]
    assert len(rows) == len(expected) > 10
    names = [category["name"] for category in SHAPES]
    assert [row["category"] for row in rows] == [names[label] for label in expected.labels]
    scores = np.array([row["scores"] for row in rows]).reshape(-1)
    np.testing.assert_allclose(scores, expected.scores, atol=1e-5)
    boxes = np.array([row["boxes"] for row in rows])
    boxes = np.concatenate(
        [np.minimum(boxes[:, :2], boxes[:, 2:]), np.maximum(boxes[:, :2], boxes[:, 2:])], 1
    )
    np.testing.assert_allclose(boxes, expected.boxes, atol=0.01)


def test_forty_lines_of_python(model: Path, chosen: Path, image: np.ndarray, tmp_path: Path) -> None:
    script = DEPLOY / "detect.py"
    assert len(script.read_text("utf-8").splitlines()) <= 40
    np.save(tmp_path / "image.npy", image)
    for path in (model, chosen):
        command = [sys.executable, "-I", script, path, tmp_path / "image.npy"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        check(done.stdout, path, image)


@pytest.mark.thorough
def test_sixty_lines_of_javascript(model: Path, chosen: Path, image: np.ndarray, tmp_path: Path) -> None:
    script = DEPLOY / "detect.mjs"
    assert len(script.read_text("utf-8").splitlines()) <= 60
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        unless_required("node and npm")
    shutil.copy(script, tmp_path)
    (tmp_path / "package.json").write_text('{"private": true}')
    install = [npm, "install", "--ignore-scripts", "--no-audit", "--no-fund", "onnxruntime-web"]
    subprocess.run(install, cwd=tmp_path, capture_output=True, check=True)
    (tmp_path / "image.rgb").write_bytes(image.tobytes())
    for path in (model, chosen):
        command = [node, "detect.mjs", path, str(WIDTH), str(HEIGHT), "image.rgb"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
        check(done.stdout, path, image)
