from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from ctnet.checkpoint import official_state_dict, read_tensors
from ctnet.core.task import create_task
from ctnet.model import create_model


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint as the release writes it, of a detector of four classes."""
    torch.manual_seed(0)
    categories = [{"id": i, "name": str(i)} for i in range(4)]
    state = official_state_dict(create_model(create_task("ctdet", categories), "resnet18"))
    path = tmp_path_factory.mktemp("released") / "model.pth"
    torch.save({"epoch": 7, "state_dict": {f"module.{name}": value for name, value in state.items()}}, path)
    return path


@pytest.fixture
def names(tmp_path: Path) -> Path:
    (tmp_path / "names.txt").write_text("red\n\nfire engine\nblue \ngreen\n")
    return tmp_path / "names.txt"


def test_there_and_back(ctnet, released: Path, names: Path) -> None:
    done = ctnet("convert", "checkpoint", released, "-o", "ours.pt", "--names", names, "--json")
    found = json.loads(done.out)
    assert (found["task"], found["backbone"], found["data"]) == ("ctdet", "resnet18", "COCO")
    assert [category["name"] for category in found["categories"]] == ["red", "fire engine", "blue", "green"]
    back = ctnet("convert", "checkpoint", "ours.pt", "-o", "back.pth", "--to-official")
    assert (back.code, back.err) == (0, "")
    assert "ctdet with resnet18, 15." in back.out
    state = read_tensors(released)["state_dict"]
    again = read_tensors("back.pth")["state_dict"]
    assert again.keys() == {name.removeprefix("module.") for name in state}
    assert all(torch.equal(again[name.removeprefix("module.")], value) for name, value in state.items())


def test_a_converted_file_predicts(ctnet, released: Path, names: Path, scenes: Path) -> None:
    assert ctnet("convert", "checkpoint", released, "-o", "ours.pt", "--names", names).code == 0
    picture = sorted(scenes.rglob("*.jpg"))[0]
    done = ctnet("predict", "ours.pt", picture, "-o", "out", "--size", 64, "--device", "cpu", "--score", 0)
    assert done.code == 0, done.err
    assert json.loads(Path("out/results.json").read_text())


def test_names_from_a_coco_file(ctnet, released: Path, tmp_path: Path) -> None:
    categories = [{"id": 10 * i, "name": f"shape {i}"} for i in range(1, 5)]
    (tmp_path / "a.json").write_text(json.dumps({"categories": categories}))
    done = ctnet("convert", "checkpoint", released, "-o", "ours.pt", "--names", tmp_path / "a.json", "--json")
    assert json.loads(done.out)["categories"] == categories


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.json", b"[]", "a.json has no categories; give a COCO annotation file"),
        ("a.json", b"{}", "a.json has no categories"),
        ("a.txt", b"\n\n", "a.txt names no categories; write one name per line"),
        ("a.txt", b"\xff\xfe\x00", "a.txt is not a text file in UTF-8"),
        ("a.txt", b"one\ntwo", "2 categories do not fit the heads hm 4, wh 2, reg 2"),
    ],
)
def test_bad_names(ctnet, released: Path, tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    done = ctnet("convert", "checkpoint", released, "-o", "b.pt", "--names", tmp_path / name)
    assert message in done.message
    assert not Path("b.pt").exists()


def test_what_the_user_has_to_say(ctnet, released: Path, names: Path) -> None:
    assert (
        "name the categories with --names" in ctnet("convert", "checkpoint", released, "-o", "b.pt").message
    )
    arguments = ("convert", "checkpoint", released, "-o", "b.pt", "--to-official", "--names", names)
    assert "--names and -O are for reading a file of the release" in ctnet(*arguments).message
    assert "cannot read" in ctnet("convert", "checkpoint", "gone.pth", "-o", "b.pt").message


def test_a_mismatch_is_a_table(ctnet, released: Path) -> None:
    state = read_tensors(released)["state_dict"]
    del state["module.bn1.weight"]
    torch.save(state, "cut.pth")
    done = ctnet("convert", "checkpoint", "cut.pth", "-o", "b.pt")
    assert done.code == 2
    assert done.err.splitlines() == [
        "error: cut.pth does not fit resnet18, the nearest network: 1 entries are missing, 0 unexpected, "
        "0 of another shape; nothing was loaded",
        "  missing      bn1.weight [64]",
    ]
