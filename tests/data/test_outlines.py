"""Annotations without a box: the one around the polygons. Categories that only group others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ctnet.core.task import create_task
from ctnet.data.check import GROUP, check_dataset
from ctnet.data.coco import CocoFile
from ctnet.data.dataset import Dataset
from ctnet.data.outlines import box_around

TRIANGLE = [5, 6, 25, 6.5, 20, 30]


def write(folder: Path, annotations: list[dict[str, Any]], categories: list[dict[str, Any]]) -> Path:
    path = folder / "annotations" / "instances_train.json"
    path.parent.mkdir(exist_ok=True)
    image = {"id": 1, "file_name": "a.png", "width": 64, "height": 48}
    content = {"annotations": annotations, "images": [image], "categories": categories}
    path.write_text(json.dumps(content))
    return path


def polygon(number: int, **entries: Any) -> dict[str, Any]:
    return {"id": number, "image_id": 1, "category_id": 1, "segmentation": [TRIANGLE], **entries}


@pytest.mark.parametrize(
    ("segmentation", "box"),
    [
        ([TRIANGLE], (5, 6, 20, 24)),
        ([TRIANGLE, [0, 40, 2, 40, 2, 41]], (0, 6, 25, 35)),
        ([], None),
        ([[1, 2, 3, 4]], None),
        ([[1, 2, 3, 4, 5]], None),
        ([[1, 2, 3, 4, 5, "6"]], None),
        ([[1, 2, 3, 4, 5, float("nan")]], None),
        ([TRIANGLE, 3], None),
        ({"counts": [5, 3], "size": [4, 2]}, None),
        ("polygon", None),
    ],
)
def test_box_around(segmentation: object, box: object) -> None:
    assert box_around(segmentation) == box


@pytest.mark.parametrize("missing", [{}, {"bbox": []}, {"bbox": None}])
def test_an_outline_gives_the_box(tmp_path: Path, missing: dict[str, Any]) -> None:
    own = {"id": 2, "image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "segmentation": [TRIANGLE]}
    file = CocoFile.open(write(tmp_path, [polygon(1, **missing), own], [{"id": 1, "name": "leaf"}]))
    assert file.boxes.tolist() == [[5, 6, 20, 24], [1, 2, 3, 4]]
    assert file.areas.tolist() == [480, 12]
    assert not file.problems
    assert [raw["bbox"] for raw in file.raw_annotations([0, 1])] == [[5, 6, 20, 24], [1, 2, 3, 4]]
    assert file.raw_entries(0, np.array([0]))[1][0]["bbox"] == [5, 6, 20, 24]


def test_long_outlines_are_read_though_the_reader_skips_them(tmp_path: Path) -> None:
    long = [value for step in range(200) for value in (10 + step % 20, 5 + step % 30)]
    path = write(tmp_path, [polygon(1, segmentation=[long])], [{"id": 1, "name": "leaf"}])
    assert CocoFile.open(path).boxes.tolist() == [[10, 5, 19, 29]]


def test_an_outline_that_is_no_polygon_is_listed_with_what_it_is(tmp_path: Path) -> None:
    lengths = {"counts": [5, 3], "size": [4, 2]}
    path = write(tmp_path, [polygon(1, segmentation=lengths)], [{"id": 1, "name": "leaf"}])
    (problem,) = CocoFile.open(path).problems
    assert problem.kind == "box that is not four finite numbers"
    assert "no polygon to take it from: segmentation" in problem.what


FLY = {"id": 1, "name": "fly", "supercategory": "flies", "keypoints": ["head", "tail"]}
FLIES = {"id": 0, "name": "flies", "supercategory": "none"}


def posed(category: int) -> dict[str, Any]:
    box = {"bbox": [10, 10, 30, 30], "keypoints": [15, 15, 2, 30, 30, 2]}
    return {"id": 1, "image_id": 1, "category_id": category, **box}


def test_a_category_that_only_groups_those_with_joints_is_left_out_and_named(tmp_path: Path) -> None:
    write(tmp_path, [posed(1)], [FLIES, FLY])
    dataset = Dataset.open(tmp_path, "train")
    assert (dataset.categories, dataset.coco.groups) == ([FLY], [FLIES])
    create_task("pose", dataset.categories)
    (split,) = check_dataset(tmp_path, images=False).splits
    assert [(found.where, found.what) for found in split.warnings if found.kind == GROUP] == [
        ("category 0", "flies")
    ]
    assert not split.problems


@pytest.mark.parametrize(
    ("annotated", "categories"),
    [
        (0, [FLIES, FLY]),  # it has an object
        (1, [FLIES, {**FLY, "supercategory": "insects"}]),  # it groups nothing
        (1, [FLIES, {"id": 1, "name": "fly", "supercategory": "flies"}]),  # nothing has joints
        (1, [{**FLIES, "keypoints": ["head", "tail"]}, FLY]),  # it has joints
    ],
)
def test_other_categories_stay(tmp_path: Path, annotated: int, categories: list[dict[str, Any]]) -> None:
    file = CocoFile.open(write(tmp_path, [posed(annotated)], categories))
    assert (file.categories, file.groups) == (categories, [])
