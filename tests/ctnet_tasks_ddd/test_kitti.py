"""KITTI to COCO JSON and back."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctnet.base.errors import CtnetError
from ctnet.data.dataset import Dataset
from ctnet_tasks_ddd.fields import entries_by_image, entry_of_fields, frame_name, labels_of
from ctnet_tasks_ddd.frame_files import FrameFiles
from ctnet_tasks_ddd.kitti import convert_kitti
from ctnet_tasks_ddd.kitti_eval import evaluate_objects
from ctnet_tasks_ddd.kitti_export import label_line, result_lines, write_labels, write_results
from ctnet_tasks_ddd.objects import RESULT_COLUMNS, KittiObjects, parse_lines

pytestmark = pytest.mark.filterwarnings("error")

SIZE = (1242, 375)


def read_split(folder: Path, split: str = "train") -> dict:
    return json.loads((folder / "annotations" / f"instances_{split}.json").read_text())


def test_objects_and_ignore_regions(make_kitti, lines, tmp_path: Path) -> None:
    report = convert_kitti(make_kitti({"000003": lines}), tmp_path / "out")
    assert report.problems == ()
    assert report.splits[0].objects == {"Pedestrian": 1, "Car": 1, "Cyclist": 0}
    content = read_split(tmp_path / "out")
    assert [(c["id"], c["name"]) for c in content["categories"]] == [
        (1, "Pedestrian"),
        (2, "Car"),
        (3, "Cyclist"),
    ]
    placed = [(a["category_id"], a["type"], a["line"], a["iscrowd"]) for a in content["annotations"]]
    regions = [(category, "DontCare", 5, 1) for category in (1, 2, 3)]
    assert placed == [(2, "Car", 1, 0), (1, "Pedestrian", 2, 0), (2, "Van", 3, 1), *regions]
    assert [a["ignore"] for a in content["annotations"]] == [0, 0, 1, 1, 1, 1]
    assert [other["type"] for other in content["images"][0]["others"]] == ["Tram"]


def test_fields_of_an_object_and_its_image(make_kitti, lines, tmp_path: Path) -> None:
    convert_kitti(make_kitti({"000003": lines}), tmp_path / "out")
    content = read_split(tmp_path / "out")
    car = content["annotations"][0]
    assert car["bbox"] == [600, 170, 100.25, 80.5]
    assert car["dim"] == [1.5, 1.6, 3.9]
    assert car["location"] == [1.25, 1.7, 20]
    assert (car["depth"], car["alpha"], car["rotation_y"]) == (20, -1.57, -1.52)
    assert (car["truncated"], car["occluded"]) == (0, 1)
    assert "dim" not in content["annotations"][-1]
    (image,) = content["images"]
    assert (image["file_name"], image["width"], image["height"]) == ("images/000003.png", *SIZE)
    assert image["calib"] == [
        [721.5377, 0, 609.5593, 44.85728],
        [0, 721.5377, 172.854, 0.2163791],
        [0, 0, 1, 0.002745884],
    ]


def test_images_are_placed_and_the_engine_reads_all(make_kitti, lines, tmp_path: Path) -> None:
    source = make_kitti({"000003": lines, "000004": []}, SIZE)
    report = convert_kitti(source, tmp_path / "out")
    assert report.notes == ()
    dataset = Dataset.open(tmp_path / "out", "train")
    assert dataset.problems == []
    assert dataset[0].image.shape == (375, 1242, 3)
    assert dataset.instances(0).crowd.tolist() == [False, False, True, True, True, True]
    assert len(dataset.instances(1)) == 0
    convert_kitti(source, tmp_path / "bare", images="none")
    assert not (tmp_path / "bare" / "images").exists()


def test_splits_come_from_image_sets_or_given_lists(make_kitti, lines, tmp_path: Path) -> None:
    source = make_kitti(dict.fromkeys(("000001", "000002", "000003"), lines))
    assert [split.name for split in convert_kitti(source, tmp_path / "a").splits] == ["train"]
    (source / "ImageSets").mkdir()
    for name, frames in {"train": "000001\n", "val": "000002\n\n", "test": "000001\n"}.items():
        (source / "ImageSets" / f"{name}.txt").write_text(frames)
    report = convert_kitti(source, tmp_path / "b")
    assert [(split.name, split.images) for split in report.splits] == [("train", 1), ("val", 1)]
    assert "1 frames with labels are in no list" in report.notes[0]
    assert "testing part" in report.notes[1]
    own = tmp_path / "first_half.txt"
    own.write_text("000003\n000001\n")
    report = convert_kitti(source, tmp_path / "c", [own])
    assert [(split.name, split.images) for split in report.splits] == [("first-half", 2)]
    names = [image["file_name"] for image in read_split(tmp_path / "c", "first-half")["images"]]
    assert names == ["images/000003.png", "images/000001.png"]
    own.write_text("000003\n000003\n")
    (found,) = convert_kitti(source, tmp_path / "d", [own]).problems
    assert str(found) == f"{own}:2: frame listed twice (000003)"
    with pytest.raises(CtnetError, match="two lists are called first-half"):
        convert_kitti(source, tmp_path / "d", [own, own])
    own.write_text("\n")
    with pytest.raises(CtnetError, match="lists no frame"):
        convert_kitti(source, tmp_path / "d", [own])


def test_labels_and_calibration_in_zips(make_kitti, lines, tmp_path: Path) -> None:
    source = make_kitti({"000003": lines})
    packed = tmp_path / "packed"
    packed.mkdir()
    for part in ("label_2", "calib"):
        with zipfile.ZipFile(packed / f"data_object_{part}.zip", "w") as archive:
            archive.write(source / "training" / part / "000003.txt", f"training/{part}/000003.txt")
            archive.writestr("testing/calib/000001.txt", "P2: 1")
    convert_kitti(source, tmp_path / "a")
    convert_kitti(packed, tmp_path / "b")
    assert read_split(tmp_path / "a")["annotations"] == read_split(tmp_path / "b")["annotations"]
    assert read_split(tmp_path / "a")["images"] == read_split(tmp_path / "b")["images"]


def test_an_index_tells_calibration_and_size(make_kitti, lines, tmp_path: Path) -> None:
    source = make_kitti({"000003": lines})
    (source / "calib").mkdir()
    (source / "calib" / "own.txt").write_text("P2: 500 0 320 0 0 500 240 0 0 0 1 0")
    (source / "calib_index.txt").write_text("000003 own 1300 480\n")
    convert_kitti(source, tmp_path / "out")
    (image,) = read_split(tmp_path / "out")["images"]
    assert (image["width"], image["height"], image["calib"][0]) == (1300, 480, [500, 0, 320, 0])
    (source / "calib_index.txt").write_text("000003 own 1300\n")
    with pytest.raises(CtnetError, match=r"calib_index\.txt:1 is not a line FRAME NAME WIDTH HEIGHT"):
        convert_kitti(source, tmp_path / "out")


# --- bad input


def problem(make_kitti, tmp_path: Path, lines: list[str], **options) -> str:
    """The only problem of a data set, which --strict refuses with one line."""
    source = make_kitti({"000003": lines}, **options)
    (found,) = convert_kitti(source, tmp_path / "out").problems
    with pytest.raises(CtnetError) as caught:
        convert_kitti(source, tmp_path / "strict", strict=True)
    assert found.kind in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "strict").exists()
    return str(found)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (" -1.52", "", "000003.txt:2: line of 14 columns (a label has 15: class truncation"),
        ("-1.52", "-1.52 0.9", "000003.txt:2: line of 16 columns (a label has 15: remove the score"),
        ("20.00", "nan", "000003.txt:2: z that is not a finite number (it is 'nan')"),
        ("20.00", "far", "000003.txt:2: z that is not a finite number (it is 'far')"),
        (
            "600.00",
            "1e-99999999999999999999",
            "box that is not four finite numbers (1e-99999999999999999999 1",
        ),
        (
            "250.50",
            "-1e-99999999999999999999",
            "box that is not four finite numbers (600.00 170.00 700.25 -1e",
        ),
        ("600.00", "1e99999999999999999999", "000003.txt:2: left that is not a finite number (it is '1e9999"),
        ("1.50", "1e-99999999999999999999", "dimensions that are not positive (height 1e-99999"),
        ("1.60", "-1.60", "dimensions that are not positive (height 1.50, width -1.60, length 3.90)"),
        ("700.25", "500.00", "000003.txt:2: box without area (left 600.00, top 170.00, right 500.00, bot"),
        ("600.00 170.00 700.25", "1300 170 1400", "box outside the image (left 1300, top 170, right 1400"),
    ],
)
def test_bad_lines_are_listed_and_skipped(make_kitti, lines, tmp_path: Path, old, new, message) -> None:
    bad = lines[0].replace(old, new, 1) if old != " -1.52" else lines[0].removesuffix(old)
    assert message in problem(make_kitti, tmp_path, [lines[1], bad])
    assert [a["type"] for a in read_split(tmp_path / "out")["annotations"]] == ["Pedestrian"]


def test_behind_the_camera_is_listed_and_ignored(make_kitti, lines, tmp_path: Path) -> None:
    behind = lines[0].replace("20.00", "-0.50")
    message = "000003.txt:1: location behind the camera (z -0.5; kept as an ignore region)"
    assert problem(make_kitti, tmp_path, [behind]) == message
    (annotation,) = read_split(tmp_path / "out")["annotations"]
    assert (annotation["iscrowd"], annotation["depth"]) == (1, -0.5)
    assert label_line(annotation) == behind


def test_a_cut_object_that_reaches_in_front_of_the_camera_is_not_a_bad_record(
    make_kitti, lines, tmp_path: Path
) -> None:
    """As line 1 of the benchmark's own 005029.txt."""
    passing = lines[0].replace("20.00", "-0.50").replace("0.00", "0.90", 1)
    report = convert_kitti(make_kitti({"000003": [passing]}), tmp_path / "out", images="none", strict=True)
    assert not report.problems
    assert "their centre is behind the camera" in report.notes[0]
    assert report.notes[0].endswith(": 000003.txt:1")
    (annotation,) = read_split(tmp_path / "out")["annotations"]
    assert (annotation["iscrowd"], annotation["ignore"]) == (1, 1)


def test_a_cut_object_wholly_behind_the_camera_is_a_bad_record(make_kitti, lines, tmp_path: Path) -> None:
    behind = lines[0].replace("20.00", "-5.00").replace("0.00", "0.90", 1)
    assert "000003.txt:1: location behind the camera (z -5" in problem(make_kitti, tmp_path, [behind])


@pytest.mark.parametrize(
    ("p2", "size", "message"),
    [
        ("1 2 3", SIZE, "calibration whose P2 is not 12 finite numbers (calib/000003.txt has 3 values)"),
        ("nan " * 12, SIZE, "calibration whose P2 is not 12 finite numbers"),
        ("0 " * 12, SIZE, "calibration whose P2 is not a camera"),
        (
            None,
            (1224, 370),
            "calibration of another frame (it is of 1242x375 images, the image has 1224x370)",
        ),
        (
            "500 0 900 0 0 500 200 0 0 0 1 0",
            (640, 375),
            "its principal point is 900, 200, the image has 640x",
        ),
        ("500 0 320 0 0 500 240 0 0 0 1 0", None, "no image size (there is no image, and the camera is not"),
    ],
)
def test_bad_calibrations(make_kitti, lines, tmp_path: Path, p2, size, message) -> None:
    options = {"size": size} | ({"p2": p2} if p2 else {})
    assert message in problem(make_kitti, tmp_path, lines[:1], **options)
    assert read_split(tmp_path / "out")["images"] == []


def test_missing_files_are_listed(make_kitti, lines, tmp_path: Path) -> None:
    names = [f"{number:06d}" for number in range(1, 6)]
    source = make_kitti(dict.fromkeys(names, lines), SIZE) / "training"
    (source / "calib" / "000001.txt").unlink()
    (source / "calib" / "000002.txt").write_text("P0: 1\n")
    (source / "label_2" / "000003.txt").unlink()
    (source / "image_2" / "000004.png").unlink()
    listed = tmp_path / "all.txt"
    listed.write_text("\n".join([*names, "000099"]))
    report = convert_kitti(source.parent, tmp_path / "out", [listed])
    assert [str(found) for found in report.problems] == [
        "000001.txt: no calibration (looked for 000001.txt)",
        "000002.txt: calibration without P2 (calib/000002.txt has no line that begins with P2:)",
        "000003.txt: no label file (listed in all)",
        "000004.txt: no file in image_2 (looked for 000004.png)",
        "000099.txt: no label file (listed in all)",
    ]
    assert report.splits[0].images == 1


def test_an_image_without_a_label_is_listed(make_kitti, lines, tmp_path: Path) -> None:
    source = make_kitti({"000001": lines, "000002": lines}, SIZE)
    (source / "training" / "label_2" / "000002.txt").unlink()
    (found,) = convert_kitti(source, tmp_path / "out").problems
    assert str(found) == "000002.txt: no label file (it has an image)"


def test_broken_image_is_listed(make_kitti, lines, tmp_path: Path) -> None:
    source = make_kitti({"000001": lines}, SIZE)
    (source / "training" / "image_2" / "000001.png").write_bytes(b"no image")
    (found,) = convert_kitti(source, tmp_path / "out").problems
    assert found.kind == "image that cannot be read"


def test_no_kitti_data(tmp_path: Path, make_kitti, lines) -> None:
    with pytest.raises(CtnetError, match="a folder is needed and it does not exist"):
        convert_kitti(tmp_path / "nowhere", tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(CtnetError, match="is not KITTI data: it has neither training/label_2"):
        convert_kitti(tmp_path / "empty", tmp_path / "out")
    source = make_kitti({"000003": lines})
    (source / "training" / "calib" / "000003.txt").unlink()
    (source / "training" / "calib").rmdir()
    with pytest.raises(CtnetError, match="has no calibration: put the benchmark's training/calib"):
        convert_kitti(source, tmp_path / "out")


# --- and back


def test_labels_come_back_as_they_were(make_kitti, lines, tmp_path: Path) -> None:
    source = make_kitti({"000003": [*lines, *lines[:2]], "000004": []})
    convert_kitti(source, tmp_path / "out")
    assert write_labels(tmp_path / "out", tmp_path / "back") == 2
    for name in ("000003.txt", "000004.txt"):
        original = (source / "training" / "label_2" / name).read_bytes()
        assert (tmp_path / "back" / name).read_bytes() == original


@pytest.mark.thorough
@pytest.mark.real
def test_every_line_of_the_benchmark_comes_back(shared_data: Path, tmp_path: Path) -> None:
    source = shared_data / "kitti-labels"
    convert_kitti(source, tmp_path)
    labels = FrameFiles(source / "label_2.zip")
    compared = 0
    for file in (tmp_path / "annotations").iterdir():
        content = json.loads(file.read_text())
        by_image = entries_by_image(content)
        for image in content["images"]:
            original = labels.read(frame_name(image)).splitlines()
            assert [label_line(entry) for entry in by_image[image["id"]]] == original
            compared += len(original)
    assert compared == 51865


@settings(max_examples=50, deadline=None)
@given(st.lists(st.decimals(-999, 999, places=4), min_size=11, max_size=11), st.integers(0, 3))
def test_any_number_of_decimals_comes_back(numbers, occlusion: int) -> None:
    fields = ["Car", "0.50", str(occlusion), *map(str, numbers), "0.0001"]
    again = label_line(json.loads(json.dumps(entry_of_fields(fields, 1)))).split()
    assert again[:3] == fields[:3]
    assert [float(value) for value in again[3:]] == [float(value) for value in fields[3:]]


def test_labels_in_memory_are_those_of_the_files(make_kitti, lines, tmp_path: Path) -> None:
    convert_kitti(make_kitti({"000003": lines, "000004": lines[:1]}), tmp_path / "out")
    objects = labels_of(read_split(tmp_path / "out"))
    assert objects.frame_names == ("000003", "000004")
    assert objects.types == ("Car", "Pedestrian", "Van", "Tram", "DontCare", "Car")
    assert objects.frame.tolist() == [0, 0, 0, 0, 0, 1]
    _, values = parse_lines("\n".join(lines), 15, "x")
    assert objects.boxes[:5].tolist() == values[:, 3:7].tolist()
    assert objects.boxes_3d[4].tolist() == [-1000, -1000, -1000, -1, -1, -1, -10]


def detection(image: int, **changes) -> dict:
    entry = {
        "image_id": image,
        "category_id": 2,
        "bbox": [600, 170, 100.25, 80.5],
        "score": 0.123456789,
        "alpha": -1.57,
        "dim": [1.5, 1.6, 3.9],
        "location": [1.25, 1.7, 20],
        "rotation_y": -1.52,
    }
    return {**entry, **changes}


def test_results_have_a_file_for_every_image(make_kitti, lines, tmp_path: Path) -> None:
    convert_kitti(make_kitti({"000003": lines, "000004": lines}), tmp_path / "out")
    flat = {key: value for key, value in detection(1).items() if key in ("image_id", "category_id", "bbox")}
    (tmp_path / "results.json").write_text(json.dumps([detection(1), {**flat, "score": 1}]))
    assert write_results(tmp_path / "out", "train", tmp_path / "results.json", tmp_path / "back") == 2
    assert (tmp_path / "back" / "000004.txt").read_text() == ""
    first, second = (tmp_path / "back" / "000003.txt").read_text().splitlines()
    box = "600.0000 170.0000 700.2500 250.5000"
    pose = "1.5000 1.6000 3.9000 1.2500 1.7000 20.0000 -1.5200"
    assert first == f"Car -1 -1 -1.5700 {box} {pose} 0.12345679"
    nothing = "-1.0000 -1.0000 -1.0000 -1000.0000 -1000.0000 -1000.0000 -10.0000"
    assert second == f"Car -1 -1 -10.0000 {box} {nothing} 1"
    files = FrameFiles(tmp_path / "back")
    parsed = [parse_lines(files.read(name), RESULT_COLUMNS, name) for name in files.names]
    results = KittiObjects.of_frames(files.names, [p[0] for p in parsed], [p[1] for p in parsed])
    figures = evaluate_objects(labels_of(read_split(tmp_path / "out")), results).figures
    assert set(figures["car"]) == {"detection", "ground", "3d"}  # one has no orientation


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_id": 9}, "detection 1 of results cannot be written: image_id 9 is not in the split"),
        ({"category_id": 9}, "detection 1 of results cannot be written: category_id 9 is unknown"),
        ({"score": float("nan")}, "detection 1 .* missing or not finite"),
        ({"location": [1, 2]}, "detection 1 .* missing or not finite"),
        ({"bbox": [1, 2, 3]}, "detection 1 of results cannot be written: its bbox is not four numbers"),
        ({"bbox": [1, 2, 3, float("inf")]}, "detection 1 .* missing or not finite"),
    ],
)
def test_bad_detections_are_named(make_kitti, lines, tmp_path: Path, changes, message) -> None:
    convert_kitti(make_kitti({"000003": lines}), tmp_path / "out")
    content = read_split(tmp_path / "out")
    with pytest.raises(CtnetError, match=message):
        result_lines(content, [detection(1), detection(1, **changes)])
    incomplete = detection(1)
    del incomplete["score"]
    with pytest.raises(CtnetError, match="detection 0 of results cannot be written: it has no 'score'"):
        result_lines(content, [incomplete])


def test_export_mistakes(make_kitti, lines, tmp_path: Path) -> None:
    with pytest.raises(CtnetError, match="has no JSON file in annotations"):
        write_labels(tmp_path, tmp_path / "back")
    convert_kitti(make_kitti({"000003": lines}), tmp_path / "out")
    (tmp_path / "results.json").write_text("{}")
    with pytest.raises(CtnetError, match="no split called 'test'"):
        write_results(tmp_path / "out", "test", tmp_path / "results.json", tmp_path / "back")
    with pytest.raises(CtnetError, match="it must be a list of detections"):
        write_results(tmp_path / "out", "train", tmp_path / "results.json", tmp_path / "back")


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (("annotations", 0, "category_id"), 7, r"annotation 1 of .*train\.json has category_id 7, which the"),
        (("annotations", 0, "image_id"), 7, r"annotation 1 of .*train\.json has image_id 7, which the file"),
        (
            ("annotations", 0, "category_id"),
            "1",
            r"train\.json: at annotations\.0\.category_id: '1', expected",
        ),
        (("annotations", 0, "dim"), [1, 2], r"train\.json: at annotations\.0\.dim"),
        (("annotations", 0, "type"), "a\nb", r"the class 'a\\nb' cannot be written in KITTI's files; rename"),
        (("categories", 0, "name"), "traffic light", "the class 'traffic light' cannot be written"),
        (("categories", 0, "name"), "", "the class '' cannot be written"),
        (("images", 0, "others"), [{"bbox": [1, 2, 3, 4]}], r"at images\.0\.others\.0\.type: missing"),
        (("categories",), None, r"train\.json: at categories: None, expected a list"),
    ],
)
def test_what_a_label_cannot_say_is_named(tmp_path: Path, place, value, message) -> None:
    """A COCO file of any origin; without 3D fields."""
    content: dict[str, Any] = {
        "images": [{"id": 3, "file_name": "000003.png"}],
        "annotations": [{"id": 1, "image_id": 3, "category_id": 2, "bbox": [1, 2, 3, 4]}],
        "categories": [{"id": 2, "name": "Car"}],
    }
    (tmp_path / "annotations").mkdir()
    file = tmp_path / "annotations/instances_train.json"
    file.write_text(json.dumps(content))
    assert write_labels(tmp_path, tmp_path / "good") == 1
    holder: Any = content
    for key in place[:-1]:
        holder = holder[key]
    holder[place[-1]] = value
    file.write_text(json.dumps(content))
    with pytest.raises(CtnetError, match=message):
        write_labels(tmp_path, tmp_path / "back")
    assert not (tmp_path / "back").exists()


def test_a_result_of_a_class_of_two_words_is_refused() -> None:
    content = {
        "images": [{"id": 1, "file_name": "lot\\000001.png"}],
        "categories": [{"id": 2, "name": "big car"}],
    }
    assert list(result_lines(content, [])) == ["000001"]
    with pytest.raises(CtnetError, match="the class 'big car' cannot be written"):
        result_lines(content, [{"image_id": 1, "category_id": 2, "bbox": [1, 2, 3, 4], "score": 0.5}])


def test_two_images_of_one_frame_do_not_replace_each_other(tmp_path: Path) -> None:
    names = ("a/000001.png", "b/000001.png")
    content = {
        "images": [{"id": number, "file_name": name} for number, name in enumerate(names)],
        "annotations": [],
        "categories": [],
    }
    (tmp_path / "annotations").mkdir()
    for split, images in (("train", content["images"][:1]), ("trainval", content["images"][:1])):
        (tmp_path / f"annotations/instances_{split}.json").write_text(
            json.dumps({**content, "images": images})
        )
    assert write_labels(tmp_path, tmp_path / "back") == 1  # an image may be in two splits
    (tmp_path / "annotations/instances_val.json").write_text(json.dumps(content))
    message = "the images a/000001.png and b/000001.png would both become frame 000001; rename one of them"
    with pytest.raises(CtnetError, match=message):
        write_labels(tmp_path, tmp_path / "again")
    with pytest.raises(CtnetError, match=message):
        result_lines(content, [])
    assert not (tmp_path / "again").exists()
