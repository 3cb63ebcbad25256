from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from ctnet.core.recipe import DEMO
from ctnet.data.images import read_image
from ctnet.tasks.ctdet import CenterDetection


@pytest.fixture(autouse=True)
def _quick(quick_demo) -> None:
    quick_demo(CenterDetection, dataclasses.replace(DEMO, size=(64, 64)))


def test_it_trains_evaluates_draws_and_says_where(ctnet) -> None:
    done = ctnet("demo", "--epochs", 1, "--device", "cpu")
    assert done.code == 0, done.err
    run = Path("runs/ctdet-tiny-1")
    for path in (run / "detections.jpg", run, "runs/data/"):
        assert str(path) in done.out
    assert "AP50" in done.out
    assert read_image(run / "detections.jpg").ndim == 3
    printed = json.loads(ctnet("demo", "--epochs", 1, "--device", "cpu", "--json", "-o", "mine").out)
    assert printed["run"] == "mine"
    assert Path(printed["picture"]).is_file()
    assert Path(printed["data"], "annotations").is_dir()
    assert 0 <= printed["metrics"]["AP"] <= 1


def test_it_trains_with_the_options_that_the_recipe_wants(ctnet, quick_demo) -> None:
    recipe = dataclasses.replace(DEMO, size=(64, 64), options={"size_weight": 0.25})
    quick_demo(CenterDetection, recipe)
    assert ctnet("demo", "--epochs", 1, "--device", "cpu", "-o", "mine").code == 0
    assert json.loads(Path("mine/config.json").read_text())["options"]["size_weight"] == 0.25


def test_ctrl_c_is_exit_code_130(ctnet, monkeypatch) -> None:
    monkeypatch.setattr("ctnet.training.trainer.Trainer.fit", lambda self: False)
    assert ctnet("demo", "--epochs", 1, "--device", "cpu").code == 130


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["ctdett"], "there is no task called 'ctdett'; did you mean ctdet"),
        (["--device", "tpu"], "device 'tpu' cannot be used here"),
    ],
)
def test_mistakes(ctnet, arguments: list[str], message: str) -> None:
    assert message in ctnet("demo", *arguments).message


def test_an_output_that_holds_a_run(ctnet, run_folder: Path) -> None:
    assert "already holds a run" in ctnet("demo", "-o", run_folder).message
