from __future__ import annotations

import csv
import json
import os
import re
import shutil
from pathlib import Path

import pytest
import torch

from ctnet.data.synthetic import SHAPES

QUICK = ["--workers", 0, "--device", "cpu"]


def test_the_latest_run_is_the_default(ctnet, run_folder: Path) -> None:
    for number, name in enumerate(("new", "old")):
        shutil.copytree(run_folder, Path("runs") / name)
        for file in Path("runs", name).iterdir():
            os.utime(file, (2_000_000 - number, 2_000_000 - number))
    Path("runs/no_run").mkdir()
    shutil.copy(run_folder / "best.pt", "runs/no_run/best.pt")  # newer, but no run
    done = ctnet("eval", *QUICK, "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["checkpoint"] == "runs/new/best.pt"


def test_figures_as_json(ctnet, run_folder: Path, scenes: Path) -> None:
    printed = json.loads(ctnet("eval", run_folder, *QUICK, "--json").out)
    assert printed["data"] == str(scenes / "annotations" / "instances_val.json")
    assert (printed["images"], printed["skipped"]) == (4, 0)
    assert {"AP", "AP50", "AP75", "AR100", f"AP/{SHAPES[0]['name']}"} <= set(printed["metrics"])


def test_figures_as_a_table(ctnet, run_folder: Path) -> None:
    done = ctnet("eval", run_folder, *QUICK)
    assert done.out == ""
    assert f"{run_folder / 'best.pt'} on 4 images of " in done.err
    assert "AP50" in done.err
    assert all(shape["name"] in done.err for shape in SHAPES)


def test_training_and_evaluation_agree(ctnet, run_folder: Path) -> None:
    row = next(csv.DictReader((run_folder / "metrics.csv").read_text().splitlines()))
    metrics = json.loads(ctnet("eval", run_folder, *QUICK, "--amp", "auto", "--json").out)["metrics"]
    assert metrics["AP"] == pytest.approx(float(row["AP"]))
    assert metrics["AR100"] == pytest.approx(float(row["AR100"]))


def test_engines_agree(ctnet, run_folder: Path) -> None:
    ours, theirs = (
        json.loads(ctnet("eval", run_folder, *QUICK, "--engine", engine, "--json").out)["metrics"]
        for engine in ("faster-coco-eval", "pycocotools")
    )
    assert ours == pytest.approx(theirs)


@pytest.mark.parametrize("metric", ["voc07", "voc10"])
def test_other_metrics(ctnet, run_folder: Path, metric: str) -> None:
    assert "mAP" in json.loads(ctnet("eval", run_folder, *QUICK, "--metric", metric, "--json").out)["metrics"]


def test_another_split_and_a_checkpoint(ctnet, run_folder: Path, scenes: Path) -> None:
    done = ctnet("eval", run_folder / "last.pt", "--split", "train", "--resize", "keep", *QUICK, "--json")
    assert json.loads(done.out)["images"] == 6
    shutil.copy(run_folder / "best.pt", "alone.pt")
    assert (
        "alone.pt is in no run folder that names its data; say --data DIR"
        in ctnet("eval", "alone.pt").message
    )
    assert json.loads(ctnet("eval", "alone.pt", "--data", scenes, *QUICK, "--json").out)["images"] == 4


def test_unreadable_images_are_counted_or_refused(ctnet, run_folder: Path, scenes: Path) -> None:
    shutil.copytree(scenes, "data")
    Path("data/val/000002.jpg").write_bytes(b"nothing")
    done = ctnet("eval", run_folder, "--data", "data", *QUICK, "--json")
    assert json.loads(done.out)["skipped"] == 1
    assert "warning: skipped 1 with unreadable image (first: 000002.jpg" in done.err
    assert (
        "1 with unreadable image" in ctnet("eval", run_folder, "--data", "data", *QUICK, "--strict").message
    )


def test_data_with_other_categories(ctnet, run_folder: Path, scenes: Path) -> None:
    shutil.copytree(scenes, "data")
    path = Path("data/annotations/instances_val.json")
    path.write_text(path.read_text().replace('"ring"', '"donut"'))
    message = ctnet("eval", run_folder, "--data", "data", *QUICK).message
    assert (
        "data has other categories than the detector (category id 4 is 'donut' there and 'ring' here)"
        in message
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--metric", "cocoa"], "there is no metric of task ctdet called 'cocoa'; did you mean coco"),
        (["--engine", "coco"], "there is no evaluation engine called 'coco'; did you mean"),
        (["--split", "dev"], "has no split 'dev'"),
        (["--resize", "crop"], "resize is 'crop'; it must be fix or keep"),
        (["--size", "70"], "size 70x70 does not fit tiny_cli: .* the next size that fits is 96x96"),
        (["--resize", "keep", "--size", "64"], "size 64x64 is for resize fix"),
        (["--amp", "yes"], "--amp is 'yes'"),
        (["--device", "tpu"], "device 'tpu' cannot be used here"),
        (["--data", "nowhere"], "nowhere is no folder"),
    ],
)  # fmt: skip
def test_mistakes(ctnet, run_folder: Path, arguments: list[str], message: str) -> None:
    assert re.search(message, ctnet("eval", run_folder, "--workers", 0, *arguments).message)


def test_no_run_at_all(ctnet, tmp_path: Path) -> None:
    assert ctnet("eval").message == (
        f"there is no run with a checkpoint in {tmp_path / 'runs'}; name a run folder or a checkpoint"
    )


def test_what_is_no_run(ctnet, scenes: Path) -> None:
    assert "holds neither best.pt nor last.pt; is it a run folder" in ctnet("eval", scenes).message
    assert ctnet("eval", "gone.pt").message == "cannot read gone.pt: No such file or directory"
    Path("notes.pt").write_text("hello")
    assert "notes.pt is " in ctnet("eval", "notes.pt").message


def test_weights_of_another_network(ctnet, run_folder: Path, scenes: Path) -> None:
    content = torch.load(run_folder / "best.pt", weights_only=True)
    content["weights"] = {"conv.weight": torch.zeros(3)}
    torch.save(content, "mixed.pt")
    message = ctnet("eval", "mixed.pt", "--data", scenes, *QUICK).message
    assert "these weights do not fit the network: 0 loaded" in message


def test_a_checkpoint_of_a_task_that_is_not_installed(ctnet, run_folder: Path, scenes: Path) -> None:
    content = torch.load(run_folder / "best.pt", weights_only=True)
    content["description"] = content["description"].replace('"ctdet"', '"cubes"')
    torch.save(content, "cubes.pt")
    assert "there is no task called 'cubes'" in ctnet("eval", "cubes.pt", "--data", scenes, *QUICK).message
