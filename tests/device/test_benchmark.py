"""The benchmark for GPUs runs without one, so that it is right when somebody has one."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import pytest
import torch


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    import gpu

    assert Path(gpu.__file__).parent.name == "benchmarks"
    return gpu


@pytest.mark.thorough
def test_a_tiny_run_measures_everything(benchmark: ModuleType, tmp_path: Path) -> None:
    file = tmp_path / "gpu.json"
    benchmark.main(["--device", "cpu", "--tiny", "-o", str(file)])
    found = json.loads(file.read_text())
    assert found["left_out"] == []
    rows = [row for section in ("forward", "training", "detector") for row in found[section]]
    assert not [row for row in rows if "error" in row]
    assert found["forward"][0]["ms_per_image"].keys() >= {"plain", "float32"}
    losses = [row["loss"] for row in found["training"] if row["kind"] in ("plain", "float32")]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
    assert all(row["images_per_second"] > 0 for row in found["detector"])


def test_the_limit_ends_a_run_and_says_what_is_missing(
    benchmark: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "gpu.json"
    benchmark.main(["--device", "cpu", "--tiny", "-o", str(file), "--limit", "0.01"])
    assert "resfpn18 batch 1" in json.loads(file.read_text())["left_out"]
    assert "left out: " in capsys.readouterr().out


def test_without_a_gpu_it_says_so(benchmark: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(SystemExit, match="2"):
        benchmark.main([])
    assert "no CUDA device here" in capsys.readouterr().err
