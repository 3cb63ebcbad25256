"""``ctnet kitti-eval`` and ``ctnet convert kitti``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from ctnet.base.errors import CtnetError
from ctnet.base.plugins import discover
from ctnet_tasks_ddd.cli import convert_kitti, kitti_eval_command


def run(command, *arguments: object):
    app = typer.Typer()
    app.command()(command)
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def folders(tmp_path: Path, lines) -> list[object]:
    """Options that name labels of two frames and results of one."""
    for name, frames in {"labels": ("000001", "000002"), "results": ("000001",)}.items():
        (tmp_path / name).mkdir()
        line = lines[0] if name == "labels" else f"{lines[0]} 0.9"
        for frame in frames:
            (tmp_path / name / f"{frame}.txt").write_text(f"{line}\n")
    return ["--labels", tmp_path / "labels", "--results", tmp_path / "results"]


def test_the_table_goes_to_stdout(folders) -> None:
    result = run(kitti_eval_command, *folders)
    assert result.exit_code == 0
    assert "evaluated the 1 frames that have a result file, of 2 with labels" in result.stderr
    assert "car    3d           > 0.7" in result.stdout
    assert "cannot reach 100, by the benchmark's rule: car 0 easy, 1 moderate, 1 hard\n" in result.stdout
    assert "the results lack it: pedestrian detection, pedestrian orientation" in result.stdout


def test_json_is_the_whole_of_stdout(folders) -> None:
    content = json.loads(run(kitti_eval_command, *folders, "--json", "--iou", "half").stdout)
    assert set(content["car"]) == {"detection", "orientation", "ground", "3d"}
    assert set(content["car"]["3d"]) == {"easy", "moderate", "hard"}
    assert set(content["car"]["3d"]["hard"]) == {"R11", "R40"}
    with_curves = json.loads(run(kitti_eval_command, *folders, "--json", "--curves").stdout)
    assert len(with_curves["car"]["3d"]["hard"]["curve"]) == 41


def test_a_list_of_frames(folders, tmp_path: Path) -> None:
    (tmp_path / "val.txt").write_text("000001\n000002\n")
    result = run(kitti_eval_command, *folders, "--frames", tmp_path / "val.txt")
    assert "\n2 frames; " in result.stdout
    assert "evaluated the" not in result.stderr
    (tmp_path / "val.txt").write_text("")
    result = run(kitti_eval_command, *folders, "--frames", tmp_path / "val.txt")
    assert isinstance(result.exception, CtnetError)


def test_conversion_there_and_back(make_kitti, lines, tmp_path: Path) -> None:
    source = make_kitti({"000003": [*lines, "Car 1 2"]})
    result = run(convert_kitti, source, "-o", tmp_path / "out")
    assert result.exit_code == 0
    assert "train       1           1    1        0" in result.stdout
    assert "000003.txt:6: line of 3 columns" in result.stderr
    assert "note: there is no folder image_2" in result.stderr
    back = run(convert_kitti, tmp_path / "out", "-o", tmp_path / "back", "--export", "--json")
    assert json.loads(back.stdout)["files"] == 1
    assert (tmp_path / "back" / "000003.txt").read_text().splitlines() == lines
    (tmp_path / "results.json").write_text("[]")
    options = ("--export", "--results", tmp_path / "results.json", "--split", "train")
    assert "1 files written" in run(convert_kitti, tmp_path / "out", "-o", tmp_path / "r", *options).stdout


def test_the_report_as_json(make_kitti, lines, tmp_path: Path) -> None:
    result = run(convert_kitti, make_kitti({"000003": lines}), "-o", tmp_path / "out", "--json")
    content = json.loads(result.stdout)
    assert content["splits"][0]["objects_by_category"] == {"Pedestrian": 1, "Car": 1, "Cyclist": 0}


def test_options_that_do_not_go_together(folders, tmp_path: Path) -> None:
    calls = [
        (kitti_eval_command, *folders, "--curves"),
        (convert_kitti, tmp_path, "-o", tmp_path / "out", "--results", tmp_path / "r.json"),
        (convert_kitti, tmp_path, "-o", tmp_path / "out", "--export", "--split-file", tmp_path / "a.txt"),
    ]
    for call in calls:
        assert isinstance(run(*call).exception, CtnetError)


@pytest.mark.parametrize("command", [kitti_eval_command, convert_kitti])
def test_help_has_examples(command) -> None:
    assert "ctnet " in run(command, "--help").stdout.split("Examples")[1]


def test_both_are_registered() -> None:
    assert discover("ctnet.commands")["kitti-eval"].load() is kitti_eval_command
    assert discover("ctnet.converters")["kitti"].load() is convert_kitti
