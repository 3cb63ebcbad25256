"""YOLO labels to COCO JSON, and there and back."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from ctnet.base.errors import CtnetError
from ctnet.base.files import read_json, write_json
from ctnet.convert.report import BadRecord
from ctnet.convert.yolo import import_yolo, read_label
from ctnet.convert.yolo_export import export_yolo
from ctnet.convert.yolo_keypoints import YoloKeypoints
from ctnet.core.masks import outline_of
from ctnet.data.dataset import Dataset

WIDTH, HEIGHT = 40, 30
NAMES = ("cat", "traffic light", "größe")


def write_image(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.zeros((HEIGHT, WIDTH, 3), np.uint8))


def make_yolo(
    folder: Path, labels: dict[str, str | None], split: str = "train", yaml: str | None = None
) -> Path:
    """A tiny data set: label text by image name (None: no label file), and a data.yaml."""
    for name, text in labels.items():
        write_image(folder / "images" / split / name)
        path = (folder / "labels" / split / name).with_suffix(".txt")
        path.parent.mkdir(parents=True, exist_ok=True)
        if text is not None:
            path.write_text(text)
    text = f"{split}: images/{split}\nnames: {list(NAMES)}\n" if yaml is None else yaml
    if text:
        (folder / "data.yaml").write_text(text, encoding="utf-8")
    return folder


def read_split(folder: Path, split: str = "train") -> dict:
    return json.loads((folder / "annotations" / f"instances_{split}.json").read_text(encoding="utf-8"))


def make_coco(folder: Path, boxes: Sequence[Sequence[float]], split: str = "train", **image: object) -> Path:
    """A data directory of two images, the second without annotations; category ids have gaps."""
    content = {
        "images": [
            {"id": 7, "file_name": "a.png", "width": WIDTH, "height": HEIGHT, **image},
            {"id": 3, "file_name": "sub/b.png", "width": WIDTH, "height": HEIGHT},
        ],
        "annotations": [
            {
                "id": number,
                "image_id": 7,
                "category_id": 10 * (number % 3) + 5,
                "bbox": list(box),
                "iscrowd": 0,
            }
            for number, box in enumerate(boxes, start=1)
        ],
        "categories": [{"id": 10 * number + 5, "name": name} for number, name in enumerate(NAMES)],
    }
    for entry in content["images"]:
        write_image(folder / "images" / split / str(entry["file_name"]))
    path = folder / "annotations" / f"instances_{split}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")
    return folder


# --- lines


def test_a_box_line() -> None:
    annotation = read_label("1 0.5 0.5 0.25 0.2", WIDTH, HEIGHT, NAMES)
    assert annotation["category"] == "traffic light"
    assert annotation["bbox"] == [15, 12, 10, 6]
    assert annotation["area"] == 60


def test_a_polygon_line_keeps_outline_and_box() -> None:
    annotation = read_label("0.0 0.1 0.1 0.6 0.1 0.1 0.5", WIDTH, HEIGHT, NAMES)
    assert annotation["bbox"] == [4, 3, 20, 12]
    assert annotation["segmentation"] == [[4, 3, 24, 3, 4, 15]]
    assert annotation["area"] == 120  # half of the box


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("0 0.5 0.5 0.1", "wrong number of columns"),
        ("0 0.5 0.5 0.1 0.1 0.9", "wrong number of columns"),
        ("0 0.1 0.1 0.2 0.2 0.3 0.3 0.4", "wrong number of columns"),
        ("3 0.5 0.5 0.1 0.1", "unknown class"),
        ("-1 0.5 0.5 0.1 0.1", "unknown class"),
        ("0.5 0.5 0.5 0.1 0.1", "unknown class"),
        ("cat 0.5 0.5 0.1 0.1", "unknown class"),
        ("inf 0.5 0.5 0.1 0.1", "unknown class"),
        ("0 nan 0.5 0.1 0.1", "coordinate that is not a number"),
        ("0 0.5 x 0.1 0.1", "coordinate that is not a number"),
        ("0 -0.5 0.5 0.1 0.1", "coordinate beyond 0 to 1"),
        ("0 20 15 10 10", "coordinate beyond 0 to 1"),
        ("0 0.5 0.5 0 0.1", "box without area"),
        ("0 0.5 0.5 0.1 -0.1", "coordinate beyond 0 to 1"),
        ("0 0.1 0.1 0.2 0.1 0.3 0.1", "polygon without area"),
    ],
)
def test_bad_lines(line: str, kind: str) -> None:
    with pytest.raises(BadRecord) as caught:
        read_label(line, WIDTH, HEIGHT, NAMES)
    assert caught.value.kind == kind


# --- layouts


def test_images_without_labels_are_background(tmp_path: Path) -> None:
    labels = {"a.png": "0 0.5 0.5 0.5 0.5\n\n2 0.5 0.5 0.1 0.1\n", "b.png": "", "deep/c.png": None}
    report = import_yolo(make_yolo(tmp_path / "yolo", labels), tmp_path / "out")
    assert report.problems == ()
    assert report.splits[0].objects == {"cat": 1, "traffic light": 0, "größe": 1}
    assert any("2 images of train have no object" in note for note in report.notes)
    dataset = Dataset.open(tmp_path / "out", "train")
    assert [dataset.info(i).file_name for i in range(3)] == ["a.png", "b.png", "deep/c.png"]
    assert dataset[0].instances.boxes.tolist() == [[10, 7.5, 30, 22.5], [18, 13.5, 22, 16.5]]
    assert len(dataset[2].instances) == 0


def test_bad_records_are_listed_with_file_and_line_or_refused(tmp_path: Path) -> None:
    source = make_yolo(tmp_path / "yolo", {"a.png": "0 0.5 0.5 0.1 0.1\n9 0.5 0.5 0.1 0.1\n", "b.png": ""})
    (source / "images" / "train" / "b.png").write_bytes(b"no image")
    (source / "labels" / "train" / "orphan.txt").write_text("0 0.5 0.5 0.1 0.1\n")
    report = import_yolo(source, tmp_path / "out")
    assert {(problem.kind, Path(problem.where).name) for problem in report.problems} == {
        ("unknown class", "a.txt:2"),
        ("unreadable file", "b.png"),
        ("label file without image", "orphan.txt"),
    }
    assert len(read_split(tmp_path / "out")["annotations"]) == 1
    with pytest.raises(CtnetError, match="3 bad records"):
        import_yolo(source, tmp_path / "strict", strict=True)
    assert not (tmp_path / "strict").exists()


@pytest.mark.parametrize(
    "text",
    [
        "train: ../images/train\nnames: [cat]",  # as Roboflow writes it
        "path: ../datasets/yolo\ntrain: images/train\nnames: [cat]",
        "path: {folder}\ntrain: [images/train]\nnames: [cat]",
        "train: train.txt\nnames: [cat]",
    ],
)
def test_where_data_yaml_points(tmp_path: Path, text: str) -> None:
    folder = tmp_path / "yolo"
    make_yolo(folder, {"a.png": "0 0.5 0.5 0.1 0.1"}, yaml=text.format(folder=folder))
    (folder / "train.txt").write_text("./images/train/a.png\n")
    for source in (folder, folder / "data.yaml"):
        assert import_yolo(source, tmp_path / "out").splits[0].objects == {"cat": 1}


def test_missing_split_is_a_problem_and_no_split_an_error(tmp_path: Path) -> None:
    source = make_yolo(
        tmp_path / "a", {"a.png": ""}, yaml="train: images/train\nval: images/val\nnames: [cat]"
    )
    (problem,) = import_yolo(source, tmp_path / "out").problems
    assert problem.kind == "split that is not there"
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "data.yaml").write_text("val: images/val\nnames: [cat]")
    with pytest.raises(CtnetError, match=r"not a YOLO data set.*--export"):
        import_yolo(tmp_path / "b", tmp_path / "out")


@pytest.mark.parametrize("order", ["images/{split}", "{split}/images"])
def test_folders_without_data_yaml(tmp_path: Path, order: str) -> None:
    for split in ("train", "val"):
        folder = tmp_path / "yolo" / order.format(split=split)
        write_image(folder / "a.png")
        labels = Path(str(folder).replace("images", "labels"))
        labels.mkdir(parents=True)
        (labels / "a.txt").write_text("1 0.5 0.5 0.1 0.1\n")
    with pytest.raises(CtnetError, match="give --names FILE"):
        import_yolo(tmp_path / "yolo", tmp_path / "out")
    names = tmp_path / "names.txt"
    names.write_text("cat\nbig dog\n\n", encoding="utf-8")
    report = import_yolo(tmp_path / "yolo", tmp_path / "out", names=names)
    assert [split.name for split in report.splits] == ["train", "val"]
    names.rename(tmp_path / "yolo" / "classes.txt")
    assert import_yolo(tmp_path / "yolo", tmp_path / "out").splits[1].objects == {"cat": 0, "big dog": 1}


def test_repeated_names_are_refused(tmp_path: Path) -> None:
    source = make_yolo(tmp_path / "b", {"a.png": ""}, yaml="train: images/train\nnames: [cat, cat]")
    with pytest.raises(CtnetError, match="distinct"):
        import_yolo(source, tmp_path / "out")


def test_import_into_the_source_folder_leaves_images_alone(tmp_path: Path) -> None:
    source = make_yolo(tmp_path / "yolo", {"a.png": "0 0.5 0.5 0.1 0.1"})
    before = (source / "images" / "train" / "a.png").read_bytes()
    import_yolo(source, source, images="copy")
    assert (source / "images" / "train" / "a.png").read_bytes() == before
    assert len(Dataset.open(source, "train")[0].instances) == 1


# --- export and the round trip


@st.composite
def boxes(draw: st.DrawFn) -> list[float]:
    """xywh inside the image, with two decimals as COCO has them."""
    x, y = draw(st.integers(0, 100 * WIDTH - 1)), draw(st.integers(0, 100 * HEIGHT - 1))
    width, height = draw(st.integers(1, 100 * WIDTH - x)), draw(st.integers(1, 100 * HEIGHT - y))
    return [value / 100 for value in (x, y, width, height)]


@settings(max_examples=25, deadline=None)
@given(st.lists(boxes(), max_size=5))
def test_there_and_back_changes_nothing(
    tmp_path_factory: pytest.TempPathFactory, boxes: list[list[float]]
) -> None:
    folder = tmp_path_factory.mktemp("trip")
    source = make_coco(folder / "coco", boxes)
    export_yolo(source, folder / "yolo")
    report = import_yolo(folder / "yolo", folder / "back")
    assert report.problems == ()
    before, after = read_split(source), read_split(folder / "back")
    assert [category["name"] for category in after["categories"]] == list(NAMES)
    assert {image["file_name"] for image in after["images"]} == {"a.png", "sub/b.png"}

    def objects(content: dict) -> list[tuple[str, list[float]]]:
        names = {category["id"]: category["name"] for category in content["categories"]}
        return [(names[item["category_id"]], item["bbox"]) for item in content["annotations"]]

    assert objects(after) == objects(before)


def test_export_writes_what_other_readers_expect(tmp_path: Path) -> None:
    source = make_coco(tmp_path / "coco", [[10, 6, 20, 15]], split="train2017")
    make_coco(source, [], split="val2017")
    report = export_yolo(source, tmp_path / "yolo")
    assert (report.splits[0].images, report.splits[0].objects["traffic light"]) == (2, 1)
    target = tmp_path / "yolo"
    line = (target / "labels" / "train2017" / "a.txt").read_text()
    assert line == "1 0.50000000 0.45000000 0.50000000 0.50000000\n"
    assert (target / "labels" / "train2017" / "sub" / "b.txt").read_text() == ""
    assert (target / "images" / "train2017" / "sub" / "b.png").is_file()
    assert (target / "data.yaml").read_text(encoding="utf-8").splitlines()[:4] == [
        "train: images/train2017",
        "val: images/val2017",
        "names:",
        "  0: cat",
    ]


def test_export_clips_at_the_border_and_reports_crowds_left_out(tmp_path: Path) -> None:
    source = make_coco(tmp_path / "coco", [[-10, 5, 20, 10], [5, 5, 10, 10], [3, 3, 0, 5]])
    path = source / "annotations" / "instances_train.json"
    content = json.loads(path.read_text())
    content["annotations"][1]["iscrowd"] = 1
    path.write_text(json.dumps(content))
    report = export_yolo(source, tmp_path / "yolo")
    assert len((tmp_path / "yolo" / "labels" / "train" / "a.txt").read_text().splitlines()) == 1
    assert any("1 crowd regions were left out" in note for note in report.notes)
    assert any("1 boxes were clipped" in note for note in report.notes)
    assert [problem.kind for problem in report.problems] == ["box without area"]
    with pytest.raises(CtnetError, match="box without area"):
        export_yolo(source, tmp_path / "strict", strict=True)


def test_export_keeps_labels_findable_whatever_the_file_names(tmp_path: Path) -> None:
    source = make_coco(tmp_path / "coco", [[1, 1, 5, 5]], file_name="images/train/x.png")
    write_image(source / "images" / "train" / "x.png")
    export_yolo(source, tmp_path / "yolo")
    assert (tmp_path / "yolo" / "labels" / "train" / "x.txt").read_text() != ""


def test_export_lists_missing_images_and_clashing_names(tmp_path: Path) -> None:
    source = make_coco(tmp_path / "coco", [], file_name="sub/b.jpg")
    (source / "images" / "train" / "sub" / "b.jpg").unlink()
    report = export_yolo(source, tmp_path / "yolo")
    assert [problem.kind for problem in report.problems] == ["missing image"]
    write_image(source / "images" / "train" / "sub" / "b.jpg")
    report = export_yolo(source, tmp_path / "yolo")
    assert [problem.kind for problem in report.problems] == ["the file name of an earlier image"]


@pytest.mark.parametrize(
    "name", [".", "..", "/", "x" * 252 + ".png", "x" * 300, "é" * 130, "\0.png", "\ud800.png"]
)
def test_export_lists_names_that_no_label_can_have(tmp_path: Path, name: str) -> None:
    """Also where the images are not looked for."""
    source = make_coco(tmp_path / "coco", [])
    path = source / "annotations" / "instances_train.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    content["images"][1]["file_name"] = name
    path.write_text(json.dumps(content), encoding="utf-8")
    report = export_yolo(source, tmp_path / "yolo", "none")
    assert [problem.kind for problem in report.problems] == ["name that no label file can have"]
    assert len(list((tmp_path / "yolo").rglob("*.txt"))) == len(content["images"]) - 1


def test_export_wants_the_same_categories_in_all_splits(tmp_path: Path) -> None:
    source = make_coco(tmp_path / "coco", [])
    make_coco(source, [], split="val")
    path = source / "annotations" / "instances_val.json"
    path.write_text(path.read_text(encoding="utf-8").replace("cat", "dog"), encoding="utf-8")
    with pytest.raises(CtnetError, match="train and val differ in their categories"):
        export_yolo(source, tmp_path / "yolo")


# --- keypoints

JOINTS = ["nose", "left_eye", "right_eye"]
POSE_YAML = """train: images/train
kpt_shape: [3, 3]  # number, dimensions
flip_idx: [0, 2, 1]
names:
  0: cat
kpt_names:
  0:
    - nose
    - left_eye
    - "right_eye"
"""


def test_a_pose_line_has_a_box_and_keypoints_in_pixels() -> None:
    annotation = read_label(
        "0 0.5 0.5 0.25 0.2 0.5 0.1 2 0 0 0 1 1 1", WIDTH, HEIGHT, NAMES, YoloKeypoints([JOINTS] * 3, 3)
    )
    assert annotation["bbox"] == [15, 12, 10, 6]
    assert annotation["keypoints"] == [20, 3, 2, 0, 0, 0, 40, 30, 1]
    assert annotation["num_keypoints"] == 2


def test_without_visibility_a_point_at_the_origin_is_not_labelled() -> None:
    annotation = read_label(
        "0 0.5 0.5 0.25 0.2 0.5 0.1 0 0 1 1", WIDTH, HEIGHT, NAMES, YoloKeypoints([JOINTS] * 3, 2)
    )
    assert annotation["keypoints"] == [20, 3, 2, 0, 0, 0, 40, 30, 2]


@pytest.mark.parametrize(
    ("rest", "kind"),
    [
        ("0.5 0.1 2 0 0 0 1 1", "wrong number of columns"),
        ("", "wrong number of columns"),
        ("0.5 0.1 7 0 0 0 1 1 1", "visibility that is not 0, 1 or 2"),
        ("0.5 1.1 2 0 0 0 1 1 1", "keypoint beyond 0 to 1"),
        ("0.5 nan 2 0 0 0 1 1 1", "coordinate that is not a number"),
        ("0.5 x 2 0 0 0 1 1 1", "coordinate that is not a number"),
    ],
)
def test_bad_pose_lines(rest: str, kind: str) -> None:
    with pytest.raises(BadRecord) as caught:
        read_label(f"0 0.5 0.5 0.25 0.2 {rest}", WIDTH, HEIGHT, NAMES, YoloKeypoints([JOINTS] * 3, 3))
    assert caught.value.kind == kind


def test_pose_labels_with_names_become_a_coco_file(tmp_path: Path) -> None:
    labels = {"a.png": "0 0.5 0.5 0.5 0.5 0.5 0.5 2 0.25 0.5 1 0 0 0\n0 0.5 0.5 0.5 0.5 1\n"}
    report = import_yolo(make_yolo(tmp_path / "yolo", labels, yaml=POSE_YAML), tmp_path / "out")
    content = read_split(tmp_path / "out")
    assert content["categories"] == [{"id": 1, "name": "cat", "keypoints": JOINTS}]
    assert [item["keypoints"] for item in content["annotations"]] == [[20, 15, 2, 10, 15, 1, 0, 0, 0]]
    assert [problem.kind for problem in report.problems] == ["wrong number of columns"]
    assert report.notes == ()


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("kpt_shape: [3, 3]", ["joint_1", "joint_2", "joint_3"]),
        ("kpt_shape: [3, 3]\nflip_idx: [0, 2, 1]", ["joint_1", "left_joint_2", "right_joint_2"]),
        ("kpt_shape: [3, 3]\nkpt_names:\n  0: [a, 'b', c]", ["a", "b", "c"]),
    ],
)
def test_keypoint_names_are_read_or_made_with_a_note(tmp_path: Path, text: str, names: list[str]) -> None:
    text = f"train: images/train\nnames: [cat]\n{text}\n"
    report = import_yolo(make_yolo(tmp_path / "yolo", {"a.png": ""}, yaml=text), tmp_path / "out")
    assert read_split(tmp_path / "out")["categories"][0]["keypoints"] == names
    assert any("does not name the keypoints" in note for note in report.notes) == ("a" not in names)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("kpt_shape: [3]", "kpt_shape in .* must be"),
        ("kpt_shape: [3, 4]", "kpt_shape in .* must be"),
        ("kpt_shape: three", "write kpt_shape as"),
        ("kpt_shape: [3, 3]\nflip_idx: [0, 1]", "flip_idx in .* each of the 3 keypoints"),
        ("kpt_shape: [3, 3]\nflip_idx: [1, 2, 0]", "flip_idx in .* each of the 3 keypoints"),
        ("kpt_shape: [3, 3]\nkpt_names:\n  0: [a, b]", "kpt_names in .* 3 distinct names"),
        ("kpt_shape: [3, 3]\nkpt_names:\n  0: [a, b, b]", "kpt_names in .* 3 distinct names"),
        ("kpt_shape: [3, 3]\nkpt_names:\n  cat: [a, b, c]", "number the classes .* under kpt_names"),
    ],
)
def test_descriptions_that_do_not_fit_are_refused(tmp_path: Path, text: str, message: str) -> None:
    text = f"train: images/train\nnames: [cat]\n{text}\n"
    with pytest.raises(CtnetError, match=message):
        import_yolo(make_yolo(tmp_path / "yolo", {"a.png": ""}, yaml=text), tmp_path / "out")


def make_pose(folder: Path, keypoints: Sequence[Sequence[float] | None], prefix: str = "instances") -> Path:
    """As make_coco, with keypoints for each of the annotations."""
    source = make_coco(folder, [[4, 3, 20, 12]] * len(keypoints))
    path = source / "annotations" / "instances_train.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    for category in content["categories"]:
        category["keypoints"] = JOINTS
    for annotation, values in zip(content["annotations"], keypoints, strict=True):
        if values is not None:
            annotation["keypoints"] = list(values)
    path.unlink()
    path.with_name(f"{prefix}_train.json").write_text(json.dumps(content), encoding="utf-8")
    return source


@settings(max_examples=15, deadline=None)
@given(
    st.lists(
        st.lists(
            st.tuples(st.integers(0, 100 * WIDTH), st.integers(0, 100 * HEIGHT), st.integers(0, 2)),
            min_size=3,
            max_size=3,
        ),
        max_size=4,
    )
)
def test_keypoints_there_and_back_change_nothing(
    tmp_path_factory: pytest.TempPathFactory, poses: list[list[tuple[int, int, int]]]
) -> None:
    folder = tmp_path_factory.mktemp("trip")
    keypoints = [
        [value for x, y, v in pose for value in ((x / 100, y / 100, v) if v else (0, 0, 0))] for pose in poses
    ]
    export_yolo(make_pose(folder / "coco", keypoints), folder / "yolo")
    report = import_yolo(folder / "yolo", folder / "back")
    assert report.problems == ()
    after = read_split(folder / "back")
    assert [category["keypoints"] for category in after["categories"]] == [JOINTS] * len(NAMES)
    assert [item["keypoints"] for item in after["annotations"]] == keypoints


def test_export_describes_the_keypoints_and_says_what_is_lost(tmp_path: Path) -> None:
    keypoints = [[4, 3, 2, -1, 5, 2, 8, 9, 1], None, [1, 2], [1, 1, 2, 1, 1, 3, 0, 0, 0]]
    source = make_pose(tmp_path / "coco", keypoints, prefix="person_keypoints")
    report = export_yolo(source, tmp_path / "yolo", prefix="person_keypoints")
    lines = (tmp_path / "yolo" / "labels" / "train" / "a.txt").read_text().splitlines()
    assert [len(line.split()) for line in lines] == [14, 14]
    assert lines[0].endswith(" 0.10000000 0.10000000 2 0 0 0 0.20000000 0.30000000 1")
    assert lines[1].split()[5:] == ["0"] * 9
    assert [problem.kind for problem in report.problems] == [
        "wrong number of keypoints",
        "visibility that is not 0, 1 or 2",
    ]
    assert any("1 keypoints outside their image" in note for note in report.notes)
    description = yaml.safe_load((tmp_path / "yolo" / "data.yaml").read_text(encoding="utf-8"))
    assert (description["kpt_shape"], description["flip_idx"]) == ([3, 3], [0, 2, 1])
    assert description["kpt_names"] == dict.fromkeys(range(len(NAMES)), JOINTS)
    with pytest.raises(CtnetError, match="has no split 'train' with prefix 'instances'"):
        export_yolo(source, tmp_path / "other", prefix="instances")


@pytest.mark.parametrize(
    ("keypoints", "kind"),
    [
        (5, "wrong number of keypoints"),
        (True, "wrong number of keypoints"),
        ("nose nose", "wrong number of keypoints"),
        ({"nose": [1, 1, 2]}, "wrong number of keypoints"),
        ([[1, 1, 2]] * 9, "keypoint that is not a number"),
        (["4", 3, 2] * 3, "keypoint that is not a number"),
        ([4, 3, True] * 3, "keypoint that is not a number"),
        ([4, None, 2] * 3, "keypoint that is not a number"),
        ([4, float("nan"), 2] * 3, "keypoint that is not a number"),
        ([4, 10**400, 2] * 3, "keypoint that is not a number"),
        ([4, 3, 0.5] * 3, "visibility that is not 0, 1 or 2"),
    ],
)
def test_export_lists_keypoints_that_are_none(tmp_path: Path, keypoints: object, kind: str) -> None:
    source = make_pose(tmp_path / "coco", [[4, 3, 2] * 3, [4, 3, 2] * 3])
    path = source / "annotations" / "instances_train.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    content["annotations"][0]["keypoints"] = keypoints
    path.write_text(json.dumps(content), encoding="utf-8")
    report = export_yolo(source, tmp_path / "yolo")
    assert [problem.kind for problem in report.problems] == [kind]
    assert len((tmp_path / "yolo" / "labels" / "train" / "a.txt").read_text().splitlines()) == 1


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (5, "keypoints of category 'cat' in .*coco: 5, expected a list; write a list of names there"),
        ("nose", "keypoints of category 'cat' in .*coco: 'nose', expected a list"),
        ([["nose"]], r"keypoints of category 'cat' in .*coco: at 0: \['nose'\], expected a string"),
        (["nose", "ear", "ear"], "two keypoints of category 'cat' have one name; rename one of them"),
    ],
)
def test_export_refuses_names_of_keypoints_that_are_none(tmp_path: Path, names: object, message: str) -> None:
    source = make_pose(tmp_path / "coco", [])
    path = source / "annotations" / "instances_train.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    for category in content["categories"]:
        category["keypoints"] = names
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(CtnetError, match=message):
        export_yolo(source, tmp_path / "yolo")
    assert not (tmp_path / "yolo").exists()


def test_export_wants_one_list_of_keypoints(tmp_path: Path) -> None:
    source = make_pose(tmp_path / "coco", [])
    path = source / "annotations" / "instances_train.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    del content["categories"][1]["keypoints"]
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(CtnetError, match="'cat' and 'traffic light' differ in their keypoints"):
        export_yolo(source, tmp_path / "yolo")


@pytest.mark.parametrize("key", ["train/../../../x", "'train x'", '"train\\0"', "val/x"])
def test_a_key_that_is_no_name_of_a_split_is_refused(tmp_path: Path, key: str) -> None:
    yaml = f"{key}: images/train\nnames: [cat]\n"
    source = make_yolo(tmp_path / "yolo", {"a.png": "0 0.5 0.5 0.25 0.25"}, yaml=yaml)
    with pytest.raises(CtnetError, match=r"data\.yaml names a split '.*'; a split's name is one word"):
        import_yolo(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(os.name != "posix", reason="devices and pipes are files here")
@pytest.mark.parametrize(
    "listed", ["train: {0}", "train: [images/train, {0}]", "train: images/train\nval: {0}"]
)
def test_what_could_be_read_without_end_is_no_list_of_images(tmp_path: Path, listed: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, kind in ((Path("/dev/zero"), "a device"), (tmp_path / "pipe", "a named pipe")):
        yaml = f"{listed.format(path)}\nnames: [cat]\n"
        source = make_yolo(tmp_path / "yolo", {"a.png": "0 0.5 0.5 0.25 0.25"}, yaml=yaml)
        with pytest.raises(CtnetError, match=f"cannot read {path}: it is {kind}; give a regular file"):
            import_yolo(source, tmp_path / "out")


# --- names are paths


def write_labelled(image: Path, label: Path, text: str = "0 0.5 0.5 0.5 0.5\n") -> None:
    write_image(image)
    label.parent.mkdir(parents=True, exist_ok=True)
    label.write_text(text)


@pytest.mark.parametrize("listed", [False, True])
def test_equal_names_in_two_folders_are_two_images(tmp_path: Path, listed: bool) -> None:
    source = tmp_path / "yolo"
    for camera in ("cam1", "cam2"):
        write_labelled(source / f"images/{camera}/0001.png", source / f"labels/{camera}/0001.txt")
    where = "[images/cam1, images/cam2]"
    if listed:
        (source / "train.txt").write_text("images/cam1/0001.png\n./images/cam2/0001.png\n")
        where = "train.txt"
    (source / "data.yaml").write_text(f"train: {where}\nnames: [cat]\n")
    report = import_yolo(source, tmp_path / "out")
    assert report.problems == ()
    content = read_split(tmp_path / "out")
    assert [image["file_name"] for image in content["images"]] == ["cam1/0001.png", "cam2/0001.png"]
    assert len(content["annotations"]) == 2
    assert len(list((tmp_path / "out/images/train").rglob("*.png"))) == 2


def test_an_image_listed_twice_is_a_problem_in_any_spelling(tmp_path: Path) -> None:
    source = tmp_path / "yolo"
    write_labelled(source / "images/a.png", source / "labels/a.txt")
    (source / "train.txt").write_text("images/a.png\n./images/../images/a.png\nimages\\a.png\n")
    (source / "data.yaml").write_text("train: train.txt\nnames: [cat]\n")
    report = import_yolo(source, tmp_path / "out")
    assert [problem.kind for problem in report.problems] == ["name listed twice"] * 2
    assert len(read_split(tmp_path / "out")["images"]) == 1


@pytest.mark.parametrize(
    "label", ["labels/Train/lot7/images/train/k1.txt", "images/Train/lot7/labels/train/k1.txt"]
)
def test_whichever_folder_images_becomes_labels(tmp_path: Path, label: str) -> None:
    source = tmp_path / "yolo"
    write_labelled(source / "images/Train/lot7/images/train/k1.png", source / label)
    (source / "data.yaml").write_text("train: images/Train\nnames: [cat]\n")
    report = import_yolo(source, tmp_path / "out")
    assert report.problems == ()
    assert len(read_split(tmp_path / "out")["annotations"]) == 1


def test_a_label_of_two_images_is_nobodys(tmp_path: Path) -> None:
    source = make_yolo(tmp_path / "yolo", {"a.png": "0 0.5 0.5 0.5 0.5\n", "b.png": "0 0.5 0.5 0.5 0.5\n"})
    write_image(source / "images/train/a.jpg")
    report = import_yolo(source, tmp_path / "out")
    assert sorted(str(problem) for problem in report.problems) == [
        f"train/{name}: label of several images (a.jpg and a.png)" for name in ("a.jpg", "a.png")
    ]
    assert [image["file_name"] for image in read_split(tmp_path / "out")["images"]] == ["b.png"]


def test_masks_become_polygons_and_come_back(tmp_path: Path) -> None:
    """A polygon, one with two parts, a run-length mask with a hole, an object without a mask, a bad one."""
    from pycocotools import mask as coco_mask

    hole = np.zeros((40, 60), np.uint8)
    hole[5:25, 10:40] = 1
    hole[10:20, 15:30] = 0
    encoded = coco_mask.encode(np.asfortranarray(hole))
    masks = [
        [[2, 2, 20, 2, 20, 12, 2, 12]],
        [[30, 2, 40, 2, 40, 10, 30, 10], [45, 5, 55, 5, 55, 20, 45, 20]],
        {"size": [40, 60], "counts": encoded["counts"].decode()},
        None,
        [[1, 1, 2, 2]],
    ]
    boxes = [[2, 2, 18, 10], [30, 2, 25, 18], [10, 5, 30, 20], [3, 30, 10, 8], [1, 1, 5, 5]]
    entries = [
        {"id": n, "image_id": 1, "category_id": 1, "bbox": box, "area": 1, "iscrowd": 0}
        | ({} if mask is None else {"segmentation": mask})
        for n, (box, mask) in enumerate(zip(boxes, masks, strict=True), 1)
    ]
    source = tmp_path / "coco"
    content = {
        "images": [{"id": 1, "file_name": "a.png", "width": 60, "height": 40}],
        "annotations": entries,
        "categories": [{"id": 1, "name": "thing"}],
    }
    write_json(source / "annotations" / "instances_train.json", content)
    cv2.imwrite(str(source / "a.png"), np.zeros((40, 60, 3), np.uint8))
    report = export_yolo(source, tmp_path / "yolo", polygons=True)
    assert [problem.kind for problem in report.problems] == ["unusable mask"]
    assert "1 objects without a mask were written as their boxes" in report.notes
    import_yolo(tmp_path / "yolo" / "data.yaml", tmp_path / "back")
    back = read_json(tmp_path / "back" / "annotations" / "instances_train.json")["annotations"]
    drawn = [outline_of(entry["segmentation"]).runs(60, 40).pixels for entry in back]
    wanted = [outline_of(mask).runs(60, 40).pixels for mask in masks[:2]] + [hole.astype(bool)]
    for one, other in zip(drawn, wanted, strict=False):
        assert (one ^ other).sum() <= 3
    assert [entry["bbox"] for entry in back] == boxes[:4]
