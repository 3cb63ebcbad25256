"""Attributes on the command line: training, evaluation, prediction, and the errors for mistakes."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest

TOOL = Path(__file__).parents[2] / "benchmarks" / "attributes.py"


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    """The script that writes scenes with attributes."""
    spec = importlib.util.spec_from_file_location("benchmark_attributes", TOOL)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def data(benchmark: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scenes whose objects have a brightness, a flag and a size class."""
    folder = tmp_path_factory.mktemp("attributes")
    benchmark.write_scenes(folder, {"train": 4, "val": 4}, (64, 64))
    return folder


@pytest.mark.thorough
def test_a_short_training_learns_attributes(ctnet, data: Path, benchmark: ModuleType, tiny: str) -> None:
    train = ["train", "ctdet", "--data", data, "--backbone", tiny, "--overfit", 4, "--size", 64]
    train += [
        "--batch-size",
        4,
        "--epochs",
        150,
        "--lr",
        1e-2,
        "--device",
        "cpu",
        "--workers",
        0,
        "-o",
        "run",
    ]
    done = ctnet(*train, "-O", f"attributes={benchmark.ATTRIBUTES}", "-R", "evaluate_every=120")
    assert done.code == 0, done.err
    done = ctnet("eval", "run", "--data", data, "--split", "train", "--device", "cpu", "--json")
    assert done.code == 0, done.err
    figures = json.loads(done.out)["metrics"]
    assert figures["AP50"] > 0.3
    assert figures["brightness/error"] < 0.05
    assert figures["covered/accuracy"] > 0.9
    assert figures["kind/accuracy"] > 0.9
    done = ctnet("eval", "run", "--data", data, "--split", "train", "--device", "cpu")
    assert "kind/confusion/large/large" in done.out + done.err
    done = ctnet("predict", "run", data / "train", "-o", "out", "--score", 0.3, "--device", "cpu")
    assert done.code == 0, done.err
    entries = json.loads(Path("out/results.json").read_text())
    assert {*entries[0]["attributes"]} == {"brightness", "covered", "kind"}
    assert {*entries[0]["attribute_scores"]} == {"covered", "kind"}
    done = ctnet(
        "eval",
        "--results",
        "out/results.json",
        "--task",
        "ctdet",
        "--data",
        data,
        "--split",
        "train",
        "--json",
    )
    assert done.code == 0, done.err


def test_a_bad_declaration_is_one_line(ctnet, training: list[object]) -> None:
    done = ctnet(*training, "-O", "attributes=kind:int")
    assert done.message == (
        "task ctdet: option attributes declares 'kind:int', which is not NAME:float, NAME:float[LOW..HIGH], "
        "NAME:bool or NAME:ONE|TWO|...; write ripeness:float, for example"
    )
