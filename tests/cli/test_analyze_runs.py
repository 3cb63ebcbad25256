"""``ctnet analyze errors | nms | resolution | speed``: what they print, and their errors."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from ctnet.data.shape_scenes import SHAPES

QUICK = ["--workers", 0, "--device", "cpu"]
HEADS = ["heatmap", "size", "offset"]


@pytest.fixture
def results(ctnet, run_folder: Path, tmp_path: Path) -> Path:
    path = tmp_path / "results.json"
    assert ctnet("eval", run_folder, *QUICK, "--save", path).code == 0
    return path


# --- errors


def test_errors_as_json(ctnet, run_folder: Path, scenes: Path) -> None:
    done = ctnet("analyze", "errors", run_folder, *QUICK, "--json")
    assert done.code == 0, done.err
    document = json.loads(done.out)
    assert document["checkpoint"] == str(run_folder / "best.pt")
    assert document["data"] == str(scenes / "annotations" / "instances_val.json")
    assert (document["images"], document["skipped"]) == (4, 0)
    rows = document["oracle"]["rows"]
    assert rows[0]["heads"] == []
    assert rows[-1]["heads"] == HEADS
    assert rows[-1]["metrics"]["AP50"] > 0.95
    assert rows[-1]["gain"] == pytest.approx(rows[-1]["metrics"]["AP"] - rows[0]["metrics"]["AP"])
    plain = json.loads(ctnet("eval", run_folder, *QUICK, "--json").out)["metrics"]
    assert rows[0]["metrics"] == pytest.approx(plain)
    assert document["breakdown"]["ap"] == pytest.approx(plain["AP50"])
    assert set(document["breakdown"]["errors"]["missed"]) == {"count", "cost"}


def test_errors_as_tables(ctnet, run_folder: Path) -> None:
    done = ctnet("analyze", "errors", run_folder, *QUICK, "--iou", 0.75)
    assert done.err == ""
    assert "heatmap + size + offset  " in done.out
    assert "AP75 cost" in done.out
    for name in ("classification", "localisation", "both", "duplicate", "background", "missed"):
        assert re.search(rf"^{name} +\d+ +-?\d\.\d\d\d$", done.out, re.MULTILINE)


def test_chosen_heads(ctnet, run_folder: Path) -> None:
    chosen = ["--heads", "size", "--heads", "offset, heatmap"]
    done = ctnet("analyze", "errors", run_folder, *QUICK, *chosen, "--json")
    rows = json.loads(done.out)["oracle"]["rows"]
    assert [row["heads"] for row in rows] == [[], ["size"], ["heatmap", "offset"]]


def test_errors_of_a_results_file(ctnet, run_folder: Path, scenes: Path, results: Path) -> None:
    done = ctnet("analyze", "errors", "--results", results, "--data", scenes, "--json")
    assert done.code == 0, done.err
    document = json.loads(done.out)
    assert document["results"] == str(results)
    assert "oracle" not in document
    run = json.loads(ctnet("analyze", "errors", run_folder, *QUICK, "--heads", "size", "--json").out)
    assert document["breakdown"]["ap"] == pytest.approx(run["breakdown"]["ap"], abs=1e-6)
    assert document["breakdown"]["detections"] == run["breakdown"]["detections"]


def test_errors_of_stored_maps(ctnet, run_folder: Path, scenes: Path) -> None:
    assert ctnet("eval", run_folder, *QUICK, "--save-maps", "maps.h5").code == 0
    done = ctnet(
        "analyze", "errors", "--maps", "maps.h5", "--data", scenes, "--heads", ",".join(HEADS), "--json"
    )
    assert done.code == 0, done.err
    document = json.loads(done.out)
    assert document["maps"] == "maps.h5"
    assert document["oracle"]["rows"][1]["metrics"]["AP50"] > 0.95


def test_images_without_detection_and_classes_without_object(ctnet, scenes: Path, results: Path) -> None:
    shutil.copytree(scenes, "data")
    path = Path("data/annotations/instances_val.json")
    document = json.loads(path.read_text())
    gone = document["categories"][0]["id"]
    document["annotations"] = [a for a in document["annotations"] if a["category_id"] != gone]
    path.write_text(json.dumps(document))
    entries = json.loads(results.read_text())
    results.write_text(json.dumps([e for e in entries if e["image_id"] != entries[0]["image_id"]]))
    done = ctnet("analyze", "errors", "--results", results, "--data", "data")
    assert done.code == 0, done.err
    assert "1 of 4 images have no detections; their objects count as missed" in done.err
    assert f"no object of 1 classes, which are not part of the means: {SHAPES[0]['name']}" in done.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--heads", "heatmap,sise"], r"there is no head of task ctdet called 'sise'; did you mean size\?"),
        (["--iou", "0.05"], r"--iou is 0.05; it must be above 0.1 .* and at most 1"),
        (["--iou", "nan"], r"--iou is nan"),
        (["--task", "ctdet"], "--task is for --results"),
        (["--metric", "cocoa"], "there is no metric of task ctdet called 'cocoa'"),
        (["--split", "dev"], "has no split 'dev'"),
        (["--results", "r.json"], "a run cannot be combined with --results"),
    ],
)
def test_mistakes_with_errors(ctnet, run_folder: Path, arguments: list[str], message: str) -> None:
    assert re.search(message, ctnet("analyze", "errors", run_folder, *arguments).message)


def test_mistakes_with_results(ctnet, scenes: Path, results: Path) -> None:
    def message(*arguments: object) -> str:
        return ctnet("analyze", "errors", "--results", results, *arguments).message

    assert "name the data set of the results of" in message()
    assert "--flip cannot be combined with --results" in message("--flip", "--data", scenes)
    assert "--iou is 2" in message("--data", scenes, "--iou", 2)
    results.write_text("[]")
    assert "holds no detections, so there is nothing to evaluate" in message("--data", scenes)
    results.write_text('[{"image_id": 99, "category_id": 1, "bbox": [0, 0, 1, 1], "score": 1}]')
    assert re.search("entry 0 of .* 99", message("--data", scenes))
    results.write_text('[{"image_id": 1, "category_id": 1, "bbox": [0, 0, 1, 1], "score": NaN}]')
    assert re.search("entry 0 of .*", message("--data", scenes))


@pytest.mark.parametrize("command", ["errors", "nms", "resolution", "speed"])
def test_no_run_at_all(ctnet, tmp_path: Path, command: str) -> None:
    assert ctnet("analyze", command).message == (
        f"there is no run with a checkpoint in {tmp_path / 'runs'}; name a run folder or a checkpoint"
    )


@pytest.mark.parametrize("command", ["errors", "nms", "resolution"])
def test_data_that_does_not_serve(ctnet, run_folder: Path, scenes: Path, command: str) -> None:
    shutil.copytree(scenes, "data")
    path = Path("data/annotations/instances_val.json")
    text = path.read_text()
    path.write_text(text.replace('"ring"', '"donut"'))
    call = ("analyze", command, run_folder, "--data", "data", *QUICK)
    assert "different categories than the detector" in ctnet(*call).message
    document = json.loads(text)
    path.write_text(json.dumps({**document, "annotations": []}))
    assert "the ground truth has no objects of the model's classes" in ctnet(*call).message
    path.write_text(json.dumps({**document, "annotations": [], "images": []}))
    assert "lists no images; the split is empty" in ctnet(*call).message


# --- nms, resolution, speed


def test_nms(ctnet, run_folder: Path) -> None:
    document = json.loads(ctnet("analyze", "nms", run_folder, *QUICK, "--json").out)
    assert [row["method"] for row in document["rows"]] == ["none", "hard", "soft", "soft-linear"]
    for row in document["rows"]:
        done = ctnet("eval", run_folder, *QUICK, "--nms", row["method"], "--json")
        assert row["metrics"] == pytest.approx(json.loads(done.out)["metrics"])
    done = ctnet("analyze", "nms", run_folder, *QUICK)
    assert done.err == ""
    assert re.search(r"^soft-linear +0\.", done.out, re.MULTILINE)


def test_resolution(ctnet, run_folder: Path) -> None:
    sizes = ["--sizes", "original, 96,64x32"]
    document = json.loads(ctnet("analyze", "resolution", run_folder, *QUICK, *sizes, "--json").out)
    assert [row["resolution"] for row in document["rows"]] == ["original", "96x96", "64x32"]
    assert all(row["timing"]["images"] == 4 for row in document["rows"])
    assert "threads" in document["hardware"]
    done = ctnet("analyze", "resolution", run_folder, *QUICK, *sizes)
    assert re.search(r"^original +0\.\d{3} ", done.out, re.MULTILINE)
    assert "batches of 1 on " in done.out


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ("huge", "--sizes is 'huge'; write original, 512 or WIDTHxHEIGHT, separated by commas"),
        ("512,", "--sizes is '512,'"),
        ("100", "size 100x100 does not fit tiny: .* 128x128"),
    ],
)
def test_mistakes_with_resolution(ctnet, run_folder: Path, sizes: str, message: str) -> None:
    done = ctnet("analyze", "resolution", run_folder, *QUICK, "--sizes", sizes)
    assert re.search(message, done.message)


def test_speed(ctnet, run_folder: Path) -> None:
    short = ["--device", "cpu", "--repeats", 2, "--warm-up", 1]
    document = json.loads(ctnet("analyze", "speed", run_folder, *short, "--size", 96, "--flip", "--json").out)
    assert document["detector"] == str(run_folder / "best.pt")
    assert (document["size"], document["flip"], document["repeats"]) == ([96, 96], True, 2)
    done = ctnet("analyze", "speed", run_folder, *short)
    for name in ("load", "pre", "network", "decode", "post", "total"):
        assert re.search(rf"^{name} +\d+\.\d\d +\d+\.\d\d$", done.out, re.MULTILINE)
    assert "float32, 2 batches of 1" in done.out


def test_speed_of_an_untrained_network(ctnet, tiny: str, run_folder: Path) -> None:
    short = ["--device", "cpu", "--repeats", 1, "--warm-up", 0, "--size", 64]
    document = json.loads(ctnet("analyze", "speed", "--backbone", tiny, *short, "--json").out)
    assert (document["detector"], document["task"]) == (f"untrained {tiny}", "ctdet")
    assert "has its own backbone" in ctnet("analyze", "speed", run_folder, "--backbone", tiny).message
    assert (
        "there is no backbone called 'tyni_cli'"
        in ctnet("analyze", "speed", "--backbone", "tyni_cli").message
    )
