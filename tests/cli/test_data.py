"""``ctnet data``: what it prints, where, and its exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from ctnet.base.errors import CtnetError
from ctnet.cli.data import app


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two images, of which the second is missing, and one box without area."""
    content = {
        "images": [{"id": i, "file_name": f"{i}.png", "width": 400, "height": 300} for i in (1, 2)],
        "categories": [{"id": 1, "name": "cat"}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 1, "bbox": [100, 100, 200, 100]},
            {"id": 2, "image_id": 1, "category_id": 1, "bbox": [10, 10, 0, 10]},
        ],
    }
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "instances_train.json").write_text(json.dumps(content))
    cv2.imwrite(str(tmp_path / "1.png"), np.zeros((300, 400, 3), np.uint8))
    return tmp_path


def run(*arguments: object):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def row(text: str, start: str) -> str:
    return next(line for line in text.splitlines() if line.strip().startswith(start))


def test_check_prints_a_table_to_stdout(data: Path) -> None:
    result = run("check", data)
    assert result.exit_code == 0
    assert row(result.stdout, "bad records").split() == ["bad", "records", "2"]
    assert "annotation 2 of image 1" in row(result.stdout, "box without area")
    assert "2.png" in row(result.stdout, "image missing")


def test_check_strict_exits_with_one_for_bad_records(data: Path) -> None:
    assert run("check", data, "--strict").exit_code == 1
    assert run("check", data, "--strict", "--no-images").exit_code == 1
    path = data / "annotations" / "instances_train.json"
    path.write_text(path.read_text().replace("10, 10, 0, 10", "10, 10, 9, 10"))
    assert run("check", data, "--strict", "--no-images").exit_code == 0
    assert run("check", data, "--strict").exit_code == 1


def test_check_json_lists_every_record(data: Path) -> None:
    result = run("check", data, "--json", "--strict")
    assert result.exit_code == 1
    (split,) = json.loads(result.stdout)["splits"]
    assert [record["where"] for record in split["problems"]["empty-bbox"]] == ["annotation 2 of image 1"]


def test_stats(data: Path) -> None:
    result = run("stats", data)
    assert row(result.stdout, "cat").split() == ["cat", "1"]
    assert "1 bad records are not counted" in result.stderr
    (split,) = json.loads(run("stats", data, "--json").stdout)["splits"]
    assert (split["images"], split["objects"]) == (2, 1)


def test_show_draws_boxes_and_says_where_and_what_it_skipped(data: Path, tmp_path: Path) -> None:
    result = run("show", data, "-o", tmp_path / "shown")
    assert result.stdout.splitlines() == [str(tmp_path / "shown" / "train_1.jpg")]
    assert "image 2" in result.stderr
    picture = cv2.imread(result.stdout.strip())
    assert picture[150, 100].max() > 100  # the box's left side
    assert picture[150, 200].max() < 30  # inside it


def test_show_takes_image_ids(data: Path, tmp_path: Path) -> None:
    result = run("show", data, "-o", tmp_path / "shown", "--image", 1)
    assert len(result.stdout.splitlines()) == 1
    error = run("show", data, "-o", tmp_path / "shown", "--image", 77).exception
    assert isinstance(error, CtnetError)
    assert "no image with the id 77" in str(error)


def test_show_draws_the_same_lot_again(data: Path, tmp_path: Path) -> None:
    names = [run("show", data, "-n", 1, "-o", tmp_path, "--seed", seed).output for seed in (3, 3)]
    assert names[0] == names[1]


def test_split_prints_a_table_and_show_takes_the_only_split(data: Path, tmp_path: Path) -> None:
    annotations = data / "annotations"
    (annotations / "instances_train.json").rename(annotations / "instances_default.json")
    assert run("show", data, "-o", tmp_path / "shown").stdout.splitlines() == [
        str(tmp_path / "shown" / "default_1.jpg")
    ]
    result = run("split", data, "--val", 0.5)
    assert result.exit_code == 0
    assert row(result.stdout, "val").split()[1] == "1"
    assert "note: 1 images are missing" in result.stderr
    content = json.loads(run("split", data, "--split", "default", "--val", 0.5, "--force", "--json").stdout)
    assert [(part["name"], part["images"]) for part in content["splits"]] == [("train", 1), ("val", 1)]


def test_check_says_that_a_split_is_missing(data: Path) -> None:
    assert "there is no split 'val'; `ctnet data split" in run("check", data).stderr
    assert "val" in json.loads(run("check", data, "--json").stdout)["notes"][0]
    assert "no split" not in run("check", data, "--split", "train").stderr


@pytest.mark.parametrize("command", ["check", "stats", "show", "split"])
def test_help_has_examples(command: str) -> None:
    assert f"ctnet data {command} " in run(command, "--help").stdout.split("Examples")[1]


def test_no_data_directory(tmp_path: Path) -> None:
    for command in ("check", "stats", "show"):
        assert isinstance(run(command, tmp_path / "nowhere").exception, CtnetError)


def test_ceiling_names_what_is_lost(data: Path) -> None:
    content = json.loads((data / "annotations/instances_train.json").read_text())
    twins = [[40, 40, 60, 60], [36, 36, 72, 72]]
    content["annotations"] = [
        {"id": n, "image_id": 1, "category_id": 1, "bbox": box} for n, box in enumerate(twins)
    ]
    (data / "annotations/instances_val.json").write_text(json.dumps(content))
    result = run("ceiling", data, "--sizes", "64,keep")
    assert result.exit_code == 0, result.output
    assert row(result.stdout, "64x64").split()[-3:] == ["2", "1", "0"]
    assert "1: collision: another object of its class has its centre in the same cell" in result.stdout
    assert "1.png: cat" in result.stdout
    result = run("ceiling", data, "--sizes", "64x32", "--backbone", "resfpn18", "--json")
    document = json.loads(result.stdout)
    assert (document["stride"], document["ceilings"][0]["size"]) == (4, [64, 32])
    assert document["ceilings"][0]["metrics"]["AP"] < 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--sizes", "big"], "--sizes is 'big'; write one number"),
        (["--sizes", "65"], "size 65x65 does not fit"),
        (["--split", "dev"], "has no split 'dev'"),
        (["--task", "ctdetect"], "did you mean ctdet"),
        (["--backbone", "resnet"], "no backbone called 'resnet'"),
    ],
)
def test_ceilings_that_cannot_be_computed(data: Path, arguments: list[str], message: str) -> None:
    result = run("ceiling", data, "--split", "train", *arguments)
    assert isinstance(result.exception, CtnetError)
    assert message in str(result.exception)
