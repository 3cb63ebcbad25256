"""What all commands share: help, mistakes, JSON."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import typer

from ctnet import cli
from ctnet.base.errors import CtnetError
from ctnet.checkpoint import official_state_dict
from ctnet.core.heads import Head
from ctnet.core.recipe import DEMO
from ctnet.model import create_model
from ctnet.tasks.ctdet import CenterDetection


def commands(group=None, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    group = group or typer.main.get_command(cli.app)
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name)


def options(path: tuple[str, ...]) -> set[str]:
    command = typer.main.get_command(cli.app)
    for name in path:
        command = command.commands[name]
    return {text for parameter in command.params for text in parameter.opts}


COMMANDS = list(commands())


# --- help


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_help_shows_how_the_command_is_called(ctnet, command: tuple[str, ...]) -> None:
    done = ctnet(*command, "--help")
    assert done.code == 0
    examples = done.out.partition("Example")[2]
    assert f"ctnet {' '.join(command)}" in examples
    assert ctnet(*command, "-h").out == done.out


def test_help_lists_the_commands(ctnet) -> None:
    done = ctnet("--help")
    assert done.code == 0
    for first, *_ in COMMANDS:
        assert f"│ {first} " in done.out


HEAVY = ("torch", "cv2", "numpy", "pycocotools", "h5py")


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], ["--version"]])
def test_help_is_instant(arguments: list[str]) -> None:
    """Nothing heavy is imported; measured in processor time, which a busy machine hardly changes."""
    code = (
        f"import sys; sys.argv = ['ctnet', *{arguments!r}]\n"
        "from ctnet.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    before = os.times()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    after = os.times()
    assert done.stdout.splitlines()[-1] == "[]"
    spent = after.children_user + after.children_system - before.children_user - before.children_system
    assert spent < 1.0


def test_version(ctnet) -> None:
    from ctnet.base.version import __version__

    assert ctnet("--version").out == f"ctnet {__version__}\n"


@pytest.mark.parametrize(
    ("option", "shown"), [("--version", "ctnet {version}\n"), ("--help", "Usage: python -m ctnet ")]
)
def test_the_package_is_the_command(option: str, shown: str) -> None:
    """``python -m ctnet`` where no script is on the path."""
    from ctnet.base.version import __version__

    command = [sys.executable, "-m", "ctnet", option]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert shown.format(version=__version__) in done.stdout


@pytest.mark.parametrize("arguments", [[], ["tasks"], ["data"], ["convert"]])
def test_a_group_without_a_command_shows_its_help(ctnet, arguments: list[str]) -> None:
    done = ctnet(*arguments)
    assert "Usage: " in done.out
    assert "Commands" in done.out


# --- mistakes


@pytest.mark.parametrize(
    "arguments",
    [
        ["trian"],
        ["train", "ctdet", "--bacth-size", "3"],
        ["predict"],
        ["eval", "--topk", "0"],
        ["demo", "--epochs", "x"],
    ],
)
def test_misspelt_commands_and_options(ctnet, arguments: list[str]) -> None:
    done = ctnet(*arguments)
    assert (done.code, done.out) == (2, "")
    assert "Error" in done.err or done.err.startswith("error: ")
    assert "Traceback" not in done.err


def test_a_mistake_is_one_line_and_exit_code_2(ctnet, monkeypatch) -> None:
    def fail(*_: object) -> None:
        raise CtnetError("the fix")

    monkeypatch.setattr("ctnet.backbones.list_backbones", fail)
    assert ctnet("backbones").message == "the fix"


def test_what_the_operating_system_refuses_is_one_line_too(ctnet, monkeypatch) -> None:
    def fail(*_: object) -> None:
        raise PermissionError(13, "Permission denied", "some/file")

    monkeypatch.setattr("ctnet.backbones.list_backbones", fail)
    assert ctnet("backbones").message == "Permission denied: some/file"


def test_a_bug_is_not_hidden(ctnet, monkeypatch) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("ctnet.backbones.list_backbones", fail)
    with pytest.raises(ZeroDivisionError):
        ctnet("backbones")


# --- JSON

VOC = """<annotation><filename>a.png</filename>
<size><width>40</width><height>30</height><depth>3</depth></size>
<object><name>cat</name><bndbox><xmin>3</xmin><ymin>3</ymin><xmax>20</xmax><ymax>20</ymax></bndbox></object>
</annotation>"""


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    folder = tmp_path / "voc"
    for name in ("Annotations", "ImageSets/Main", "JPEGImages"):
        (folder / name).mkdir(parents=True)
    (folder / "Annotations" / "a.xml").write_text(VOC)
    (folder / "ImageSets" / "Main" / "train.txt").write_text("a\n")
    cv2.imwrite(str(folder / "JPEGImages" / "a.png"), np.zeros((30, 40, 3), np.uint8))
    return folder


@pytest.fixture
def tools(tmp_path: Path, scenes: Path) -> Path:
    """Small files of annotation tools, one folder each, and a data directory to split."""
    shape = {"label": "cat", "points": [[3, 3], [20, 20]], "shape_type": "rectangle"}
    region = {"shape_attributes": {"name": "rect", "x": 3, "y": 3, "width": 9, "height": 9}}
    files = {
        "labelme": {
            "version": "5.5.0",
            "shapes": [shape],
            "imagePath": "a.png",
            "imageWidth": 40,
            "imageHeight": 30,
        },
        "via": {
            "a.png99": {"filename": "a.png", "regions": [{**region, "region_attributes": {"class": "cat"}}]}
        },
    }
    for name, content in files.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.json").write_text(json.dumps(content))
        cv2.imwrite(str(tmp_path / name / "a.png"), np.zeros((30, 40, 3), np.uint8))
    (tmp_path / "whole" / "annotations").mkdir(parents=True)
    content = (scenes / "annotations" / "instances_train.json").read_text()
    (tmp_path / "whole" / "annotations" / "instances_default.json").write_text(content)
    return tmp_path


@pytest.fixture
def released(tmp_path: Path) -> Path:
    """A checkpoint as the authors' release writes it."""
    heads = {"hm": Head(80), "wh": Head(2), "reg": Head(2)}
    torch.save(official_state_dict(create_model(heads, "resnet18")), tmp_path / "released.pth")
    return tmp_path / "released.pth"


@pytest.fixture
def short_demo(quick_demo) -> None:
    quick_demo(CenterDetection, replace(DEMO, epochs=1, size=(64, 64)))


@pytest.mark.parametrize(
    "command", [command for command in COMMANDS if "--json" in options(command)], ids=" ".join
)
@pytest.mark.usefixtures("short_demo")
def test_json_is_one_document_on_stdout(
    ctnet,
    command: tuple[str, ...],
    training,
    scenes: Path,
    run_folder: Path,
    finding: Path,
    voc: Path,
    tools: Path,
    released: Path,
) -> None:
    on_cpu = [run_folder, "--device", "cpu"]
    rest: dict[str, list[object]] = {
        "analyze anchors": [scenes],
        "analyze collisions": [scenes],
        "analyze errors": [*on_cpu, "--workers", 0],
        "analyze nms": [*on_cpu, "--workers", 0],
        "analyze resolution": [*on_cpu, "--workers", 0, "--sizes", "64"],
        "analyze speed": [*on_cpu, "--repeats", 1, "--warm-up", 0],
        "analyze thresholds": [finding / "best.pt", "--data", finding / "data", "--workers", 0],
        "train": [*training[1:], "-o", "run"],
        "eval": [run_folder, "--workers", 0, "--device", "cpu"],
        "export": [run_folder, "-o", "out.pt2"],
        "report": [run_folder, "-o", "report.html", "--device", "cpu"],
        "predict": [run_folder, scenes / "val", "-o", "out", "--device", "cpu"],
        "demo": ["--device", "cpu"],
        "tasks check": ["ctdet"],
        "tasks show": ["ctdet"],
        "backbones check": ["resfpn18"],
        "backbones list": ["resfpn18"],
        "convert checkpoint": [released, "-o", "out.pt"],
        "convert coco": [scenes, "-o", "out"],
        "convert labelme": [tools / "labelme", "-o", "out"],
        "convert via": [tools / "via", "-o", "out"],
        "convert voc": [voc, "-o", "out"],
        "convert yolo": [scenes, "-o", "out", "--export"],
        "compare": [run_folder, run_folder, "--workers", 0, "--device", "cpu", "--draws", 100],
        "data audit": [*on_cpu, "--workers", 0, "-o", "audit"],
        "data ceiling": [scenes, "--sizes", "64"],
        "data check": [scenes],
        "data pack": [scenes, "-o", "pack.h5"],
        "data split": [tools / "whole", "--val", 0.3],
        "data stats": [scenes],
    }
    done = ctnet(*command, *rest.get(" ".join(command), []), "--json")
    assert done.code == 0, done.err
    assert isinstance(json.loads(done.out), (dict, list))


# --- all together


def test_the_main_job_from_a_shell(scenes: Path, tmp_path: Path) -> None:
    """Train a real network and evaluate it, in a process of its own and with worker processes."""
    train = ["train", "ctdet", "--data", str(scenes), "--size", "64", "--epochs", "1", "--val-split", "none"]
    train += ["-R", "report=false"]
    code = (
        "import sys; from ctnet.cli import main\n"
        f"for arguments in ({train!r}, ['eval', '--split', 'val', '--json']):\n"
        "    sys.argv = ['ctnet', *arguments, '--device', 'cpu', '--workers', '1']\n"
        "    try: main()\n"
        "    except SystemExit as done: assert not done.code\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "runs" / "ctdet-resfpn18-1" / "best.pt").is_file()
    trained, _, measured = done.stdout.partition("\n")
    assert trained == "trained 1 epoch: runs/ctdet-resfpn18-1"
    assert 0 <= json.loads(measured)["metrics"]["AP"] <= 1
