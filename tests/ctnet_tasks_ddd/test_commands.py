"""ddd at the command line: 3D boxes in the data commands and predict."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from ctnet.cli import app
from ctnet.core.task import scenes_of
from ctnet.data.images import read_image
from ctnet.data.synthetic import write_dataset
from ctnet_tasks_ddd.task import Boxes3d


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def streets(tmp_path: Path) -> Path:
    """A data directory of three scenes."""
    write_dataset(Boxes3d(scenes_of(Boxes3d).categories), tmp_path / "data", {"train": 3}, (384, 128))
    return tmp_path / "data"


def change(data: Path, **fields: object) -> None:
    """Change fields of the first annotation."""
    path = data / "annotations" / "instances_train.json"
    content = json.loads(path.read_text())
    content["annotations"][0] |= fields
    path.write_text(json.dumps(content))


def test_check_is_content_with_its_own_scenes(streets: Path) -> None:
    result = run("data", "check", streets, "--task", "ddd")
    assert result.exit_code == 0
    assert "no bad records" in result.output


@pytest.mark.parametrize(
    ("fields", "phrase"),
    [
        ({"alpha": 3.0, "rotation_y": 1.0}, "alpha is 3, but rotation_y and location make it"),
        ({"bbox": [1, 1, 3, 3]}, "outside its box"),
        ({"dim": [1.5, -1.6, 3.9]}, "dim is [1.5, -1.6, 3.9], outside 1e-06 to inf"),
        ({"location": [0, 1.6, -9.0], "depth": -9.0}, "behind the camera"),
        ({"depth": 99.0}, "depth is 99, but the location's z is"),
        ({"alpha": None}, "alpha is missing"),
    ],
)
def test_check_names_what_contradicts_itself(streets: Path, fields: dict[str, object], phrase: str) -> None:
    change(streets, **fields)
    result = run("data", "check", streets, "--task", "ddd", "--json")
    assert result.exit_code == 0
    assert phrase in result.output
    assert "1 bad records" in run("data", "check", streets, "--task", "ddd").output


def test_stats_count_depths_sizes_and_angles(streets: Path) -> None:
    output = run("data", "stats", streets, "--task", "ddd").output
    for name in (
        "depth (m)", "height (m)", "width (m)", "length (m)", "alpha (degrees)", "rotation y (degrees)",
    ):  # fmt: skip
        assert name in output


def test_show_draws_the_view_from_above_beside_the_image(streets: Path, tmp_path: Path) -> None:
    result = run("data", "show", streets, "--task", "ddd", "-n", 1, "-o", tmp_path / "shown")
    assert result.exit_code == 0
    (picture,) = (tmp_path / "shown").iterdir()
    assert read_image(picture).shape == (128, 384 + 128, 3)
