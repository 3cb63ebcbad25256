"""Files in 8 bits and in float16."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ctnet.data.dataset import Dataset
from ctnet.data.synthetic import write_dataset
from ctnet.export.detector import ExportReport, Trials, export_detector
from ctnet.export.graph import GraphSettings
from ctnet.inference import Detector

pytestmark = [pytest.mark.export, pytest.mark.thorough]
SUFFIXES = (".onnx", ".xml")


@pytest.fixture(scope="module")
def quantized(run_of, need_runtime, task_of, tmp_path_factory):
    scenes = tmp_path_factory.mktemp("scenes")
    write_dataset(task_of("ctdet"), scenes, {"train": 6}, (64, 64))
    done: dict[str, ExportReport] = {}

    def make(suffix: str) -> ExportReport:
        need_runtime(suffix)
        if suffix not in done:
            data = Dataset.open(scenes, "train", task_of("ctdet"))
            path = tmp_path_factory.mktemp("int8") / f"x{suffix}"
            trials = Trials(images=6, calibration=data)
            done[suffix] = export_detector(run_of("ctdet"), path, trials=trials)
        return done[suffix]

    return make


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_8_bits_detect_about_the_same(run_of, quantized, suffix: str) -> None:
    done = quantized(suffix)
    assert done.exported.int8
    assert 1e-4 < max(done.verification.maps.values()) < 0.25, "8 bits differ, but not much"
    file, run = Detector.load(done.path), Detector.load(run_of("ctdet"))
    image = np.random.default_rng(0).integers(0, 256, (96, 128, 3), dtype=np.uint8)
    (one,), (other,) = file(image), run(image)
    assert one.scores[0] == pytest.approx(other.scores[0], abs=0.1)


def test_convolutions_of_heads_stay_in_floating_point(quantized) -> None:
    path = quantized(".onnx").path
    import onnx

    nodes = list(onnx.load(path).graph.node)
    makers = {output: node for node in nodes for output in node.output}
    convolutions = [node for node in nodes if node.op_type == "Conv"]
    # A quantised weight comes from a node, all others are initialisers.
    quantized_ones = [node for node in convolutions if node.input[1] in makers]
    heads = 2 * 3  # each of ctdet's branches has two
    assert len(convolutions) - len(quantized_ones) == heads
    assert len(quantized_ones) == 2, "those of the backbone"


def test_weights_have_seven_bits(quantized) -> None:
    """A processor without VNNI adds products of 8 bits in 16, which saturate."""
    path = quantized(".onnx").path
    import onnx
    from onnx import numpy_helper

    graph = onnx.load(path).graph
    weights = [numpy_helper.to_array(one) for one in graph.initializer]
    weights = [one for one in weights if one.dtype == np.int8 and one.ndim == 4]
    assert weights
    assert all(abs(one.astype(int)).max() <= 64 for one in weights)


def quantized_kinds(path: Path) -> list[str]:
    import openvino

    model = openvino.Core().read_model(path)
    return [node.get_type_name() for node in model.get_ordered_ops()]


def test_openvino_has_fake_quantisation_before_the_heads(quantized) -> None:
    kinds = quantized_kinds(quantized(".xml").path)
    assert kinds.count("Convolution") == 2 + 2 * 3
    assert 2 <= kinds.count("FakeQuantize") <= 4


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_half_precision_detects_the_same_within_its_bounds(
    run_of, need_runtime, tmp_path: Path, suffix: str
) -> None:
    need_runtime(suffix)
    path = tmp_path / f"x{suffix}"
    # Random maps have many peaks of nearly equal height; those of the highest ones are the same.
    done = export_detector(
        run_of("ctdet"), path, GraphSettings(half=True), trials=Trials(images=6, score=0.6)
    )
    assert done.exported.half
    assert done.verification.matched > 10
    assert 1e-5 < max(done.verification.maps.values()) < 2e-2
