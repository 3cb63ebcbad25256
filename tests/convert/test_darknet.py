"""Darknet's layout: obj.data, lists of images, labels beside them; as CVAT exports it (YOLO 1.1)."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from ctnet.base.errors import CtnetError
from ctnet.convert.yolo import import_yolo

LABEL = "1 0.5 0.5 0.25 0.5\n"


def cvat(folder: Path, prefix: str = "data/") -> Path:
    """Two training images, one in a folder of its own, and one to validate on."""
    for name in ("obj_train_data/a", "obj_train_data/more/a", "obj_valid_data/b"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / f"{name}.png"), np.zeros((30, 40, 3), np.uint8))
        (folder / f"{name}.txt").write_text(LABEL)
    (folder / "obj.names").write_text("nut\nbolt\n")
    (folder / "train.txt").write_text(f"{prefix}obj_train_data/a.png\n{prefix}obj_train_data/more/a.png\n")
    (folder / "valid.txt").write_text(f"{prefix}obj_valid_data/b.png\n")
    (folder / "obj.data").write_text(
        f"classes = 2\ntrain = {prefix}train.txt\nvalid = {prefix}valid.txt\n"
        f"names = {prefix}obj.names\nbackup = backup/\n"
    )
    return folder


@pytest.mark.parametrize("prefix", ["data/", "", "/home/someone/darknet/data/"])
@pytest.mark.parametrize("given", ["", "obj.data"])
def test_cvat_export(tmp_path: Path, prefix: str, given: str) -> None:
    source = cvat(tmp_path / "in", prefix)
    report = import_yolo(source / given, tmp_path / "out")
    assert not report.problems
    assert [(split.name, split.images, split.objects) for split in report.splits] == [
        ("train", 2, {"nut": 0, "bolt": 2}),
        ("val", 1, {"nut": 0, "bolt": 1}),
    ]
    content = json.loads((tmp_path / "out/annotations/instances_train.json").read_text())
    assert [image["file_name"] for image in content["images"]] == ["a.png", "more/a.png"]
    assert content["annotations"][0]["bbox"] == [15, 7.5, 10, 15]
    assert (tmp_path / "out/images/train/more/a.png").is_file()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("train =", "../../x =", r"obj\.data names a split '\.\./\.\./x'; a split's name is one word"),
        ("train =", "\0rain =", r"obj\.data names a split '\\x00rain'; a split's name is one word"),
        ("valid =", "train =", r"obj\.data:3 has the key 'train' a second time; remove one of them"),
        ("train =", "val =", r"obj\.data names two lists for the split val; remove one of them"),
    ],
)
def test_keys_that_are_no_names_of_splits(tmp_path: Path, old: str, new: str, message: str) -> None:
    source = cvat(tmp_path / "in")
    (source / "obj.data").write_text((source / "obj.data").read_text().replace(old, new))
    with pytest.raises(CtnetError, match=message):
        import_yolo(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("line", ["../evil.png", "data/../../evil.png", "obj_train_data/../../evil.png"])
def test_an_image_outside_stays_outside(tmp_path: Path, line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    cvat(tmp_path / "in")
    cv2.imwrite(str(tmp_path / "evil.png"), np.zeros((30, 40, 3), np.uint8))
    (tmp_path / "evil.txt").write_text(LABEL)
    monkeypatch.chdir(tmp_path / "in")
    Path("train.txt").write_text(f"{line}\n")
    before = set(tmp_path.rglob("*"))
    report = import_yolo(Path(), tmp_path / "in/out")
    assert report.splits[0].images == 1
    assert Path("out/images/train/evil.png").is_file()
    assert all(path.is_relative_to(tmp_path / "in/out") for path in set(tmp_path.rglob("*")) - before)


def test_labels_that_no_list_names_are_listed(tmp_path: Path) -> None:
    source = cvat(tmp_path / "in")
    (source / "obj_train_data/extra.txt").write_text(LABEL)
    (source / "train.txt").write_text("data/obj_train_data/a.png\ndata/obj_train_data/a.png\n")
    found = [
        (problem.kind, Path(problem.where).name) for problem in import_yolo(source, tmp_path / "o").problems
    ]
    assert found == [
        ("name listed twice", "a.png"),
        ("label file without image", "extra.txt"),
        ("label file without image", "a.txt"),
    ]


def test_images_that_were_not_exported_are_listed(tmp_path: Path) -> None:
    source = cvat(tmp_path / "in")
    (source / "obj_valid_data/b.png").unlink()
    (problem,) = import_yolo(source, tmp_path / "out").problems
    assert (problem.kind, problem.where) == ("unreadable file", "b.png")


def test_a_list_that_is_not_there_is_listed_and_none_at_all_is_an_error(tmp_path: Path) -> None:
    source = cvat(tmp_path / "in")
    (source / "valid.txt").unlink()
    report = import_yolo(source, tmp_path / "out")
    assert [split.name for split in report.splits] == ["train"]
    assert report.problems[0].kind == "split that is not there"
    (source / "train.txt").unlink()
    with pytest.raises(CtnetError, match="names no list of images that exists"):
        import_yolo(source, tmp_path / "out")


def test_a_line_that_is_none_is_named(tmp_path: Path) -> None:
    source = cvat(tmp_path / "in")
    (source / "obj.data").write_text("classes = 2\nnonsense\n")
    with pytest.raises(CtnetError, match=r"obj\.data:2 is not 'key = value'"):
        import_yolo(source, tmp_path / "out")


def test_class_names_may_be_given(tmp_path: Path) -> None:
    source = cvat(tmp_path / "in")
    (tmp_path / "names.txt").write_text("a\nb\n")
    report = import_yolo(source, tmp_path / "out", names=tmp_path / "names.txt")
    assert list(report.splits[0].objects) == ["a", "b"]
