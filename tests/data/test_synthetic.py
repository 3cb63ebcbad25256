from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np
import pytest

from ctnet.base.errors import CtnetError
from ctnet.core.documents import annotations_of
from ctnet.core.fields import Choice
from ctnet.core.records import Instances
from ctnet.core.task import example_of
from ctnet.data.dataset import Dataset
from ctnet.data.shape_scenes import SHAPES
from ctnet.data.synthetic import write_dataset
from ctnet.tasks.ctdet import CenterDetection


class Noted(CenterDetection):
    """Scenes whose objects have a field of their own."""

    fields: ClassVar = {"note": Choice(json="note", choices=("lost", "kept"))}

    def complete(self, instances: Instances, image: Mapping[str, Any]) -> Instances:
        return instances.replace(note=np.ones(len(instances), np.int64))


def test_write_dataset(tmp_path: Path) -> None:
    task = Noted(SHAPES)
    write_dataset(task, tmp_path, {"train": 3, "val": 2}, size=(64, 48), seed=5)
    content = json.loads((tmp_path / "annotations/instances_train.json").read_text())
    assert [image["id"] for image in content["images"]] == [1, 2, 3]
    assert [annotation["id"] for annotation in content["annotations"]] == list(
        range(1, len(content["annotations"]) + 1)
    )
    assert {annotation["note"] for annotation in content["annotations"]} == {"kept"}
    assert content["categories"] == list(SHAPES)
    image = cv2.imread(str(tmp_path / "train" / content["images"][2]["file_name"]))[:, :, ::-1]
    assert image.shape == (48, 64, 3)
    expected = example_of(task, np.random.default_rng([5, *b"train", 3]), (64, 48))
    assert np.abs(image.astype(int) - expected.image).mean() < 8
    boxes = [a["bbox"] for a in content["annotations"] if a["image_id"] == 3]
    np.testing.assert_allclose(boxes, [a["bbox"] for a in annotations_of(task, expected.instances)])
    assert len(list((tmp_path / "val").iterdir())) == 2
    assert (tmp_path / "train/000001.jpg").read_bytes() != (tmp_path / "val/000001.jpg").read_bytes()


def test_more_scenes_leave_the_first_as_they_were(tmp_path: Path) -> None:
    for count in (1, 2):
        write_dataset(Noted(SHAPES), tmp_path / str(count), {"train": count}, size=(48, 48))
    assert (tmp_path / "1/train/000001.jpg").read_bytes() == (tmp_path / "2/train/000001.jpg").read_bytes()


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "train").write_text("in the way")
    with pytest.raises(CtnetError, match=r"cannot write .*000001\.jpg"):
        write_dataset(Noted(SHAPES), tmp_path, {"train": 1}, size=(48, 48))


def test_what_is_written_reads_back(tmp_path: Path) -> None:
    """A data set and a real task read the same instances from the files, to the files' two decimals."""
    task = CenterDetection(SHAPES)
    write_dataset(task, tmp_path, {"val": 4}, size=(80, 64))
    dataset = Dataset.open(tmp_path, "val", task, strict=True)
    assert len(dataset) == 4
    for index in range(4):
        expected = example_of(task, np.random.default_rng([0, *b"val", index + 1]), (80, 64)).instances
        read = dataset[index].instances
        np.testing.assert_allclose(read.boxes, expected.boxes, atol=0.02)
        np.testing.assert_array_equal(read.labels, expected.labels)
