"""The COCO data directory that every import writes."""

from __future__ import annotations

import json
from pathlib import Path

from ctnet.convert.coco import ImageRecord, box_annotation, numbered, write_splits


def record(name: str, source: Path | None = None) -> ImageRecord:
    return ImageRecord(name, 8, 6, [box_annotation("cat", [1, 1, 2, 2])], source)


def test_ids_count_on_from_one_split_to_the_next() -> None:
    splits = numbered({"train": [record("a"), record("b")], "empty": [], "val": [record("c")]})
    assert {split: list(records) for split, records in splits.items()} == {
        "train": [1, 2],
        "empty": [],
        "val": [3],
    }


def test_images_are_placed_once_and_where_they_belong(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_text("content")
    both = {7: record("images/a.jpg", tmp_path / "a.jpg"), 8: record("images/gone.jpg")}
    reports = write_splits(tmp_path / "out", {"train": both, "val": both}, ["dog", "cat"], "here", "copy")
    assert [(report.name, report.images, report.objects) for report in reports] == [
        ("train", 2, {"dog": 0, "cat": 2}),
        ("val", 2, {"dog": 0, "cat": 2}),
    ]
    assert [path.name for path in (tmp_path / "out" / "images").iterdir()] == ["a.jpg"]
    content = json.loads((tmp_path / "out" / "annotations" / "instances_val.json").read_text())
    assert [(a["id"], a["image_id"], a["category_id"]) for a in content["annotations"]] == [
        (1, 7, 2),
        (2, 8, 2),
    ]
    split = {"train": {1: record("a.jpg", tmp_path / "a.jpg")}}
    write_splits(tmp_path / "yolo", split, ["cat"], "here", "link", image_folder="images/{split}")
    assert (tmp_path / "yolo" / "images" / "train" / "a.jpg").read_text() == "content"
