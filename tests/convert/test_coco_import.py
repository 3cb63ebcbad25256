"""COCO JSON in any layout: splits, images, ids, categories, what is left out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ctnet.base.errors import CtnetError
from ctnet.convert.coco_import import import_coco
from ctnet.convert.split_names import split_in
from ctnet.data.dataset import Dataset

BOLT = {"id": 1, "name": "bolt"}
NUT = {"id": 2, "name": "nut", "supercategory": "parts", "colour": "red"}


def coco(names: list[str], categories: Any = (BOLT,), category: int = 1, first: int = 1) -> dict[str, Any]:
    ids = range(first, first + len(names))
    images = [
        {"id": i, "file_name": n, "width": 64, "height": 48, "date": "now"}
        for i, n in zip(ids, names, strict=True)
    ]
    box = {"category_id": category, "bbox": [5, 5, 20, 20], "iscrowd": 0, "note": "kept"}
    annotations = [{"id": i, "image_id": i, **box} for i in ids]
    return {"images": images, "annotations": annotations, "categories": list(categories)}


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("instances_val2017", "val2017"),
        ("valid", "val"),
        ("Validation", "val"),
        ("my-train-set", "train"),
        ("labels", None),
        ("constraint", None),
        ("test.coco", "test"),
    ],
)
def test_split_in(name: str, split: str | None) -> None:
    assert split_in(name) == split


def test_all_fields_and_ids_are_kept(tmp_path: Path, picture: Any, document: Any, converted: Any) -> None:
    picture("in/a.png")
    file = document("in/labels.json", coco(["a.png"], [BOLT, NUT], 2, first=7))
    report = import_coco([file], tmp_path / "out")
    content = converted()
    assert content["images"] == [{"id": 7, "file_name": "a.png", "width": 64, "height": 48, "date": "now"}]
    (annotation,) = content["annotations"]
    assert (annotation["id"], annotation["category_id"], annotation["note"]) == (7, 2, "kept")
    assert content["categories"] == [BOLT, NUT]
    assert report.splits[0].objects == {"bolt": 0, "nut": 1}
    assert (tmp_path / "out/images/train/a.png").is_file()


def test_files_are_joined_into_one_split(tmp_path: Path, picture: Any, document: Any, converted: Any) -> None:
    for name in ("one/a.png", "two/a.png", "two/b.png"):
        picture(f"in/{name}", shade=len(name) * 9)
    document("in/one/labels.json", coco(["a.png"]))
    document("in/two/labels.json", coco(["a.png", "b.png"], [{"id": 1, "name": "nut"}]))
    with pytest.raises(
        CtnetError, match="would both be the split 'labels'; name the files to convert, or join"
    ):
        import_coco([tmp_path / "in"], tmp_path / "out")
    report = import_coco([tmp_path / "in"], tmp_path / "out", split="train")
    content = converted()
    assert [(image["id"], image["file_name"]) for image in content["images"]] == [
        (1, "a.png"),
        (2, "two/a.png"),
        (3, "b.png"),
    ]
    assert [annotation["id"] for annotation in content["annotations"]] == [1, 2, 3]
    assert report.splits[0].objects == {"bolt": 1, "nut": 2}
    assert any("number their categories differently" in note for note in report.notes)
    dataset = Dataset.open(tmp_path / "out", "train")
    assert dataset.image_path(1).read_bytes() == (tmp_path / "in/two/a.png").read_bytes()


def test_categories_are_matched_by_name_over_the_splits(
    tmp_path: Path, picture: Any, document: Any, converted: Any
) -> None:
    for split, categories, number in (("train", [BOLT, NUT], 2), ("val", [{"id": 9, "name": "nut"}], 9)):
        picture(f"in/{split}/a.png")
        document(f"in/{split}/labels.json", coco(["a.png"], categories, number))
    import_coco([tmp_path / "in"], tmp_path / "out")
    contents = [converted(split) for split in ("train", "val")]
    assert contents[0]["categories"] == contents[1]["categories"] == [BOLT, NUT]
    assert [content["annotations"][0]["category_id"] for content in contents] == [2, 2]


def test_bad_records_are_listed_and_left_out_or_refused(
    tmp_path: Path, picture: Any, document: Any, converted: Any
) -> None:
    picture("in/a.png")
    content = coco(["a.png", "gone.png"])
    content["annotations"].append({"id": 9, "image_id": 1, "category_id": 1, "bbox": [1, 1, 0, 1]})
    file = document("in/train.json", content)
    report = import_coco([file], tmp_path / "out")
    assert [(problem.kind, problem.where) for problem in report.problems] == [
        ("box without area", f"{file}: annotation 9 of image 1"),
        ("image that is not there", f"{file}: image 2"),
    ]
    assert len(converted()["images"]) == len(converted()["annotations"]) == 1
    with pytest.raises(CtnetError, match="2 bad records"):
        import_coco([file], tmp_path / "again", strict=True)
    assert not (tmp_path / "again").exists()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), [1, {"a": -float("inf")}]])
def test_numbers_that_json_lacks_are_listed_where_they_would_be_kept(
    tmp_path: Path, picture: Any, document: Any, converted: Any, value: object
) -> None:
    for name in ("a.png", "b.png"):
        picture(f"in/{name}")
    content = coco(["a.png", "b.png"])
    content["images"][0]["weather"] = value
    content["annotations"][1]["attributes"] = value
    content["info"] = {"weather": value}  # not kept
    file = document("in/train.json", content)
    report = import_coco([file], tmp_path / "out")
    assert [(problem.kind, problem.where) for problem in report.problems] == [
        ("value that is not a number", f"{file}: image 1"),
        ("value that is not a number", f"{file}: annotation 2"),
    ]
    assert report.problems[0].what.startswith("weather is ")
    assert (len(converted()["images"]), converted()["annotations"]) == (1, [])
    content["categories"][0] = {**BOLT, "weight": value}
    with pytest.raises(
        CtnetError, match=r"category 1 of .*train\.json \(id 1\) holds NaN or infinity, which JSON"
    ):
        import_coco([document("in/train.json", content)], tmp_path / "again")
    assert not (tmp_path / "again").exists()


@pytest.mark.parametrize("name", ["../x", "", "a/b", "a b", ".", "x" * 300, "a\n"])
def test_a_split_is_one_word(tmp_path: Path, picture: Any, document: Any, name: str) -> None:
    picture("in/a.png")
    file = document("in/train.json", coco(["a.png"]))
    with pytest.raises(
        CtnetError, match=r"--split names a split .*; a split's name is one word, such as train"
    ):
        import_coco([file], tmp_path / "out", split=name)
    assert not (tmp_path / "out").exists()


def test_a_name_that_several_images_have_is_listed(tmp_path: Path, picture: Any, document: Any) -> None:
    for name in ("x/shots/a.png", "y/shots/a.png", "y/other/b.png"):
        picture(f"in/{name}")
    file = document("in/train.json", coco(["/disk/other/b.png", "/disk/a.png", "/disk/y/shots/a.png"]))
    report = import_coco([file], tmp_path / "out")
    assert [(problem.kind, problem.where) for problem in report.problems] == [
        ("image that could be several files", f"{file}: image 2")
    ]
    assert report.splits[0].images == 2


def test_a_folder_of_images_may_be_given(tmp_path: Path, picture: Any, document: Any) -> None:
    picture("elsewhere/a.png")
    file = document("in/train.json", coco(["a.png"]))
    assert import_coco([file], tmp_path / "out").splits[0].images == 0
    report = import_coco([file], tmp_path / "out", image_folder=tmp_path / "elsewhere")
    assert report.splits[0].images == 1
    with pytest.raises(CtnetError, match="is not a folder of images"):
        import_coco([file], tmp_path / "out", image_folder=tmp_path / "nowhere")


def test_images_stay_where_they_are_in_the_target_itself(tmp_path: Path, picture: Any, document: Any) -> None:
    picture("in/valid/a.png")
    document("in/valid/_annotations.coco.json", coco(["a.png"]))
    import_coco([tmp_path / "in"], tmp_path / "in", images="none")
    dataset = Dataset.open(tmp_path / "in", "val")
    assert dataset.coco.file_name(0) == "valid/a.png"
    assert dataset.image_path(0) == tmp_path / "in/valid/a.png"


def test_other_json_files_are_named_and_none_at_all_is_an_error(
    tmp_path: Path, picture: Any, document: Any
) -> None:
    document("in/notes.json", {"who": "me"})
    with pytest.raises(CtnetError, match="no COCO JSON file"):
        import_coco([tmp_path / "in"], tmp_path / "out")
    with pytest.raises(CtnetError, match="it does not exist"):
        import_coco([tmp_path / "nowhere"], tmp_path / "out")
    picture("in/a.png")
    document("in/labels.json", coco(["a.png"]))
    report = import_coco([tmp_path / "in"], tmp_path / "out")
    assert report.notes == ("1 JSON files are not COCO annotations and were not read (first: notes.json)",)


def test_polygons_without_a_box_are_converted(
    tmp_path: Path, picture: Any, document: Any, converted: Any
) -> None:
    picture("in/a.png")
    content = coco(["a.png"])
    del content["annotations"][0]["bbox"]
    content["annotations"][0]["segmentation"] = [[5, 5, 25, 5, 25, 25]]
    import_coco([document("in/train.json", content)], tmp_path / "out")
    assert converted()["annotations"][0]["bbox"] == [5, 5, 20, 20]


def test_a_used_group_and_one_that_groups_nothing_stay(
    tmp_path: Path, picture: Any, document: Any, converted: Any
) -> None:
    picture("in/a.png")
    groups = [
        {"id": 1, "name": "parts"},
        NUT,
        {"id": 3, "name": "free"},
        {"id": 4, "name": "x", "supercategory": "x"},
    ]
    import_coco([document("in/train.json", coco(["a.png"], groups, 1))], tmp_path / "out")
    assert converted()["categories"] == groups


def test_names_that_lead_out_of_the_target_do_not(
    tmp_path: Path, picture: Any, document: Any, converted: Any
) -> None:
    picture("pool/a.png")
    file = document("in/train.json", coco(["../pool/a.png"]))
    import_coco([file], tmp_path / "out")
    assert converted()["images"][0]["file_name"] == "a.png"
    assert (tmp_path / "out/images/train/a.png").is_file()


def test_sizes_that_are_not_stated_are_read_from_the_images(
    tmp_path: Path, picture: Any, document: Any, converted: Any
) -> None:
    picture("in/a.png")
    content = coco(["a.png", "gone.png"])
    for image in content["images"]:
        del image["width"], image["height"]
    file = document("in/train.json", content)
    report = import_coco([file], tmp_path / "out")
    (image,) = converted()["images"]
    assert (image["width"], image["height"], image["date"]) == (64, 48, "now")
    assert [(problem.kind, problem.where) for problem in report.problems] == [
        ("image that is not there", f"{file}: image 2"),
        ("unknown image", f"{file}: annotation 2 of image 2"),
    ]
