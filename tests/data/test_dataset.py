from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from ctnet.base.errors import CtnetError
from ctnet.core.declarations import Layout
from ctnet.core.fields import Points
from ctnet.core.records import Instances
from ctnet.data.dataset import Dataset
from ctnet.data.directory import splits
from ctnet.data.images import ImageError
from ctnet.tasks.ctdet import CenterDetection

Make = Callable[..., Path]


class Joints(CenterDetection):
    """A task that reads a field of its own, and takes every object's class from the image's entry."""

    layout = Layout(prefix="person_keypoints")
    fields: ClassVar = {"joints": Points(json="keypoints", n=1, visible="visibility", needed="never")}

    def complete(self, instances: Instances, image: Mapping[str, Any]) -> Instances:
        return instances.replace(labels=np.full(len(instances), image.get("calib", [0])[0]))


def test_sample(make_data: Make, picture: np.ndarray) -> None:
    dataset = Dataset.open(make_data(), "val")
    assert len(dataset) == 3
    sample = dataset[2]
    assert sample.image.shape == (40, 60, 3)
    assert np.abs(sample.image.astype(int) - picture).mean() < 3
    assert sample.instances.boxes.dtype == np.float32
    assert sample.instances.boxes.tolist() == [[10, 10, 30, 25], [50, 30, 70, 50]]
    assert sample.instances.labels.tolist() == [0, 1]  # category ids 3 and 7
    assert sample.instances.crowd.tolist() == [True, False]
    assert (sample.info.image_id, sample.info.file_name) == (40, "c.jpg")
    assert (sample.info.width, sample.info.height) == (60, 40)
    assert len(dataset[1].instances) == 0
    assert dataset.image_ids.tolist() == [12, 5, 40]
    assert [category["name"] for category in dataset.categories] == ["ball", "box"]
    assert [sample.info.image_id for sample in dataset] == [12, 5, 40]


def test_annotations_and_records_are_the_files_own(make_data: Make, document: dict[str, Any]) -> None:
    dataset = Dataset.open(make_data(), "val")
    annotations = dataset.annotations(2)
    mine = [document["annotations"][0], document["annotations"][2]]
    assert list(annotations) == mine
    assert annotations[-1] == mine[-1]
    assert list(annotations[1:]) == mine[1:]
    assert annotations.category_ids.tolist() == [3, 7]
    assert annotations.areas.tolist() == [300, 400]
    record = dataset.info(0).record
    assert dict(record) == document["images"][0]
    assert pickle.loads(pickle.dumps(record)) == document["images"][0]


def test_a_task_reads_its_own_fields_and_completes_them(make_data: Make) -> None:
    dataset = Dataset.open(make_data(), "val").with_task(
        Joints([{"id": 3, "name": "box"}, {"id": 7, "name": "ball"}])
    )  # type: ignore[arg-type]
    instances = dataset.instances(2)
    assert instances.joints.tolist() == [[[0, 0]], [[55, 35]]]
    assert instances.visibility.tolist() == [[0], [2]]
    assert dataset.instances(0).labels.tolist() == [1]
    assert dataset.with_task(None).instances(0).labels.tolist() == [1]


def test_subset_and_pickle(make_data: Make) -> None:
    dataset = Dataset.open(make_data(), "val")
    subset = pickle.loads(pickle.dumps(dataset.subset([2, 0])))
    assert subset.image_ids.tolist() == [40, 12]
    assert subset.subset([1]).image_ids.tolist() == [12]
    assert len(subset[0].instances) == 2
    assert len(dataset) == 3


# --- ground truth


def test_ground_truth(make_data: Make, document: dict[str, Any]) -> None:
    dataset = Dataset.open(make_data(), "val")
    truth = dataset.as_coco()
    assert truth["categories"] == document["categories"]
    assert truth["images"][0] == {"id": 12, "file_name": "a.jpg", "width": 60, "height": 40}
    assert truth["annotations"] == [
        {"id": 1, "image_id": 12, "category_id": 7, "bbox": [1.5, 2.25, 30, 20], "area": 333, "iscrowd": 0},
        {"id": 2, "image_id": 40, "category_id": 3, "bbox": [10, 10, 20, 15], "area": 300, "iscrowd": 1},
        {"id": 3, "image_id": 40, "category_id": 7, "bbox": [50, 30, 20, 20], "area": 400, "iscrowd": 0},
    ]
    json.dumps(truth)


def test_ground_truth_of_a_subset_in_full(make_data: Make, document: dict[str, Any]) -> None:
    document["annotations"][0]["bbox"] = [0, 0, 0, 0]
    truth = Dataset.open(make_data(), "val").subset([1, 2, 0]).as_coco(full=True)
    assert [image["id"] for image in truth["images"]] == [5, 40, 12]
    assert truth["images"][2]["calib"] == [1, 2, 3]
    assert [entry["image_id"] for entry in truth["annotations"]] == [40, 12]
    assert truth["annotations"][0]["keypoints"] == [55, 35, 2]
    assert truth["annotations"][1]["id"] == 2
    assert Dataset.open(make_data(), "val").subset([]).as_coco()["annotations"] == []


# --- finding files


def test_splits(make_data: Make) -> None:
    folder = make_data("instances_train2017.json", "person_keypoints_val.json", "test-dev.json")
    assert splits(folder) == ["test-dev", "train2017", "val"]
    assert Dataset.open(folder, "test-dev").coco.path.name == "test-dev.json"


@pytest.mark.parametrize(
    ("names", "split", "prefix", "task", "found"),
    [
        (["instances_val.json", "instances_val2017.json"], "val", None, None, "instances_val.json"),
        (["instances_val2017.json"], "val", None, None, "instances_val2017.json"),
        (["instances_val2017.json", "captions_val.json"], "val", None, None, "instances_val2017.json"),
        (["instances_val.json", "person_keypoints_val.json"], "val", None, None, "instances_val.json"),
        (
            ["instances_val.json", "person_keypoints_val.json"],
            "val",
            None,
            Joints([{"id": 3, "name": "box"}, {"id": 7, "name": "ball"}]),
            "person_keypoints_val.json",
        ),
        (
            ["instances_val.json", "captions_val.json"],
            "val",
            None,
            Joints([{"id": 3, "name": "box"}, {"id": 7, "name": "ball"}]),
            "instances_val.json",
        ),
        (
            ["instances_val.json", "faces_val.json"],
            "val",
            "faces",
            Joints([{"id": 3, "name": "box"}, {"id": 7, "name": "ball"}]),
            "faces_val.json",
        ),
        (["faces_val.json", "instances_train.json"], "val", None, None, "faces_val.json"),
        (["instances_train_small.json"], "train_small", None, None, "instances_train_small.json"),
        (["my_faces_train_small.json"], "train_small", "my_faces", None, "my_faces_train_small.json"),
        (
            ["val.json"],
            "val",
            None,
            Joints([{"id": 3, "name": "box"}, {"id": 7, "name": "ball"}]),
            "val.json",
        ),
    ],
)
def test_annotation_file(
    make_data: Make, names: list[str], split: str, prefix: str | None, task: Any, found: str
) -> None:
    assert Dataset.open(make_data(*names), split, task, prefix).coco.path.name == found


@pytest.mark.parametrize(
    ("names", "split", "prefix", "message"),
    [
        (["instances_train.json", "a_val.json"], "test", None, r"has no split 'test'; it has train, val$"),
        (
            ["instances_train.json", "a_val.json"],
            "val",
            "instances",
            r"'val' with prefix 'instances'; it has train$",
        ),
        (["instances_val2014.json", "instances_val2017.json"], "val", None, r"could be val2014 or val2017"),
        (
            ["a_val.json", "b_val.json"],
            "val",
            None,
            r"several annotation files: a_val.json, b_val.json; name a pre",
        ),
    ],
)
def test_split_not_found(
    make_data: Make, names: list[str], split: str, prefix: str | None, message: str
) -> None:
    with pytest.raises(CtnetError, match=message):
        Dataset.open(make_data(*names), split, prefix=prefix)


def test_no_data_directory(tmp_path: Path) -> None:
    with pytest.raises(CtnetError, match="is not a folder; a data directory holds annotations"):
        Dataset.open(tmp_path / "none", "val")
    with pytest.raises(CtnetError, match="has no JSON file in annotations/"):
        splits(tmp_path)


@pytest.mark.parametrize("folder", [".", "val2017", "images/val2017", "images"])
def test_where_images_lie(make_data: Make, folder: str, tmp_path: Path) -> None:
    dataset = Dataset.open(make_data("instances_val2017.json", folder=folder), "val")
    assert dataset.split == "val2017"
    assert dataset.image_path(1) == tmp_path / folder / "b.jpg"
    assert dataset[1].image.shape == (40, 60, 3)


def test_images_in_several_folders(make_data: Make, tmp_path: Path) -> None:
    folder = make_data()
    (tmp_path / "images").mkdir()
    (tmp_path / "val" / "c.jpg").rename(tmp_path / "images" / "c.jpg")
    dataset = Dataset.open(folder, "val")
    assert [dataset.image_path(index).parent.name for index in range(3)] == ["val", "val", "images"]


# --- bad input


def test_missing_image(make_data: Make, tmp_path: Path) -> None:
    dataset = Dataset.open(make_data(), "val")
    (tmp_path / "val" / "b.jpg").unlink()
    with pytest.raises(ImageError, match=r"image 5 \(b.jpg\) is missing; searched .*val, .*images"):
        dataset[1]


def test_image_of_another_size(make_data: Make, document: dict[str, Any]) -> None:
    document["images"][1]["width"] = 61
    dataset = Dataset.open(make_data(), "val")
    with pytest.raises(ImageError, match=r"b.jpg is 60x40 pixels, but its entry says 61x40"):
        dataset[1]


def test_empty_split(make_data: Make, document: dict[str, Any]) -> None:
    document["images"] = []
    with pytest.raises(CtnetError, match=r"instances_val.json lists no images; the split is empty"):
        Dataset.open(make_data(), "val")


def test_bad_records_are_skipped_or_refused(make_data: Make, document: dict[str, Any]) -> None:
    document["annotations"][0]["bbox"] = [float("nan"), 1, 2, 3]
    document["annotations"][2]["category_id"] = 4
    folder = make_data()
    dataset = Dataset.open(folder, "val")
    assert len(dataset.problems) == 2
    assert [len(dataset.instances(index)) for index in range(3)] == [1, 0, 0]
    with pytest.raises(
        CtnetError, match=r"instances_val.json has 2 bad records: .*; fix them or go without --strict"
    ):
        Dataset.open(folder, "val", strict=True)


@pytest.mark.real
@pytest.mark.parametrize("name", ["coco-mini", "coco-pose-mini"])
@pytest.mark.parametrize("split", ["train", "val"])
def test_real_data(shared_data: Path, name: str, split: str) -> None:
    """Every annotation of real files comes out as plain JSON reading gives it; images fit their entries."""
    dataset = Dataset.open(shared_data / name, split)
    document = json.loads(dataset.coco.path.read_text(encoding="utf-8"))
    truth = dataset.as_coco(full=True)
    expected = {entry["id"]: entry for entry in document["annotations"]}
    assert len(truth["annotations"]) == len(expected) - len(dataset.problems)
    for row in np.flatnonzero(dataset.coco.usable):
        assert next(dataset.coco.raw_annotations([row])) == expected[dataset.coco.annotation_ids[row]]
    for index in range(0, len(dataset), 10):
        info = dataset.info(index)
        assert dataset[index].image.shape == (info.height, info.width, 3)


def test_what_the_task_cannot_use_is_left_out_and_listed(make_data: Make, document: dict[str, Any]) -> None:
    document["annotations"][2]["keypoints"][2] = 7
    task = Joints(document["categories"])
    dataset = Dataset.open(make_data(), "val", task)
    assert [str(problem) for problem in dataset.problems] == [
        "annotation 9 of image 40: annotation unfit for the task (keypoints have visibility 7 for "
        "point 1, not 0, 1 or 2)"
    ]
    assert [len(dataset.instances(index)) for index in range(3)] == [1, 0, 1]
    assert [entry["category_id"] for entry in dataset.as_coco()["annotations"]] == [7, 3]
    assert dataset.usable.sum() == 2
    assert dataset.subset([2]).usable.sum() == 1
    assert len(dataset.with_task(None).instances(2)) == 2
    with pytest.raises(CtnetError, match=r"1 bad records: 1 with annotation unfit .*have visibility 7"):
        Dataset.open(make_data(), "val", task, strict=True)


# --- names


def test_names_of_windows_are_found(make_data: Make, document: dict[str, Any]) -> None:
    for entry in document["images"]:
        entry["file_name"] = f"deep/{entry['file_name']}"
    directory = make_data()
    for entry in document["images"]:
        entry["file_name"] = entry["file_name"].replace("/", "\\")
    (directory / "annotations/instances_val.json").write_text(json.dumps(document))
    dataset = Dataset.open(directory, "val")
    assert [dataset.image_path(index).name for index in range(3)] == ["a.jpg", "b.jpg", "c.jpg"]


def test_a_backslash_may_be_part_of_a_name(make_data: Make, document: dict[str, Any]) -> None:
    document["images"][0]["file_name"] = "odd\\a.jpg"
    directory = make_data()
    (directory / "val/odd").mkdir()
    (directory / "val/odd/a.jpg").write_bytes(b"another file")
    dataset = Dataset.open(directory, "val")
    assert dataset.image_path(0) == directory / "val" / "odd\\a.jpg"


@pytest.mark.parametrize(
    "name", ["x" * 300 + ".jpg", "nought\0.jpg", "half\ud800.jpg", "..", "/", "\ud800" * 200]
)
@pytest.mark.parametrize("position", [0, 1])
def test_names_that_no_file_can_have_are_missing_images(
    make_data: Make, document: dict[str, Any], name: str, position: int
) -> None:
    directory = make_data()
    document["images"][position]["file_name"] = name
    (directory / "annotations/instances_val.json").write_text(json.dumps(document))
    dataset = Dataset.open(directory, "val")
    assert dataset.info(position).file_name == name
    for index in range(3):
        if index == position:
            with pytest.raises(ImageError, match="is missing"):
                dataset[index]
        else:
            assert dataset[index].image.shape == (40, 60, 3)


def test_a_fingerprint_tells_of_exchanged_images(make_data: Make) -> None:
    directory = make_data()
    dataset = Dataset.open(directory, "val")
    before = dataset.fingerprint()
    assert Dataset.open(directory, "val").fingerprint() == before
    content = (directory / "val/b.jpg").read_bytes()
    (directory / "val/b.jpg").write_bytes(content[:-3] + b"x" + content[-2:])
    assert dataset.fingerprint() != before
    (directory / "val/b.jpg").unlink()
    assert dataset.fingerprint() != before
