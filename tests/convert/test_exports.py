"""Common to the writers of other formats."""

from __future__ import annotations

import json
from pathlib import Path, PurePosixPath

import cv2
import numpy as np
import pytest

from ctnet.base.errors import CtnetError
from ctnet.convert.exports import exported_images, write_text
from ctnet.data.dataset import Dataset
from ctnet.data.problems import Problem


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    """Three images, two of the same name and one without a file."""
    names = ("x/a.png", "y/a.png", "x/b.png", "x/gone.png")
    for name in names[:3]:
        (tmp_path / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(tmp_path / "images" / name), np.zeros((4, 4, 3), np.uint8))
    images = [{"id": n, "file_name": name, "width": 4, "height": 4} for n, name in enumerate(names, start=1)]
    content = {"images": images, "annotations": [], "categories": [{"id": 1, "name": "cat"}]}
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "instances_train.json").write_text(json.dumps(content))
    return Dataset.open(tmp_path, "train")


def flat(name: str) -> PurePosixPath:
    return PurePosixPath(PurePosixPath(name).name)


def test_what_cannot_be_written_is_listed(dataset: Dataset) -> None:
    problems: list[Problem] = []
    found = list(exported_images(dataset, flat, problems, need_images=True))
    assert [(image.index, str(image.name), image.source.parent.name) for image in found] == [
        (0, "a.png", "x"),
        (2, "b.png", "x"),
    ]
    assert [(problem.kind, problem.where) for problem in problems] == [
        ("the file name of an earlier image", "image 2 of train"),
        ("missing image", "image 4 of train"),
    ]


def test_without_images_only_names_count(dataset: Dataset) -> None:
    problems: list[Problem] = []
    found = list(exported_images(dataset, PurePosixPath, problems, need_images=False))
    assert [image.source for image in found] == [None] * 4
    assert problems == []


def test_text_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    write_text(tmp_path / "new" / "a.txt", ["one", "two"])
    assert (tmp_path / "new" / "a.txt").read_text() == "one\ntwo\n"
    with pytest.raises(CtnetError, match=r"cannot write .*a\.txt/b\.txt"):
        write_text(tmp_path / "new" / "a.txt" / "b.txt", [])
