"""``ctnet compare`` and ``ctnet eval --intervals``: answers, documents and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

QUICK = ["--workers", 0, "--device", "cpu", "--draws", 100]


def data(folder: str, images: int = 60, objects: int = 2) -> Path:
    """A data directory of one class, and results files of a good and of a bad model."""
    rng = np.random.default_rng(0)
    boxes = [[40.0 * number, 20.0, 30.0, 30.0] for number in range(objects)]
    content: dict[str, Any] = {
        "images": [
            {"id": number, "file_name": f"{number}.jpg", "width": 200, "height": 100}
            for number in range(1, images + 1)
        ],
        "categories": [{"id": 1, "name": "cell"}],
    }
    content["annotations"] = [
        {"id": objects * (image["id"] - 1) + row + 1, "image_id": image["id"], "category_id": 1, "bbox": box}
        for image in content["images"]
        for row, box in enumerate(boxes)
    ]
    path = Path(folder)
    (path / "annotations").mkdir(parents=True)
    (path / "annotations/instances_val.json").write_text(json.dumps(content))
    for name, noise in (("good", 1.0), ("bad", 6.0)):
        found = [
            {
                **entry,
                "bbox": (np.array(entry["bbox"]) + rng.normal(0, noise, 4)).tolist(),
                "score": rng.random(),
            }
            for entry in content["annotations"]
        ]
        (path / f"{name}.json").write_text(json.dumps(found))
    return path


def test_intervals_of_a_run(ctnet, run_folder: Path) -> None:
    done = ctnet("eval", run_folder, "--intervals", *QUICK, "--json")
    assert done.code == 0, done.err
    assert "warning: 4 images: with fewer than 50, intervals are too narrow" in done.err
    document = json.loads(done.out)
    found = document["intervals"]
    assert set(found["metrics"]) == set(document["metrics"])
    assert (found["draws"], found["seed"], found["images"]) == (100, 0, 4)


def test_intervals_as_a_table(ctnet) -> None:
    folder = data("data")
    done = ctnet("eval", "--results", folder / "good.json", "--data", folder, "--intervals", "--draws", 100)
    assert done.code == 0, done.err
    assert done.err == ""
    assert "percentile" in done.out
    assert "intervals: 95%, from 100 draws of 60 images (seed 0)" in done.out
    plain = ["eval", "--results", folder / "good.json", "--data", folder]
    assert "percentile" not in ctnet(*plain).out
    for option in ("--draws", "--seed"):
        assert f"{option} is for --intervals; add that" in ctnet(*plain, option, 500).message


def test_the_better_model_is_named(ctnet) -> None:
    folder = data("data")
    arguments = ["compare", folder / "bad.json", folder / "good.json", "--data", folder, "--draws", 200]
    done = ctnet(*arguments, "--json")
    assert done.code == 0, done.err
    document = json.loads(done.out)
    assert document["distinguishable"] is True
    assert document["probability_b_better"] == 1
    assert document["metrics"]["AP"]["percentile"][0] > 0
    assert document["metrics"]["AP/cell"] == document["metrics"]["AP"]
    assert len(document["most_different"]) == 10
    assert document["most_different"][0]["file_name"].endswith(".jpg")
    told = ctnet(*arguments).out
    assert "B is the better of these two models by AP, on images like these" in told
    assert "they differ most on" in told


def test_equal_models_are_not_distinguishable(ctnet) -> None:
    folder = data("data")
    arguments = ["compare", folder / "good.json", folder / "good.json", "--data", folder, "--draws", 100]
    document = json.loads(ctnet(*arguments, "--json").out)
    assert (document["distinguishable"], document["most_different"]) == (False, [])
    assert "not distinguishable by AP: B - A is +0.0000" in ctnet(*arguments).out


def test_a_run_and_its_own_results(ctnet, run_folder: Path) -> None:
    assert ctnet("eval", run_folder, "--save", "r.json", *QUICK[:4]).code == 0
    done = ctnet("compare", run_folder, "r.json", *QUICK, "--json")
    assert done.code == 0, done.err
    document = json.loads(done.out)
    assert document["distinguishable"] is False
    assert abs(document["metrics"]["AP"]["difference"]) < 1e-3
    assert document["images"] == 4


def test_recipes(ctnet) -> None:
    folder = data("data")
    good, bad = folder / "good.json", folder / "bad.json"
    done = ctnet("compare", "--runs", bad, bad, good, good, "--data", folder, "--draws", 100, "--json")
    assert done.code == 0, done.err
    document = json.loads(done.out)
    assert document["distinguishable"] is True
    assert (document["a"], document["most_different"]) == ([str(bad)] * 2, [])
    assert "the better of these two recipes" in document["answer"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a.json"], "two models are compared, not 1; trainings of two recipes with --runs"),
        (["a.json", "b.json", "c.json"], "two models are compared, not 3"),
        (["--runs", "a.json", "b.json"], "--runs takes as many trainings of A as of B, two or more of each"),
        (["--runs", *("a.json",) * 5], "two or more of each, not 5 in all"),
        (["DATA/good.json", "DATA/bad.json"], "name the data set of the results of"),
        (["DATA/good.json", "gone.json", "--data", "DATA"], "cannot read gone.json"),
        (["DATA/good.json", "DATA/none.json", "--data", "DATA"], "none.json holds no detections"),
        (["DATA/good.json", "DATA/bad.json", "--data", "DATA", "--task", "pose"], "keypoints"),
    ],
)
def test_what_cannot_be_compared(ctnet, arguments: list[str], message: str) -> None:
    (data("data") / "none.json").write_text("[]")
    assert message in ctnet("compare", *(each.replace("DATA", "data") for each in arguments)).message


def test_one_image_and_nothing_found_are_refused(ctnet, run_folder: Path, scenes: Path) -> None:
    folder = data("one", images=1)
    files = [folder / "good.json", folder / "bad.json", "--data", folder]
    assert (
        "good.json: intervals come from drawing images, and there is only one"
        in ctnet("compare", *files).message
    )
    done = ctnet("eval", "--results", folder / "good.json", "--data", folder, "--intervals")
    assert "there is only one; evaluate a split" in done.message
    shutil.copytree(scenes, "empty")
    path = Path("empty/annotations/instances_val.json")
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "annotations": []}))
    done = ctnet("compare", run_folder, run_folder, "--data", "empty", *QUICK)
    assert "has no objects of the model's classes" in done.message


def test_models_of_other_classes_or_data_are_refused(ctnet, run_folder: Path, scenes: Path) -> None:
    import torch

    content = torch.load(run_folder / "best.pt", weights_only=True)
    content["description"] = content["description"].replace('"ring"', '"donut"')
    shutil.copytree(run_folder, "renamed")
    torch.save(content, "renamed/best.pt")
    shutil.copytree(scenes, "other")
    path = Path("other/annotations/instances_val.json")
    path.write_text(path.read_text().replace('"ring"', '"donut"'))
    config = json.loads(Path("renamed/config.json").read_text())
    Path("renamed/config.json").write_text(json.dumps({**config, "data": str(Path("other").absolute())}))
    message = ctnet("compare", run_folder, "renamed", *QUICK).message
    assert "have different classes (category id 4 is 'ring' and 'donut')" in message

    shutil.copytree(scenes, "fewer")
    path = Path("fewer/annotations/instances_val.json")
    truth = json.loads(path.read_text())
    path.write_text(json.dumps({**truth, "annotations": truth["annotations"][1:]}))
    shutil.copytree(run_folder, "moved")
    Path("moved/config.json").write_text(json.dumps({**config, "data": str(Path("fewer").absolute())}))
    message = ctnet("compare", run_folder, "moved", *QUICK).message
    assert "which differ; give one data set for both with --data DIR" in message
    assert ctnet("compare", run_folder, "moved", "--data", scenes, *QUICK).code == 0
