"""``ctnet data audit``: from a run to its decisions, and from these to corrected annotations."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

HERE = ["--workers", 0, "--device", "cpu"]


@pytest.fixture(scope="package")
def audited(tmp_path_factory: pytest.TempPathFactory, run_folder: Path, scenes: Path) -> Path:
    """A run of its own, and data of its own; not to be changed."""
    folder = tmp_path_factory.mktemp("audited")
    shutil.copytree(run_folder, folder / "run")
    return folder / "run"


@pytest.fixture
def damaged(tmp_path: Path, scenes: Path) -> Callable[..., Path]:
    """``damaged(change)``: the scenes with a change of their validation annotations."""

    def make(change: Callable[[dict[str, Any]], None]) -> Path:
        folder = shutil.copytree(scenes, tmp_path / "damaged")
        file = folder / "annotations" / "instances_val.json"
        document = json.loads(file.read_text())
        change(document)
        file.write_text(json.dumps(document))
        return folder

    return make


def decisions(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "decisions.json").read_text())


def test_the_run_judges_its_validation_split(ctnet, audited, tmp_path, damaged):
    def change(document):
        document["annotations"].append({**document["annotations"][0], "id": 999})

    data = damaged(change)
    done = ctnet("data", "audit", audited, "--data", data, "-o", tmp_path / "audit", *HERE)
    assert done.code == 0, done.err
    assert "1.00  duplicate  000001.jpg" in done.out
    assert f"look at them: {tmp_path / 'audit' / 'audit.html'}" in done.out
    document = decisions(tmp_path / "audit")
    (first, *_) = document["suggestions"]
    assert (first["annotation_id"], first["action"], first["decision"]) == (999, "remove", "open")
    first["decision"] = "accept"
    (tmp_path / "mine.json").write_text(json.dumps(document))
    new = tmp_path / "new.json"
    done = ctnet("data", "audit", "--apply", tmp_path / "mine.json", "-o", new)
    assert done.code == 0, done.err
    assert "0 annotations added, 0 changed, 1 removed" in done.out
    original = json.loads((data / "annotations" / "instances_val.json").read_text())
    original["annotations"].pop()
    assert json.loads(new.read_text()) == original


def test_folds_are_runs_that_are_kept_and_never_see_what_they_judge(ctnet, audited, scenes, tmp_path):
    folder = tmp_path / "audit"
    command = ["data", "audit", audited, "--folds", 2, "-R", "epochs=1", "-o", folder, *HERE, "--json"]
    done = ctnet(*command)
    assert done.code == 0, done.err
    report = json.loads(done.out)
    assert report["split"] == "train"
    configs = [json.loads((folder / f"fold-{number}" / "config.json").read_text()) for number in (1, 2)]
    assert [config["fold"]["number"] for config in configs] == [0, 1]
    assert [config["val_split"] for config in configs] == [None, None]
    assert configs[0]["recipe"]["learning_rate"] == pytest.approx(1e-5)
    assert done.err.count("3 training images") == 2
    # Unfinished folds are continued, finished ones are not trained again.
    (folder / "fold-2" / "metrics.csv").unlink()
    stamp = (folder / "fold-1" / "best.pt").stat().st_mtime_ns
    again = ctnet(*command)
    assert again.code == 0, again.err
    assert (folder / "fold-1" / "best.pt").stat().st_mtime_ns == stamp
    assert json.loads(again.out)["suggestions"] == report["suggestions"]
    other = ctnet(*[part if part != 2 else 3 for part in command])
    assert "holds an audit with other settings (folds is 2 there, and 3 now)" in other.message


def test_the_page_holds_everything_and_escapes_names(ctnet, audited, tmp_path, damaged):
    name = "&<b>.jpg"

    def change(document):
        document["images"][0]["file_name"] = name
        document["annotations"].append({**document["annotations"][0], "id": 999})

    data = damaged(change)
    (data / "val" / "000001.jpg").rename(data / "val" / name)
    done = ctnet("data", "audit", audited, "--data", data, "-o", tmp_path / "audit", *HERE)
    assert done.code == 0, done.err
    page = (tmp_path / "audit" / "audit.html").read_text()
    assert "&amp;&lt;b&gt;.jpg" in page
    assert "&<b>" not in page
    assert "Content-Security-Policy" in page
    assert not re.search(r"(src|href)=\"(?!data:)", page)
    embedded = re.search(r'<script type="application/json" id="document">(.*?)</script>', page, re.S)
    assert embedded is not None
    assert json.loads(embedded[1]) == decisions(tmp_path / "audit")


def test_decisions_that_were_made_are_not_replaced(ctnet, audited, tmp_path):
    folder = tmp_path / "audit"
    assert ctnet("data", "audit", audited, "-o", folder, *HERE).code == 0
    document = decisions(folder)
    document["suggestions"][0]["decision"] = "reject"
    (folder / "decisions.json").write_text(json.dumps(document))
    done = ctnet("data", "audit", audited, "-o", folder, *HERE)
    assert "has decisions in it, which a new audit would replace" in done.message


def test_the_training_split_is_audited_with_a_note(ctnet, audited, tmp_path):
    done = ctnet("data", "audit", audited, "--split", "train", "-o", tmp_path / "audit", *HERE)
    assert done.code == 0, done.err
    assert "the run has learnt from these annotations" in done.err


def without_objects(document):
    document["annotations"] = []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--folds", 1], "--folds is 1; at least 2 are needed"),
        (["-R", "epochs=2"], "-R is for --folds; add that, or leave it out"),
        (["--group", "scene"], "--group is for --folds"),
        (["--folds", 9, "-R", "epochs=1"], "has too few images for 9 folds; choose fewer with --folds"),
        (["--folds", 2, "--group", "scene"], "no image of .* has a field 'scene'"),
        (["--split", "none"], "has no split 'none'"),
        (["--apply", "decisions.json", "--folds", 2, "-o", "x"], "--folds cannot be combined with --apply"),
        (["--apply", "decisions.json"], "name it with --output FILE"),
        (["--data", "gone"], "does not exist; if it was moved, give its new location: --data DIR"),
    ],
)
def test_what_cannot_be_audited_is_one_line(ctnet, audited, tmp_path, arguments, message):
    output = [] if "--apply" in arguments else ["-o", tmp_path / "audit"]
    assert re.search(message, ctnet("data", "audit", audited, *arguments, *output).message)


def test_data_without_an_object_is_one_line(ctnet, audited, tmp_path, damaged):
    data = damaged(without_objects)
    done = ctnet("data", "audit", audited, "--data", data, "-o", tmp_path / "audit", *HERE)
    assert "has no annotated object to audit" in done.message


def test_a_run_whose_data_has_gone_is_one_line(ctnet, audited, tmp_path):
    run = shutil.copytree(audited, tmp_path / "run")
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps({**config, "data": str(tmp_path / "gone")}))
    for folds in ([], ["--folds", 2]):
        done = ctnet("data", "audit", run, *folds)
        assert f"the data of {run}, {tmp_path / 'gone'}, does not exist" in done.message
    assert [path.name for path in run.iterdir() if path.name.startswith("audit")] == []


def test_one_image_of_one_class(ctnet, tiny, tmp_path, damaged):
    def change(document):
        first = document["images"][0]["id"]
        document["images"] = document["images"][:1]
        document["categories"] = document["categories"][:1]
        kept = [each for each in document["annotations"] if each["image_id"] == first][:2]
        only = document["categories"][0]["id"]
        document["annotations"] = [{**each, "category_id": only} for each in kept]

    data = damaged(change)
    size = ["--size", 64, "--epochs", 1, "--backbone", tiny, "--train-split", "val", "--val-split", "none"]
    made = ctnet("train", "ctdet", "--data", data, *size, "-o", tmp_path / "run", *HERE)
    assert made.code == 0, made.err
    done = ctnet("data", "audit", tmp_path / "run", *HERE)
    assert done.code == 0, done.err
    assert (tmp_path / "run" / "audit-val" / "audit.html").is_file()
    few = ctnet("data", "audit", tmp_path / "run", "--folds", 2, *HERE)
    assert "too few images for 2 folds" in few.message
