"""``ctnet analyze thresholds``, and the commands that use what it stores."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from ctnet import checkpoint
from ctnet.base.lock import lock_folder
from ctnet.data.shape_scenes import SHAPES
from ctnet.inference import Detector

QUICK = ["--workers", 0, "--device", "cpu", "--draws", 100]


@pytest.fixture
def run(finding: Path) -> Path:
    """A checkpoint that a test may change, in the current folder."""
    shutil.copy(finding / "best.pt", "best.pt")
    return Path("best.pt")


def test_choose_store_and_use(ctnet, finding: Path, run: Path) -> None:
    data = ["--data", finding / "data"]
    before = json.loads(ctnet("eval", run, *data, *QUICK[:4], "--json").out)
    assert "operating_points" not in before
    done = ctnet("analyze", "thresholds", run, *data, *QUICK, "--json", "--write")
    assert done.code == 0, done.err
    assert "warning: 4 images: with fewer than 50, thresholds are rough" in done.err
    assert done.err.endswith("written: best.pt\n")
    document = json.loads(done.out)
    points = document["operating_points"]
    assert (points["goal"], points["split"], points["matched"], points["draws"]) == (
        "f1",
        "val",
        "IoU 0.5",
        100,
    )
    assert points == json.loads(json.dumps(checkpoint.load(run).operating_points.to_json()))  # type: ignore[union-attr]
    assert document["curves"].keys() == points["classes"].keys() == {entry["name"] for entry in SHAPES}
    assert sum(entry["detections"] for entry in document["reliability"]["bins"]) > 0
    assert document["reliability_calibrated"] is None

    after = json.loads(ctnet("eval", run, *data, *QUICK[:4], "--json").out)
    assert after["metrics"] == before["metrics"], "evaluation goes on using all detections"
    reached = after["operating_points"]
    assert reached["chosen_for"] == "best F1 on val"
    for name, point in points["classes"].items():
        assert reached["thresholds"][name] == point["score"]
        for rate in ("precision", "recall", "F1"):
            assert reached["metrics"].get(f"{rate}/{name}") == pytest.approx(point[rate.lower()])

    shown = ctnet("predict", run, finding / "data/val", "-o", "out", "--no-draw", "--device", "cpu")
    assert shown.out.startswith("thresholds of the operating points: best F1 on val, ")
    kept = json.loads(Path("out/results.json").read_text())
    lowest = {name: point["score"] for name, point in points["classes"].items()}
    assert kept
    assert all(entry["score"] > lowest[entry["category_name"]] - 1e-3 for entry in kept)
    given = ctnet(
        "predict", run, finding / "data/val", "-o", "all", "--no-draw", "--score", 0, "--device", "cpu"
    )
    assert given.out.startswith("threshold: 0 for all classes\n")
    assert len(json.loads(Path("all/results.json").read_text())) == 400 > len(kept)


def test_tables(ctnet, finding: Path, run: Path) -> None:
    data = ["--data", finding / "data"]
    done = ctnet("analyze", "thresholds", run, *data, *QUICK, "--split", "train", "--calibrate", "--write")
    assert done.code == 0, done.err
    assert "best F1 on train, with 95 % intervals; a detection is right by IoU 0.5" in done.out
    assert "calibrated: " in done.out
    assert done.out.count(" to ") > 20
    evaluated = ctnet("eval", run, *data, *QUICK, "--intervals", "--flip")
    assert evaluated.code == 0, evaluated.err
    assert "thresholds of the operating points: best F1 on train" in evaluated.out
    assert "F1/ball" in evaluated.out
    assert "warning: the thresholds were chosen for the usual settings, not for flip" in evaluated.err
    shown = ctnet(
        "predict",
        run,
        finding / "data/val",
        "-o",
        "out",
        "--no-draw",
        "--calibrated",
        "--flip",
        "--device",
        "cpu",
    )
    assert shown.code == 0, shown.err
    assert "warning: the thresholds were chosen for the usual settings, not for flip" in shown.err
    scores = [entry["score"] for entry in json.loads(Path("out/results.json").read_text())]
    assert 0 < len({*scores}) < len(scores)


def test_a_wanted_precision_is_stored(ctnet, finding: Path, run: Path) -> None:
    done = ctnet(
        "analyze",
        "thresholds",
        run,
        "--data",
        finding / "data",
        *QUICK,
        "--precision",
        0.5,
        "--write",
        "--json",
    )
    assert done.code == 0, done.err
    points = json.loads(done.out)["operating_points"]
    assert (points["goal"], points["wanted"]) == ("precision", 0.5)
    assert points["everything"]["precision"] >= 0.5
    assert Detector.load(run, "cpu").operating_points.chosen_for == "precision 0.5 on val"  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--f1", "--recall", 0.5], "--f1, --precision and --recall exclude each other"),
        (["--precision", 0], "a wanted precision is a number above 0 and at most 1, not 0.0"),
        (["--calibrate"], "a calibration is checked on 5 groups of images, and there are 4 images"),
    ],
)
def test_mistakes(ctnet, finding: Path, run: Path, arguments: list[object], message: str) -> None:
    done = ctnet("analyze", "thresholds", run, "--data", finding / "data", *QUICK, *arguments)
    assert message in done.message


def test_nothing_to_choose_from(ctnet, run_folder: Path, finding: Path, run: Path) -> None:
    assert "not one detection is right" in ctnet("analyze", "thresholds", run_folder, *QUICK).message
    shutil.copytree(finding / "data", "one")
    path = Path("one/annotations/instances_val.json")
    content = json.loads(path.read_text())
    first = content["images"][0]["id"]
    left = [entry for entry in content["annotations"] if entry["image_id"] == first]
    path.write_text(json.dumps({**content, "images": content["images"][:1], "annotations": left}))
    assert "there is only one" in ctnet("analyze", "thresholds", run, "--data", "one", *QUICK).message
    path.write_text(json.dumps({**content, "annotations": []}))
    assert (
        "has no objects of the model's classes"
        in ctnet("analyze", "thresholds", run, "--data", "one").message
    )


def test_a_run_that_is_being_trained_is_not_written(ctnet, finding: Path, run_folder: Path) -> None:
    shutil.copytree(run_folder, "run")
    shutil.copy(finding / "best.pt", "run/best.pt")
    lock = lock_folder(Path("run"), "busy")
    assert lock is not None
    done = ctnet("analyze", "thresholds", "run", "--data", finding / "data", *QUICK, "--write")
    lock.release()
    assert "run is being trained by another process" in done.err
    assert done.code == 2
    assert checkpoint.load("run/best.pt").operating_points is None


def test_a_training_stores_them_and_says_so(ctnet, training: list[object]) -> None:
    """What two flat epochs learn finds nothing, which is said; a demo's thresholds are in docs/trust.md."""
    done = ctnet(*training, "-o", "run")
    assert done.code == 0, done.err
    points = checkpoint.load("run/best.pt").operating_points
    said = points.said if points else "no operating points were chosen; `ctnet analyze thresholds` says why"
    assert said in done.err


def test_scores_of_results_are_raw(ctnet, finding: Path, run: Path) -> None:
    data = ["--data", finding / "data"]
    assert ctnet("analyze", "thresholds", run, *data, *QUICK, "--write").code == 0
    assert ctnet("eval", run, *data, *QUICK[:4], "--save", "results.json").code == 0
    saved = json.loads(Path("results.json").read_text())
    assert len(saved) == 400, "all detections, of any score"
    again = json.loads(ctnet("eval", "--results", "results.json", *data, "--json").out)
    assert "operating_points" not in again
    plain = json.loads(ctnet("eval", run, *data, *QUICK[:4], "--json").out)
    assert again["metrics"]["AP"] == pytest.approx(plain["metrics"]["AP"], abs=1e-3)
    assert np.isfinite(plain["operating_points"]["metrics"]["mF1"])
