"""``ctnet convert``: what it prints and where."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from ctnet.base.errors import CtnetError
from ctnet.cli.convert import app

BAD = "9 0.5 0.5 0.1 0.1\n"
GOOD = "0 0.5 0.5 0.5 0.5\n"


@pytest.fixture
def yolo(tmp_path: Path) -> Path:
    """Two images, one bad label line."""
    folder = tmp_path / "yolo"
    for part in ("images", "labels"):
        (folder / part / "train").mkdir(parents=True)
    for name, text in (("a", GOOD + BAD), ("b", GOOD)):
        cv2.imwrite(str(folder / "images" / "train" / f"{name}.png"), np.zeros((30, 40, 3), np.uint8))
        (folder / "labels" / "train" / f"{name}.txt").write_text(text)
    (folder / "data.yaml").write_text("train: images/train\nnames: [cat]\n")
    return folder


def run(*arguments: object):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_a_table_and_bad_records(yolo: Path, tmp_path: Path) -> None:
    result = run("yolo", yolo, "-o", tmp_path / "out")
    assert result.exit_code == 0
    assert "train       2        2" in result.stdout
    assert "1 category: cat" in result.stdout
    assert "1 bad record, skipped unless stated otherwise:" in result.stderr
    assert "a.txt:2: unknown class" in result.stderr


def test_long_lists_of_bad_records_are_shortened_and_it_is_said(yolo: Path, tmp_path: Path) -> None:
    (yolo / "labels" / "train" / "b.txt").write_text(BAD * 30)
    result = run("yolo", yolo, "-o", tmp_path / "out")
    assert result.stderr.count("unknown class") == 20
    assert "and 11 more" in result.stderr
    result = run("yolo", yolo, "-o", tmp_path / "out", "--json")
    assert len(json.loads(result.stdout)["problems"]) == 31


def test_json_is_the_whole_of_stdout(yolo: Path, tmp_path: Path) -> None:
    content = json.loads(run("yolo", yolo, "-o", tmp_path / "out", "--json").stdout)
    assert content["splits"] == [
        {"name": "train", "images": 2, "objects": 2, "objects_by_category": {"cat": 2}}
    ]


def test_export_undoes_import(yolo: Path, tmp_path: Path) -> None:
    run("yolo", yolo, "-o", tmp_path / "coco")
    assert run("yolo", tmp_path / "coco", "-o", tmp_path / "again", "--export").exit_code == 0
    numbers = (tmp_path / "again" / "labels" / "train" / "b.txt").read_text().split()
    assert [float(number) for number in numbers] == [float(number) for number in GOOD.split()]


def test_mistakes_are_ctnet_errors(yolo: Path, tmp_path: Path) -> None:
    for arguments in (("voc", yolo), ("yolo", yolo, "--strict"), ("yolo", yolo, "--export", "--names", "x")):
        assert isinstance(run(*arguments, "-o", tmp_path / "out").exception, CtnetError)


@pytest.mark.parametrize("command", ["voc", "yolo"])
def test_help_has_examples(command: str) -> None:
    assert f"ctnet convert {command} " in run(command, "--help").stdout.split("Examples")[1]


def test_reading_other_formats_needs_no_torch(tmp_path: Path) -> None:
    """Nor the memory and time that it takes."""
    code = (
        "import sys\n"
        "from ctnet.cli import main\n"
        "for name in ('yolo', 'voc', 'labelme', 'via', 'coco'):\n"
        f"    sys.argv = ['ctnet', 'convert', name, {str(tmp_path)!r}, '-o', {str(tmp_path / 'out')!r}]\n"
        "    try: main()\n"
        "    except SystemExit as ending: assert ending.code == 2, name\n"
        "    assert 'torch' not in sys.modules, name\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
