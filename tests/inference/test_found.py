from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from ctnet.base.errors import CtnetError
from ctnet.core.documents import results_of
from ctnet.core.fields import Points, Value
from ctnet.core.masks import Mask, outline_of
from ctnet.core.records import Detections, ImageInfo
from ctnet.core.task import create_task
from ctnet.inference import DetectionSettings, ImageDetections

CATEGORIES = [{"id": 3, "name": "ball"}, {"id": 8, "name": "box"}]


def made(count: int = 2, file_name: str = "photos/a.png", fields=None, **extra) -> ImageDetections:
    task = create_task("ctdet", CATEGORIES)
    task.fields = {**task.fields, **(fields or {})}
    boxes = np.array([[-3, 2, 30, 25], [10.5, -0.25, 45, 31]] * 9, np.float32)[:count]
    scores = np.linspace(0.9, 0.5, count, dtype=np.float32)
    found = Detections(boxes, scores, np.arange(count) % 2, extra)
    return ImageDetections.of(found, task, ImageInfo(0, file_name, 40, 30))


def test_a_detector_says_names_and_how_many(detector, random_image) -> None:
    image = random_image(64, 48)
    [found] = detector(image, DetectionSettings(score=0.0, topk=7, clip=False))
    assert detector.class_names == ("ball", "box")
    assert repr(detector) == "Detector(ctdet with tiny on cpu: ball, box)"
    assert len(found) == 7
    assert found.names == [detector.class_names[label] for label in found.labels]
    assert (found.info.width, found.info.height) == (64, 48)


def test_the_score_may_be_given_alone(detector, random_image) -> None:
    images = [random_image(64, 48), random_image(30, 20)]
    settings = DetectionSettings(score=0.0, topk=9, clip=False)
    [everything, _] = detector(images, settings)
    middle = float(everything.scores[4])
    [some, _] = detector(images, settings, score=middle)
    assert len(some) == int((everything.scores > middle).sum()) < len(everything)
    [same, _] = detector(images, DetectionSettings(topk=9, score=middle, clip=False))
    np.testing.assert_array_equal(same.boxes, some.boxes)
    [none] = detector(images[0], score=1.0)
    assert len(none) == 0


def test_all_kinds_of_images_give_the_same(detector, random_image) -> None:
    image = random_image(64, 48)
    bgr = np.ascontiguousarray(image[:, :, ::-1])
    [one] = detector(image, score=0.0)
    for other in (*detector([Image.fromarray(image), image], score=0.0), *detector(bgr, bgr=True, score=0.0)):
        np.testing.assert_allclose(other.scores, one.scores, rtol=1e-5)
    assert not np.allclose(detector(bgr, score=0.0)[0].scores[:5], one.scores[:5], rtol=1e-3)


def test_boxes_are_clipped_to_the_image_by_default(detector, random_image) -> None:
    image = random_image(64, 40)  # the input's upper and lower strips lie outside it
    [cut], [whole] = (detector(image, DetectionSettings(score=0.0, clip=clip)) for clip in (True, False))
    assert whole.boxes.min() < 0
    assert whole.boxes[:, 3].max() > 40
    boxes = np.clip(whole.boxes, 0, [64, 40, 64, 40])
    left = ((whole.boxes[:, :2] < [64, 40]) & (whole.boxes[:, 2:] > 0)).all(axis=1)
    assert 0 < left.sum() < len(left)
    np.testing.assert_array_equal(cut.boxes, boxes[left])
    np.testing.assert_array_equal(cut.scores, whole.scores[left])
    view = detector.preprocessor().views(image, ImageInfo(0, "", 64, 40), (1.0,))
    [measured] = detector.detect([view], DetectionSettings())
    np.testing.assert_array_equal(measured.boxes, whole.boxes)  # evaluation takes them from here


def test_boxes_outside_the_image_are_left_out() -> None:
    found = made(4, depth=np.arange(4.0))
    boxes = [[-9, 2, 0, 8], [-9, 2, 1, 8], [5, 30, 9, 44], [38, 28, 50, 33]]
    left = found.replace(boxes=np.array(boxes, np.float32)).clipped()
    assert left.boxes.tolist() == [[0, 2, 1, 8], [38, 28, 40, 30]]
    assert left.depth.tolist() == [1, 3]


def test_without_a_score_it_is_that_of_predict(detector, random_image, monkeypatch) -> None:
    def detect(batch, settings):
        asked.append(settings.score)
        return [Detections.empty() for _ in batch]

    asked: list[float | None] = []
    monkeypatch.setattr(detector, "detect", detect)
    image = random_image(64, 48)
    detector(image)
    detector(image, DetectionSettings(nms="hard"))
    detector(image, DetectionSettings(score=0.2))
    detector(image, DetectionSettings(score=0.2), score=0.0)
    # Just below the threshold, which is compared again, class by class.
    assert asked == pytest.approx([0.3, 0.3, 0.2, 0.0], abs=1e-6)
    assert all(score <= wanted for score, wanted in zip(asked, [0.3, 0.3, 0.2, 0.0], strict=True))


def test_what_is_known_of_the_image_stays_with_the_rows() -> None:
    found = made(3, depth=np.arange(3.0))
    parts = [found[0], found[-1], found[1:], found[found.labels == 0], found.above(0.6), *found]
    parts += [found.replace(boxes=found.boxes + 1), found.without("depth"), found.clipped()]
    for part in parts:
        assert isinstance(part, ImageDetections)
        assert part.info is found.info
        assert part.task is found.task
    assert [each.names for each in found] == [["ball"], ["box"], ["ball"]]
    assert found[-1].depth.tolist() == [2]


def test_repr_is_for_people() -> None:
    assert repr(made()) == (
        "2 detections (photos/a.png, 40x30)\n"
        "  ball 0.90 at -3.0, 2.0, 30.0, 25.0\n"
        "  box 0.50 at 10.5, -0.2, 45.0, 31.0"
    )
    assert repr(made(0, "")) == "0 detections (40x30)"
    assert repr(made()[1]).startswith("1 detection (photos/a.png, 40x30)\n  box 0.50")
    with pytest.raises(IndexError, match=r"^ImageDetections with 2 rows has no row 99$"):
        made()[99]
    lines = repr(made(12)).splitlines()
    assert len(lines) == 12
    assert lines[-1] == "  and 2 more"


def test_draw_takes_any_kind_of_image(random_image, tmp_path: Path) -> None:
    found, image = made(), random_image(40, 30)
    expected = found.task.draw(image, found, found.info)
    cv2.imwrite(str(tmp_path / "a.png"), image[:, :, ::-1])
    for picture in (image, Image.fromarray(image), tmp_path / "a.png"):
        np.testing.assert_array_equal(found.draw(picture), expected)
    np.testing.assert_array_equal(found.draw(image[:, :, ::-1], bgr=True), expected)
    assert not np.array_equal(expected, image)
    with pytest.raises(CtnetError, match=r"^the image is 41x30 pixels, but .* of one of 40x30; draw"):
        found.draw(random_image(41, 30))


def test_dictionaries_are_plain_values() -> None:
    fields = {"depth": Value(json="attributes.depth"), "tip": Points(json="tip")}
    columns = {"depth": np.array([1.5, np.nan]), "tip": np.array([[1, 2], [3, 4]], np.float32)}
    found = made(fields=fields, **columns)
    rows = json.loads(json.dumps(found.to_dicts()))
    assert rows[0] == {
        "label": 0,
        "name": "ball",
        "score": pytest.approx(0.9),
        "box": [-3, 2, 30, 25],
        "attributes": {"depth": 1.5},
        "tip": [1, 2],
    }
    assert "attributes" not in rows[1]
    assert made(0).to_dicts() == []
    # What the task adds stands there as in results files.
    entries = results_of(found.task, 1, found)
    assert [row.get("tip") for row in rows] == [entry.get("tip") for entry in entries]


def test_a_table_has_a_line_per_detection() -> None:
    fields = {"tip": Points(json="tip")}
    table = made(fields=fields, tip=np.array([[1, 2], [np.nan, 4]], np.float32)).to_pandas()
    assert list(table.columns) == ["x1", "y1", "x2", "y2", "score", "label", "name", "tip"]
    assert table["x2"].tolist() == [30, 45]
    assert table["name"].tolist() == ["ball", "box"]
    assert table["tip"].tolist() == [[1, 2], None]
    empty = made(0, fields=fields).to_pandas()
    assert list(empty.columns) == list(table.columns)
    assert empty.dtypes[["x1", "score", "label"]].equals(table.dtypes[["x1", "score", "label"]])
    assert len(pd.concat([table, empty])) == 2


def test_masks_corners_and_columns_reach_supervision(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "supervision", SimpleNamespace(Detections=SimpleNamespace))
    square = outline_of([[2, 2, 8, 2, 8, 6, 2, 6]])
    corners = np.arange(16.0).reshape(2, 4, 2)
    fields = {"mask": Mask(), "corners": Points(json="corners", n=4, cyclic=True)}
    found = made(fields=fields, mask=[square, None], corners=corners, depth=np.array([1.0, 2.0]))
    given = vars(found.to_supervision())
    assert sorted(given) == ["class_id", "confidence", "data", "mask", "xyxy"]
    assert [(given[name].dtype, given[name].shape) for name in ("xyxy", "confidence", "class_id")] == [
        (np.float32, (2, 4)),
        (np.float32, (2,)),
        (np.int64, (2,)),
    ]
    assert given["mask"].shape == (2, 30, 40)
    assert given["mask"].sum(axis=(1, 2)).tolist() == [35, 0]
    assert given["mask"][0, 2:7, 2:9].all()
    data = given["data"]
    assert sorted(data) == ["class_name", "corners", "depth", "xyxyxyxy"]
    assert data["class_name"].tolist() == ["ball", "box"]
    np.testing.assert_array_equal(data["xyxyxyxy"], corners)
    assert made().to_supervision().mask is None


def test_supervision_takes_them() -> None:
    sv = pytest.importorskip("supervision")
    square = outline_of([[2, 2, 8, 2, 8, 6, 2, 6]])
    fields = {"mask": Mask(), "corners": Points(json="corners", n=4, cyclic=True)}
    found = made(fields=fields, mask=[square, square], corners=np.zeros((2, 4, 2)), depth=np.ones(2))
    theirs = found.to_supervision()
    assert isinstance(theirs, sv.Detections)
    assert len(theirs) == 2
    assert [xyxy.tolist() for xyxy, *_ in theirs] == found.boxes.tolist()
    assert theirs[theirs.confidence > 0.6]["class_name"].tolist() == ["ball"]
    assert len(made(0).to_supervision()) == 0
    drawn = sv.BoxAnnotator().annotate(np.zeros((30, 40, 3), np.uint8), theirs)
    assert drawn.any()


@pytest.mark.parametrize(("name", "method"), [("pandas", "to_pandas"), ("supervision", "to_supervision")])
def test_a_library_that_is_missing_is_named(monkeypatch, name: str, method: str) -> None:
    def missing(wanted: str) -> None:
        raise ModuleNotFoundError(f"No module named {wanted!r}")

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(CtnetError, match=rf"^{method} needs {name} \(No module .*\): pip install {name}$"):
        getattr(made(), method)()
