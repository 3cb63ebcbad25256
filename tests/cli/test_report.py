"""``ctnet report``, and the report at the end of ``train``."""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path

import cv2
import pytest

QUICK = ["--draws", 100, "--device", "cpu", "--workers", 0, "--pictures", 1]


def test_a_run(ctnet, run_folder: Path) -> None:
    done = ctnet("report", run_folder, *QUICK, "-o", "r.html", "--json")
    assert done.code == 0, done.err
    document = json.loads(done.out)
    page = Path("r.html").read_text("utf-8")
    assert document == {"report": "r.html", "bytes": len(page.encode()), "plots": [], "left_out": {"run": []}}
    assert "ctdet with tiny after 1 epoch" in page
    measured = json.loads(ctnet("eval", run_folder, "--device", "cpu", "--workers", 0, "--json").out)[
        "metrics"
    ]
    shown = dict(re.findall(r"<dt>(AP\w*)</dt><dd>([\d.]+)", page))
    assert shown["AP"] == f"{measured['AP']:.3f}"
    assert shown["AP50"] == f"{measured['AP50']:.3f}"


def test_two_runs_side_by_side(ctnet, run_folder: Path) -> None:
    done = ctnet("report", run_folder, run_folder / "last.pt", *QUICK, "-o", "both.html")
    assert done.code == 0, done.err
    page = Path("both.html").read_text("utf-8")
    assert "Side by side" in page
    assert re.search(r"A = run, B = last.pt: not distinguishable by AP: B - A is \+0.0000", page)


def test_what_is_missing_is_left_out(ctnet, run_folder: Path, tmp_path: Path) -> None:
    shutil.copy(run_folder / "best.pt", "alone.pt")
    done = ctnet("report", "alone.pt", *QUICK)
    assert done.code == 0, done.err
    assert "everything about single images and objects, since there is no evaluation" in done.err
    page = Path("report.html").read_text("utf-8")
    assert "give --data DIR" in page
    assert "curves over epochs" in page
    assert "not evaluated" in page
    assert 'id="score"' not in page


def test_fewer_images_than_there_are(ctnet, run_folder: Path) -> None:
    done = ctnet("report", run_folder, *QUICK, "--images", 2, "-o", "few.html")
    assert done.code == 0, done.err
    assert "2 of 4 images: figures are of 2 that are chosen evenly; --images 4 evaluates all" in done.err


def test_damaged_metrics_are_named(ctnet, run_folder: Path) -> None:
    shutil.copytree(run_folder, "run")
    Path("run/metrics.csv").write_text("epoch,loss\n1,2\n2,many\n")
    done = ctnet("report", "run", *QUICK)
    assert done.code == 0, done.err
    assert "metrics.csv is damaged: line 3 has something else than one number per column" in done.err


def test_no_run(ctnet, tmp_path: Path) -> None:
    assert "gone" in ctnet("report", tmp_path / "gone").message
    assert "contains neither best.pt nor last.pt" in ctnet("report", tmp_path).message


def test_training_writes_a_report_and_plots(ctnet, training: list[object]) -> None:
    done = ctnet(*training, "-o", "run", "-R", "report=true")
    assert done.code == 0, done.err
    assert done.out.endswith("report: run/report.html\n")
    assert "Training" in Path("run/report.html").read_text("utf-8")
    for name in ("curves.png", "labels.png", "train_batch.png"):
        assert cv2.imread(f"run/{name}").std() > 1, name


def test_training_without_a_report(ctnet, training: list[object]) -> None:
    done = ctnet(*training, "-o", "run", "-R", "report=false")
    assert done.code == 0, done.err
    assert "report" not in done.out
    assert not list(Path("run").glob("*.html")) + list(Path("run").glob("*.png"))


def test_a_report_that_fails_leaves_the_training_as_it_is(
    ctnet, training: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise RuntimeError("out of\nluck")

    monkeypatch.setattr("ctnet.analysis.reporting.write_report", fail)
    done = ctnet(*training, "-o", "run", "-R", "report=true")
    assert done.code == 0
    assert "no report was written: out of luck; `ctnet report run` writes it" in done.err
    assert Path("run/best.pt").exists()


def test_statistics_are_plotted(ctnet, scenes: Path) -> None:
    assert ctnet("data", "stats", scenes, "--plots", "pictures").code == 0
    assert {path.name for path in Path("pictures").iterdir()} == {"labels_train.png", "labels_val.png"}
    assert cv2.imread("pictures/labels_val.png").std() > 1


def test_plots_without_matplotlib(ctnet, scenes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    message = ctnet("data", "stats", scenes, "--plots", "pictures").message
    assert message == "plots need matplotlib: pip install 'ctnet-toolkit[plots]'"
