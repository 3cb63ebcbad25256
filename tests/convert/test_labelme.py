"""LabelMe: shapes, groups, masks, stored images, what is left out."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from pycocotools import mask as coco_mask

from ctnet.base.errors import CtnetError
from ctnet.convert.labelme import import_labelme


def shape(kind: str, points: Any, label: Any = "bolt", **extra: Any) -> dict[str, Any]:
    own = {"label": label, "points": points, "group_id": None, "shape_type": kind, "flags": {}}
    return {**own, "description": "", "mask": None, **extra}


def file_of(*shapes: Any, image: str = "a.png", **extra: Any) -> dict[str, Any]:
    size = {"imageHeight": 48, "imageWidth": 64}
    return {
        "version": "5.4.1",
        "flags": {},
        "shapes": shapes,
        "imagePath": image,
        "imageData": None,
        **size,
        **extra,
    }


@pytest.mark.parametrize(
    ("kind", "points", "box", "outline"),
    [
        ("polygon", [[5, 6], [25, 6], [20, 30]], [5, 6, 20, 24], [[5, 6, 25, 6, 20, 30]]),
        ("rectangle", [[25, 30], [5.5, 6]], [5.5, 6, 19.5, 24], None),
        ("rectangle", [[5, 6], [25, 6], [25, 30], [5, 30]], [5, 6, 20, 24], None),
        ("circle", [[20, 20], [23, 24]], [15, 15, 10, 10], None),
    ],
)
def test_shapes(
    tmp_path: Path,
    picture: Any,
    document: Any,
    converted: Any,
    kind: str,
    points: Any,
    box: Any,
    outline: Any,
) -> None:
    picture("in/a.png")
    document("in/a.json", file_of(shape(kind, points)))
    assert not import_labelme(tmp_path / "in", tmp_path / "out").problems
    (annotation,) = converted()["annotations"]
    assert annotation["bbox"] == box
    assert annotation.get("segmentation") == outline


def png(mask: np.ndarray) -> str:
    return base64.b64encode(cv2.imencode(".png", mask.astype(np.uint8) * 255)[1].tobytes()).decode()


def test_a_mask_becomes_run_lengths(tmp_path: Path, picture: Any, document: Any, converted: Any) -> None:
    picture("in/a.png")
    mask = np.zeros((10, 12), bool)
    mask[1:9, 2:12] = True
    mask[4, 5] = False
    document("in/a.json", file_of(shape("mask", [[20, 30], [31, 39]], mask=png(mask))))
    import_labelme(tmp_path / "in", tmp_path / "out")
    (annotation,) = converted()["annotations"]
    whole = np.zeros((48, 64), bool)
    whole[30:40, 20:32] = mask
    packed = coco_mask.frPyObjects(annotation["segmentation"], 48, 64)
    assert np.array_equal(coco_mask.decode(packed), whole)
    assert annotation["bbox"] == [22, 31, 10, 8]
    assert annotation["area"] == 79


def test_a_mask_that_begins_at_the_corner(
    tmp_path: Path, picture: Any, document: Any, converted: Any
) -> None:
    picture("in/a.png")
    document("in/a.json", file_of(shape("mask", [[0, 0], [1, 1]], mask=png(np.ones((2, 2), bool)))))
    import_labelme(tmp_path / "in", tmp_path / "out")
    packed = coco_mask.frPyObjects(converted()["annotations"][0]["segmentation"], 48, 64)
    assert np.argwhere(coco_mask.decode(packed)).tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]


def test_shapes_of_one_group_are_one_object(
    tmp_path: Path, picture: Any, document: Any, converted: Any
) -> None:
    picture("in/a.png")
    one, two = [[5, 5], [10, 5], [10, 10]], [[30, 30], [40, 30], [40, 40]]
    shapes = [shape("polygon", one, group_id=1), shape("polygon", two, group_id=1)]
    shapes += [shape("polygon", two, "nut", group_id=1), shape("polygon", one)]
    document("in/a.json", file_of(*shapes))
    import_labelme(tmp_path / "in", tmp_path / "out")
    boxes = [annotation["bbox"] for annotation in converted()["annotations"]]
    assert boxes == [[5, 5, 35, 35], [30, 30, 10, 10], [5, 5, 5, 5]]
    joined = converted()["annotations"][0]
    assert (joined["segmentation"], joined["area"], joined["group_id"]) == (
        [[5, 5, 10, 5, 10, 10], [30, 30, 40, 30, 40, 40]],
        62.5,
        1,
    )


@pytest.mark.parametrize(
    ("bad", "kind"),
    [
        (shape("point", [[1, 2]]), "shape without area"),
        (shape("linestrip", [[1, 2], [3, 4]]), "shape without area"),
        (shape("polygon", [[1, 2], [3, 4]]), "shape with too few points"),
        (shape("rectangle", [[1, 2]]), "shape with too few points"),
        (shape("rectangle", [[1, 2], [1, 9]]), "box without area"),
        (shape("rectangle", [[70, 2], [80, 9]]), "box outside the image"),
        (shape("rectangle", [[1, "2"], [4, 9]]), "coordinate that is not a number"),
        (shape("rectangle", [[1, float("nan")], [4, 9]]), "coordinate that is not a number"),
        (shape("rectangle", [[1, 10**400], [4, 9]]), "coordinate that is not a number"),
        (shape("polygon", [[1, 2], [10**300, 2], [3, 9]]), "coordinate that is not a number"),
        (shape("rectangle", [[1, 2], [4, 9]], flags={"a": [float("inf")]}), "value that is not a number"),
        (shape("rectangle", {"x": 1}), "points that are not pairs"),
        (shape("polygon", [[1, 2], [3, 4], [9, 9]], ""), "shape without label"),
        (shape("polygon", [[1, 2], [3, 4], [9, 9]], 3), "shape without label"),
        (shape("cuboid", [[1, 2], [3, 4], [9, 9]]), "shape that is not known"),
        (shape("mask", [[1, 2], [3, 4]]), "mask without image"),
        (shape("mask", [[1, 2], [3, 4]], mask="AAAA"), "mask without image"),
        (shape("mask", [[1, 2], [3, 4]], mask="%%"), "stored image that cannot be read"),
        (shape("mask", [[-3, 2], [3, 4]], mask=png(np.ones((2, 2)))), "mask outside the image"),
        ("no shape", "shape that is not an object"),
    ],
)
def test_what_is_left_out_is_listed(
    tmp_path: Path, picture: Any, document: Any, converted: Any, bad: Any, kind: str
) -> None:
    picture("in/a.png")
    document("in/a.json", file_of(shape("rectangle", [[5, 5], [9, 9]]), bad))
    report = import_labelme(tmp_path / "in", tmp_path / "out")
    assert [(problem.kind, problem.where) for problem in report.problems] == [(kind, "a.json shape 1")]
    assert len(converted()["annotations"]) == 1
    with pytest.raises(CtnetError, match=kind):
        import_labelme(tmp_path / "in", tmp_path / "again", strict=True)


def test_images_are_found_by_path_by_stem_and_in_the_file(
    tmp_path: Path, picture: Any, document: Any, converted: Any
) -> None:
    box = shape("rectangle", [[5, 5], [9, 9]])
    picture("in/img/a.png")
    picture("in/ann/b.png")
    stored = base64.b64encode(picture("c.png").read_bytes()).decode()
    document("in/ann/a.json", file_of(box, image="..\\img\\a.png"))
    document("in/ann/b.json", file_of(box, image="D:\\old\\name.png", imageWidth=None))
    document("in/ann/c.json", file_of(box, image="c.png", imageData=stored))
    document("in/ann/d.json", file_of(box, image="d.png"))
    report = import_labelme(tmp_path / "in", tmp_path / "out")
    assert [(problem.kind, problem.where) for problem in report.problems] == [
        ("image that is not there", "ann/d.json")
    ]
    assert [image["file_name"] for image in converted()["images"]] == ["a.png", "b.png", "c.png"]
    assert all((tmp_path / "out/images/train" / f"{name}.png").is_file() for name in "abc")
    assert converted()["images"][1]["width"] == 64


def test_folders_are_splits_and_broken_files_are_listed(tmp_path: Path, picture: Any, document: Any) -> None:
    box = shape("rectangle", [[5, 5], [9, 9]])
    for folder in ("train", "valid", "more"):
        picture(f"in/{folder}/test_1.png")
        document(f"in/{folder}/test_1.json", file_of(box, image="test_1.png"))
    document("in/train/cut.json", '{"version": "5", "shapes": [')
    document("in/other.json", {"a": 1})
    report = import_labelme(tmp_path / "in", tmp_path / "out")
    assert [(split.name, split.images) for split in report.splits] == [("train", 2), ("val", 1)]
    assert [(problem.kind, problem.where) for problem in report.problems] == [
        ("unreadable file", "train/cut.json")
    ]
    assert "1 JSON files are not LabelMe's" in report.notes[0]
    named = import_labelme(tmp_path / "in", tmp_path / "out2", split="pool")
    assert [(split.name, split.images) for split in named.splits] == [("pool", 3)]
    with pytest.raises(CtnetError, match="no LabelMe file"):
        import_labelme(tmp_path / "out", tmp_path / "x")
