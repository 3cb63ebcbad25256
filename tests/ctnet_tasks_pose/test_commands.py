"""pose at the command line: joints in the commands, and one line for what cannot be used."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from ctnet import checkpoint
from ctnet.base.errors import CtnetError
from ctnet.cli import app
from ctnet.core.task import create_task
from ctnet.data.shape_scenes import SHAPES
from ctnet.data.synthetic import write_dataset
from ctnet_tasks_pose.figures import FIGURES

SIZE = (64, 64)


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CTNET_CACHE", str(tmp_path / ".cache"))


@pytest.fixture
def figures(tmp_path: Path) -> Path:
    """Four scenes to train on and two to evaluate on."""
    folder = tmp_path / "figures"
    write_dataset(create_task("pose", FIGURES), folder, {"train": 4, "val": 2}, SIZE)
    return folder


@pytest.fixture
def tiny(tiny_backbone) -> Iterator[str]:
    with tiny_backbone() as name:
        yield name


def ctnet(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def train(task: str, data: Path, backbone: str, *more: object) -> Result:
    quick = ["--size", 64, "--batch-size", 2, "--epochs", 1, "--workers", 0, "--device", "cpu"]
    return ctnet("train", task, "--data", data, "--backbone", backbone, *quick, *more)


def change(data: Path, **fields: Any) -> None:
    """Change fields of the first annotation of the training split."""
    path = data / "annotations" / "person_keypoints_train.json"
    content = json.loads(path.read_text())
    content["annotations"][0] |= fields
    path.write_text(json.dumps(content))


JOINTS = [float(value) for _ in range(17) for value in (20, 30, 2)]


@pytest.mark.parametrize(
    ("keypoints", "said"),
    [
        (JOINTS[:-1], "keypoints are 50 numbers, not 51"),
        ([20, 30, 7, *JOINTS[3:]], "keypoints have visibility 7 for nose"),
        ([float("nan"), 30, 2, *JOINTS[3:]], "keypoints have nose at (nan, 30"),
    ],
)
def test_bad_keypoints_are_listed_and_with_strict_refused(figures, tiny, keypoints, said):
    change(figures, keypoints=keypoints)
    checked = ctnet("data", "check", figures, "--task", "pose")
    assert checked.exit_code == 0
    assert said in " ".join((checked.stdout + checked.stderr).split())
    assert ctnet("data", "check", figures, "--task", "pose", "--strict").exit_code == 1
    trained = train("pose", figures, tiny, "--strict")
    assert isinstance(trained.exception, CtnetError)
    assert said in str(trained.exception)


def test_a_joint_outside_its_image_is_reported_and_trained_as_not_labelled(figures, tiny):
    change(figures, keypoints=[500, 30, 2, *JOINTS[3:]])
    checked = ctnet("data", "check", figures, "--task", "pose", "--strict")
    assert checked.exit_code == 0
    assert "nose is at (500, 30), outside the 64x64 image" in " ".join(
        (checked.stdout + checked.stderr).split()
    )
    assert train("pose", figures, tiny, "--strict").exit_code == 0


def test_a_category_without_joints_ends_the_training_in_one_line(tmp_path, tiny):
    write_dataset(create_task("ctdet", SHAPES), tmp_path / "shapes", {"train": 1, "val": 1}, SIZE)
    failure = train("pose", tmp_path / "shapes", tiny).exception
    assert isinstance(failure, CtnetError)
    assert "names no joints; pose needs 'keypoints'" in str(failure)
    assert "\n" not in str(failure)


def test_figures_of_the_data_and_pictures_know_joints(figures):
    told = ctnet("data", "stats", figures, "--task", "pose")
    assert told.exit_code == 0
    assert "labelled keypoints" in told.stdout
    assert ctnet("data", "show", figures, "--task", "pose", "-n", 2, "-o", "shown").exit_code == 0
    assert len(list(Path("shown").iterdir())) == 2


def test_fine_tuning_from_ctdet_names_what_it_takes(tmp_path, figures, tiny):
    shapes = tmp_path / "shapes"
    write_dataset(create_task("ctdet", SHAPES), shapes, {"train": 2, "val": 1}, SIZE)
    assert train("ctdet", shapes, tiny, "-o", "boxes").exit_code == 0
    tuned = train("pose", figures, tiny, "--init", "boxes", "-o", "poses")
    assert tuned.exit_code == 0
    said = " ".join((tuned.stdout + tuned.stderr).split())
    assert "(task ctdet): backbone taken" in said
    assert "taken: offset, size; taken but for the last convolution" in said
    assert "another number of channels: heatmap; started fresh: joints, joint_heatmap, joint_offset" in said


def test_one_run_is_measured_with_and_without_snapping(figures, tiny):
    assert train("pose", figures, tiny, "-o", "run").exit_code == 0
    trained = checkpoint.load("run/best.pt")
    trained.weights["branches.0.size.2.bias"].fill_(16)  # boxes with room for peaks
    checkpoint.save(Path("run/best.pt"), trained.description, trained.weights)
    found = []
    for more in ([], ["-O", "snap=off"], ["-O", "snap=on"]):
        measured = ctnet("eval", "run", "--workers", 0, "--flip", "--save", "found.json", *more)
        assert measured.exit_code == 0
        found.append(json.loads(Path("found.json").read_text()))
    plain, regressed, snapped = found
    assert plain == snapped
    assert plain != regressed
    assert [entry["bbox"] for entry in plain] == [entry["bbox"] for entry in regressed]
