"""``ctnet export``, and the commands that take its files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

#: Runs with the runtimes' extras: once, without them, the text about too few matches was missing.
pytestmark = pytest.mark.thorough


@pytest.fixture(scope="module")
def program(run_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from ctnet.export.detector import export_detector

    return export_detector(run_folder, tmp_path_factory.mktemp("program") / "model.pt2").path


def test_export_says_what_it_compared(ctnet, run_folder: Path, scenes: Path) -> None:
    done = ctnet("export", run_folder, "-o", "m.pt2", "--fixed", 64, "--verify", scenes, "--score", 0)
    assert done.code == 0, done.err
    assert "m.pt2: torch.export compared with the run on 4 images" in done.out
    assert "map heatmap, of its largest value" in done.out
    assert "matched one to one, 0 unmatched\n" in done.out
    assert "AP50: " in done.out
    assert Path("m.pt2").is_file()


def test_export_as_json(ctnet, run_folder: Path) -> None:
    done = ctnet("export", run_folder, "-o", "m.pt2", "--fixed", 64, "--score", 1, "--json")
    document = json.loads(done.out)
    assert document["file"] == "m.pt2"
    assert document["matched"] == 0
    assert not document["proves"]
    done = ctnet("export", run_folder, "-o", "m.pt2", "--fixed", 64, "--score", 1)
    assert "too few for a verdict: compare on more data with --verify DIR" in done.out


def test_the_file_in_the_place_of_the_run(ctnet, run_folder: Path, program: Path, scenes: Path) -> None:
    on_cpu = ["--data", scenes, "--workers", 0, "--device", "cpu", "--json"]
    ours, theirs = (json.loads(ctnet("eval", path, *on_cpu).out) for path in (run_folder, program))
    assert theirs["metrics"] == pytest.approx(ours["metrics"], abs=1e-4)
    found = ctnet("predict", program, scenes / "val", "-o", "out", "--score", 0.01, "--json")
    expected = ctnet("predict", run_folder, scenes / "val", "-o", "out", "--score", 0.01, "--json")
    assert found.code == 0, found.err
    ours, theirs = (json.loads(done.out)["results"] for done in (expected, found))
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        assert one["score"] == pytest.approx(other["score"], abs=1e-5)
    done = ctnet("analyze", "speed", program, "--repeats", 1, "--warm-up", 0, "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["parameters"] > 1000


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["-o", "m.tflite"], "name a file that ends in .onnx (ONNX), .xml (OpenVINO) or .pt2 (torch)"),
        (["-o", "m.pt2", "--fixed", "100x96"], "the next size that fits is 128x96"),
        (["-o", "m.pt2", "--fixed", "big"], "--fixed is 'big'"),
        (["-o", "m.pt2", "--opset", 18], "--opset 18 is for .onnx files"),
        (["-o", "m.pt2", "--verify", "nowhere"], "nowhere"),
        (["-o", "m.pt2", "--int8", "nowhere"], "nowhere"),
    ],
)
def test_mistakes_are_one_line(ctnet, run_folder: Path, arguments: list[object], words: str) -> None:
    assert words in ctnet("export", run_folder, *arguments).message
    assert not Path("m.pt2").exists()


def test_what_needs_maps(ctnet, program: Path, scenes: Path) -> None:
    done = ctnet("eval", program, "--data", scenes, "--save-maps", "maps.h5", "--workers", 0)
    assert "gives only detections, no maps; use the run" in done.message


@pytest.mark.parametrize("option", [["--dtype", "bf16"], ["--compile"]])
def test_an_exported_file_is_as_it_was_exported(ctnet, program: Path, scenes: Path, option) -> None:
    done = ctnet("predict", program, scenes / "val", *option)
    assert f"keeps the dtype that it was exported with; leave out {option[0]}" in done.message
