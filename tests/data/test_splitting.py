"""``ctnet data split``: what it writes, what it keeps, what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from ctnet.base.errors import CtnetError
from ctnet.data.check import check_dataset
from ctnet.data.dataset import Dataset, splits
from ctnet.data.splitting import Division, split_command, split_dataset


def entries(count: int = 40) -> dict[str, Any]:
    """Images of four scenes; every second shows a nut, every tenth a bolt, the last four nothing."""
    images, annotations = [], []
    for number in range(1, count + 1):
        image = {"id": number, "file_name": f"{number:03}.png", "width": 32, "height": 24}
        images.append({**image, "scene": f"s{number % 4}", "license": 3})
        for category, every in ((7, 2), (2, 10)):
            if number % every == 0 and number <= count - 4:
                box = {"bbox": [2, 3, 10, 10], "note": "kept"}
                own = {"id": len(annotations) + 1, "image_id": number, "category_id": category}
                annotations.append({**own, **box})
    categories = [{"id": 7, "name": "nut"}, {"id": 2, "name": "bolt"}]
    return {
        "info": {"year": 2024},
        "licenses": [{"id": 3}],
        "images": images,
        "annotations": annotations,
        "categories": categories,
    }


def make(
    folder: Path, content: dict[str, Any] | None = None, name: str = "instances_train", **place: str
) -> Path:
    content = content or entries()
    (folder / "annotations").mkdir(parents=True, exist_ok=True)
    (folder / "annotations" / f"{name}.json").write_text(json.dumps(content))
    images = folder / place.get("images", "train")
    images.mkdir(parents=True, exist_ok=True)
    for image in content["images"]:
        cv2.imwrite(str(images / image["file_name"]), np.zeros((24, 32, 3), np.uint8))
    return folder


def read(folder: Path, split: str, prefix: str = "instances") -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "annotations" / f"{prefix}_{split}.json").read_text())
    return content


def numbers(folder: Path, split: str) -> set[int]:
    return {image["id"] for image in read(folder, split)["images"]}


def test_train_val_and_test_divide_the_images_and_each_class(tmp_path: Path) -> None:
    make(tmp_path, name="instances_default")
    done = split_dataset(tmp_path, Division(val=0.2, test=0.1))
    assert (done.source, [part.name for part in done.parts]) == ("default", ["train", "val", "test"])
    assert [part.images for part in done.parts] == [28, 8, 4]
    for part, share in zip(done.parts, (0.7, 0.2, 0.1), strict=True):
        assert abs(part.objects["nut"] - 18 * share) < 1
        assert abs(part.objects["bolt"] - 3 * share) < 1
    sets = [numbers(tmp_path, name) for name in ("train", "val", "test")]
    assert set.union(*sets) == set(range(1, 41))
    assert sum(map(len, sets)) == 40
    background = [sum(number > 36 for number in part) for part in sets]
    assert background[0] in (2, 3)
    assert sum(background) == 4
    assert splits(tmp_path) == ["default", "test", "train", "val"]


def test_all_fields_are_kept_and_every_image_is_found(tmp_path: Path) -> None:
    make(tmp_path, name="instances_default", images="images/default")
    split_dataset(tmp_path, Division(val=0.25))
    content = read(tmp_path, "val")
    assert content["info"] == {"year": 2024}
    assert content["licenses"] == [{"id": 3}]
    assert content["categories"] == entries()["categories"]
    assert all(image["license"] == 3 for image in content["images"])
    assert all(annotation["note"] == "kept" for annotation in content["annotations"])
    assert content["images"][0]["file_name"].startswith("images/default/")
    assert check_dataset(tmp_path).bad == 0


def test_folds_each_validate_once(tmp_path: Path) -> None:
    make(tmp_path)
    done = split_dataset(tmp_path, Division(folds=5, test=0.1))
    assert [part.name for part in done.parts[:2]] == ["train0", "val0"]
    validated = [numbers(tmp_path, f"val{fold}") for fold in range(5)]
    test = numbers(tmp_path, "test")
    assert set.union(*validated) | test == set(range(1, 41))
    assert sum(map(len, validated)) == 36
    for fold, own in enumerate(validated):
        assert numbers(tmp_path, f"train{fold}") == set(range(1, 41)) - own - test
    assert len(Dataset.open(tmp_path, "train3")) == 36 - len(validated[3])


def test_groups_stay_together(tmp_path: Path) -> None:
    make(tmp_path, name="instances_default")
    done = split_dataset(tmp_path, Division(val=0.25, group="scene"))
    scenes = [{image["scene"] for image in read(tmp_path, name)["images"]} for name in ("train", "val")]
    assert (len(scenes[0]), len(scenes[1])) == (3, 1)
    assert not scenes[0] & scenes[1]
    assert any("4 groups" in note for note in done.notes)


def test_images_without_the_field_are_said_and_none_with_it_is_an_error(tmp_path: Path) -> None:
    content = entries()
    del content["images"][0]["scene"]
    make(tmp_path, content, "instances_default")
    done = split_dataset(tmp_path, Division(val=0.4, group="scene"))
    assert any(note.startswith("1 images have no 'scene'") for note in done.notes)
    with pytest.raises(
        CtnetError, match=r"no image of .* has a field 'city'; they have file_name, height, id"
    ):
        split_dataset(tmp_path, Division(val=0.2, group="city"), "default", force=True)


def test_the_seed_decides_and_nothing_else(tmp_path: Path) -> None:
    made = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        folder = make(tmp_path / name, name="instances_default")
        split_dataset(folder, Division(val=0.2, seed=seed))
        made.append((folder / "annotations/instances_val.json").read_bytes())
    assert made[0] == made[1] != made[2]


def test_nothing_is_replaced_without_force_and_the_whole_is_kept(tmp_path: Path) -> None:
    make(tmp_path)
    before = (tmp_path / "annotations/instances_train.json").read_bytes()
    done = split_dataset(tmp_path, Division(val=0.2))
    assert (tmp_path / "annotations/instances_all.json").read_bytes() == before
    assert any("is now instances_all.json" in note for note in done.notes)
    assert len(numbers(tmp_path, "train")) == 32
    with pytest.raises(CtnetError, match="has the splits all, train, val; choose one with --split"):
        split_dataset(tmp_path, Division(val=0.2), force=True)
    with pytest.raises(CtnetError, match=r"instances_all\.json, which exists; move that away"):
        split_dataset(tmp_path, Division(val=0.2), "train", force=True)
    parts = [(tmp_path / f"annotations/instances_{name}.json").read_bytes() for name in ("train", "val")]
    with pytest.raises(CtnetError, match=r"instances_train\.json exists; --force replaces it$"):
        split_dataset(tmp_path, Division(val=0.3), "all")
    assert parts == [
        (tmp_path / f"annotations/instances_{name}.json").read_bytes() for name in ("train", "val")
    ]
    again = split_dataset(tmp_path, Division(val=0.2), "all", force=True)
    assert [part.images for part in again.parts] == [32, 8]


def test_all_annotation_files_of_a_split_are_divided_alike(tmp_path: Path) -> None:
    content = entries()
    make(tmp_path, content, "instances_default")
    make(tmp_path, {**content, "images": content["images"][::-1]}, "person_keypoints_default")
    split_dataset(tmp_path, Division(val=0.2))
    posed = {image["id"] for image in read(tmp_path, "val", "person_keypoints")["images"]}
    assert posed == numbers(tmp_path, "val")
    make(tmp_path / "b", content, "instances_default")
    make(tmp_path / "b", {**content, "images": content["images"][1:]}, "person_keypoints_default")
    with pytest.raises(CtnetError, match="are of the same split but list different images"):
        split_dataset(tmp_path / "b", Division(val=0.2))


def test_bad_records_go_with_their_image_and_those_of_none_are_listed(tmp_path: Path) -> None:
    content = entries()
    bad = {"id": 900, "image_id": 5, "category_id": 7, "bbox": [1, 1, 0, 5]}
    content["annotations"] += [bad, {"id": 901, "image_id": 77, "category_id": 7, "bbox": [1, 1, 5, 5]}]
    make(tmp_path, content, "instances_default")
    done = split_dataset(tmp_path, Division(val=0.2))
    ids = {a["id"] for name in ("train", "val") for a in read(tmp_path, name)["annotations"]}
    assert 900 in ids
    assert 901 not in ids
    assert [problem.where for problem in done.problems] == ["annotation 901 of image 77"]


def test_records_of_other_kinds_are_kept_and_numbers_that_json_lacks_refused(tmp_path: Path) -> None:
    content = entries()
    content["annotations"][0]["category_id"] = {"no": "number"}
    (part, _) = split_dataset(make(tmp_path / "odd", content), Division(val=0.2), force=True).parts
    kept = json.loads(part.path.read_text())["annotations"]
    assert content["annotations"][0] in kept
    content["annotations"][0]["bbox"] = [1, 2, float("inf"), 4]
    folder = make(tmp_path / "infinite", content)
    with pytest.raises(CtnetError, match="a number that is not finite"):
        split_dataset(folder, Division(val=0.2), force=True)
    assert [path.name for path in (folder / "annotations").iterdir()] == ["instances_train.json"]


def test_too_few_images(tmp_path: Path) -> None:
    make(tmp_path, entries(2), "instances_default")
    with pytest.raises(CtnetError, match="too few images or groups: val would be empty"):
        split_dataset(tmp_path, Division(val=0.1))
    assert splits(tmp_path) == ["default"]


@pytest.mark.parametrize(
    ("division", "message"),
    [
        ({}, "choose how to divide"),
        ({"val": 20}, "--val is 20; it must be a fraction"),
        ({"val": -0.1}, "--val is -0.1"),
        ({"val": float("nan")}, "--val is nan"),
        ({"val": 0.2, "folds": 5}, "leave out --val"),
        ({"folds": 1}, "at least 2"),
        ({"val": 0.5, "test": 0.5}, "leave nothing to train on"),
    ],
)
def test_divisions_that_make_no_sense(division: dict[str, Any], message: str) -> None:
    with pytest.raises(CtnetError, match=message):
        Division(**division)


@pytest.mark.parametrize(
    ("names", "command"),
    [
        (["default"], "--val 0.2"),
        (["train"], "--val 0.2"),
        (["test", "train"], "--val 0.2 --split train"),
    ],
)
def test_the_named_command_works(tmp_path: Path, names: list[str], command: str) -> None:
    for name in names:
        make(tmp_path, name=f"instances_{name}")
    assert split_command(tmp_path) == f"ctnet data split {tmp_path} {command}"
    assert any(f"`ctnet data split {tmp_path} {command}`" in note for note in check_dataset(tmp_path).notes)
    words = command.split()
    split_dataset(tmp_path, Division(val=0.2), "train" if "--split" in words else None)
    assert not check_dataset(tmp_path).notes
