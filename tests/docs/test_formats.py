"""docs/formats.md: every row is tried on files in that tool's layout, with the row's command."""

from __future__ import annotations

import base64
import io
import json
import re
import sys
from collections.abc import Callable, Mapping
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from ctnet.cli import main
from ctnet.data.check import check_dataset
from ctnet.data.dataset import open_splits

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "formats.md").read_text("utf-8")
WIDTH, HEIGHT = 64, 48
BOX = [10, 12, 20, 16]  # of every object, xywh
CORNERS = [10, 12, 30, 12, 30, 28, 10, 28]

Counts = Mapping[str, tuple[int, int]]
MAKERS: dict[tuple[str, str], tuple[Callable[[Path], None], Counts | str]] = {}


def rows() -> list[tuple[str, str, str]]:
    """Tool, export and command of each row."""
    lines = [line for line in TEXT.splitlines() if line.startswith("| ")][1:]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [(row[0], row[1], row[2].strip("`")) for row in cells]


def layout(tool: str, export: str, expected: Counts | str) -> Callable[..., Callable[[Path], None]]:
    """Registers a tool's layout and the expected result: counts by split, or words of the error."""

    def register(make: Callable[[Path], None]) -> Callable[[Path], None]:
        MAKERS[tool, export] = make, expected
        return make

    return register


def write(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")


def picture(path: Path, width: int = WIDTH, height: int = HEIGHT) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((height, width, 3), 90, np.uint8))


def coco(
    names: list[str], categories: Any = ({"id": 1, "name": "bolt"},), first: int = 1, **extra: Any
) -> Any:
    images = [
        {"id": first + n, "file_name": name, "width": WIDTH, "height": HEIGHT} for n, name in enumerate(names)
    ]
    box = {"category_id": 1, "bbox": BOX, "area": 320, "iscrowd": 0, "segmentation": []}
    annotations = [{"id": first + n, "image_id": first + n, **box, **extra} for n in range(len(names))]
    return {"images": images, "annotations": annotations, "categories": list(categories)}


def voc(name: str, more: str = "") -> str:
    return (
        f"<annotation><folder></folder><filename>{name}</filename>"
        f"<size><width>{WIDTH}</width><height>{HEIGHT}</height><depth>3</depth></size>{more}"
        "<object><name>bolt</name><pose>Unspecified</pose><truncated>0</truncated><difficult>0</difficult>"
        "<bndbox><xmin>11</xmin><ymin>13</ymin><xmax>30</xmax><ymax>28</ymax></bndbox></object></annotation>"
    )


YOLO = f"0 {20 / WIDTH} {20 / HEIGHT} {20 / WIDTH} {16 / HEIGHT}\n"
SHARES = " ".join(str(value / (HEIGHT if n % 2 else WIDTH)) for n, value in enumerate(CORNERS))
TWO = {"train": (2, 2)}
THREE = {"train": (2, 2), "val": (1, 1)}


@layout("COCO", "`annotations/instances_<split>.json`", THREE)
def _(folder: Path) -> None:
    for split, names in (("train", ["a.jpg", "b.jpg"]), ("val", ["c.jpg"])):
        write(folder / f"annotations/instances_{split}.json", coco(names))
        for name in names:
            picture(folder / split / name)


@layout("COCO", "any JSON, images anywhere", THREE)
def _(folder: Path) -> None:
    write(folder / "labels_train.json", coco(["shots\\a.jpg", "b.jpg"]))
    write(folder / "labels_validation.json", coco(["https://host/x/c%20c.jpg"]))
    for name in ("pool/shots/a.jpg", "pool/b.jpg", "c c.jpg"):
        picture(folder / name)


@layout("Roboflow", "COCO", THREE)
def _(folder: Path) -> None:
    groups = [{"id": 0, "name": "parts", "supercategory": "none"}]
    groups.append({"id": 1, "name": "bolt", "supercategory": "parts"})
    write(folder / "README.roboflow.txt", "exported\n")
    for split, names in (("train", ["a_jpg.rf.01.jpg", "b_jpg.rf.02.jpg"]), ("valid", ["c_jpg.rf.03.jpg"])):
        write(folder / split / "_annotations.coco.json", coco(names, groups, first=0))
        for name in names:
            picture(folder / split / name)


@layout("Roboflow", "YOLOv5 to YOLO11", THREE)
def _(folder: Path) -> None:
    text = (
        "train: ../train/images\nval: ../valid/images\n\nnc: 1\nnames: ['bolt']\n\nroboflow:\n  version: 1\n"
    )
    write(folder / "data.yaml", text)
    for split, name in (("train", "a"), ("train", "b"), ("valid", "c")):
        picture(folder / split / "images" / f"{name}_jpg.rf.0a.jpg")
        write(folder / split / "labels" / f"{name}_jpg.rf.0a.txt", YOLO)


@layout("Roboflow", "Pascal VOC", THREE)
def _(folder: Path) -> None:
    for split, name in (("train", "a"), ("train", "b"), ("valid", "c")):
        picture(folder / split / f"{name}_jpg.rf.0a.jpg")
        write(folder / split / f"{name}_jpg.rf.0a.xml", voc(f"{name}_jpg.rf.0a.jpg"))


@layout("CVAT", "COCO 1.0", {"default": (2, 2)})
def _(folder: Path) -> None:
    attributes = {"attributes": {"occluded": False}}
    write(folder / "annotations/instances_default.json", coco(["a.jpg", "b.jpg"], **attributes))
    for name in ("a", "b"):
        picture(folder / "images" / "default" / f"{name}.jpg")


@layout("CVAT", "YOLO 1.1", TWO)
def _(folder: Path) -> None:
    write(
        folder / "obj.data", "classes = 1\ntrain = data/train.txt\nnames = data/obj.names\nbackup = backup/\n"
    )
    write(folder / "obj.names", "bolt\n")
    write(folder / "train.txt", "data/obj_train_data/a.jpg\ndata/obj_train_data/b.jpg\n")
    for name in ("a", "b"):
        picture(folder / "obj_train_data" / f"{name}.jpg")
        write(folder / "obj_train_data" / f"{name}.txt", YOLO)


@layout("CVAT", "Ultralytics YOLO Detection 1.0", TWO)
def _(folder: Path) -> None:
    write(folder / "data.yaml", "names:\n  0: bolt\npath: .\ntrain: train.txt\n")
    write(folder / "train.txt", "images/train/a.jpg\nimages/train/b.jpg\n")
    for name in ("a", "b"):
        picture(folder / "images/train" / f"{name}.jpg")
        write(folder / "labels/train" / f"{name}.txt", YOLO)


@layout("CVAT", "Pascal VOC 1.1", {"default": (2, 2)})
def _(folder: Path) -> None:
    write(folder / "labelmap.txt", "# label:color_rgb:parts:actions\nbackground:0,0,0::\nbolt:1,2,3::\n")
    write(folder / "ImageSets/Main/default.txt", "a\nb\n")
    for name in ("a", "b"):
        picture(folder / "JPEGImages" / f"{name}.jpg")
        write(folder / "Annotations" / f"{name}.xml", voc(f"{name}.jpg", "<segmented>0</segmented>"))


@layout("CVAT", "CVAT for images 1.1", "CVAT's own XML, which is not read: export COCO 1.0")
def _(folder: Path) -> None:
    write(
        folder / "annotations.xml", '<?xml version="1.0"?>\n<annotations><version>1.1</version></annotations>'
    )
    picture(folder / "images" / "a.jpg")


@layout("Label Studio", "COCO", TWO)
def _(folder: Path) -> None:
    write(
        folder / "result.json", {**coco(["images/1b2c-a.jpg", "images/1b2d-b.jpg"]), "info": {"year": 2024}}
    )
    for name in ("1b2c-a", "1b2d-b"):
        picture(folder / "images" / f"{name}.jpg")


@layout("Label Studio", "YOLO", TWO)
def _(folder: Path) -> None:
    write(folder / "classes.txt", "bolt\n")
    write(folder / "notes.json", {"categories": [{"id": 0, "name": "bolt"}], "info": {"year": 2024}})
    for name in ("1b2c-a", "1b2d-b"):
        picture(folder / "images" / f"{name}.jpg")
        write(folder / "labels" / f"{name}.txt", YOLO)


@layout("Label Studio", "Pascal VOC XML", TWO)
def _(folder: Path) -> None:
    for name in ("1b2c-a", "1b2d-b"):
        picture(folder / "images" / f"{name}.jpg")
        write(folder / "Annotations" / f"{name}.xml", voc(name))


@layout("Label Studio", "JSON", "Label Studio's own JSON, which is not read: export COCO")
def _(folder: Path) -> None:
    result = {"original_width": 64, "from_name": "label", "value": {"x": 1}, "type": "rectanglelabels"}
    write(folder / "project-1.json", [{"id": 1, "annotations": [{"id": 7, "result": [result]}]}])


@layout("labelImg", "Pascal VOC", TWO)
def _(folder: Path) -> None:
    for name in ("a", "b"):
        picture(folder / f"{name}.jpg")
        write(folder / f"{name}.xml", voc(f"{name}.jpg", f"<path>C:\\pictures\\{name}.jpg</path>"))


@layout("labelImg", "YOLO", TWO)
def _(folder: Path) -> None:
    write(folder / "classes.txt", "bolt\n")
    for name in ("a", "b"):
        picture(folder / f"{name}.jpg")
        write(folder / f"{name}.txt", YOLO)


def labelme(name: str, points: list[list[float]], kind: str, **extra: Any) -> dict[str, Any]:
    shape = {"label": "bolt", "points": points, "group_id": None, "description": "", "shape_type": kind}
    shapes = [{**shape, "flags": {}, "mask": None, **extra}]
    size = {"imagePath": name, "imageData": None, "imageHeight": HEIGHT, "imageWidth": WIDTH}
    return {"version": "5.5.0", "flags": {}, "shapes": shapes, **size}


@layout("LabelMe", "JSON", {"train": (4, 4)})
def _(folder: Path) -> None:
    _, mask = cv2.imencode(".png", np.full((16, 20), 255, np.uint8))
    shapes: dict[str, tuple[list[list[float]], str, dict[str, Any]]] = {
        "a": ([[10, 12], [30, 12], [30, 28], [10, 28]], "polygon", {}),
        "b": ([[30, 28], [10, 12]], "rectangle", {}),
        "c": ([[10, 12], [29, 27]], "mask", {"mask": base64.b64encode(mask.tobytes()).decode()}),
        "d": ([[10, 12], [30, 12], [30, 28], [10, 28]], "polygon", {}),
    }
    for name, (points, kind, extra) in shapes.items():
        picture(folder / f"{name}.jpg")
        write(folder / f"{name}.json", labelme(f"{name}.jpg", points, kind, **extra))
    document = json.loads((folder / "d.json").read_text())
    document["imageData"] = base64.b64encode((folder / "d.jpg").read_bytes()).decode()
    (folder / "d.jpg").unlink()
    write(folder / "d.json", document)


def via(names: list[str]) -> dict[str, Any]:
    rect = {"name": "rect", "x": 10, "y": 12, "width": 20, "height": 16}
    outline = {"name": "polygon", "all_points_x": CORNERS[::2], "all_points_y": CORNERS[1::2]}
    return {
        f"{name}1234": {
            "filename": name,
            "size": 1234,
            "regions": [{"shape_attributes": shape, "region_attributes": {"class": "bolt"}}],
            "file_attributes": {},
        }
        for name, shape in zip(names, (rect, outline), strict=True)
    }


@layout("VIA 2", "project or annotations as JSON", TWO)
def _(folder: Path) -> None:
    attributes = {"region": {"class": {"type": "text"}}, "file": {}}
    project = {"_via_settings": {"project": {"name": "x"}}, "_via_img_metadata": via(["a.jpg", "b.jpg"])}
    write(folder / "via_project.json", {**project, "_via_attributes": attributes})
    for name in ("a", "b"):
        picture(folder / f"{name}.jpg")


@layout("VIA 2", "annotations as CSV", TWO)
def _(folder: Path) -> None:
    lines = [
        "filename,file_size,file_attributes,region_count,region_id,region_shape_attributes,region_attributes"
    ]
    for entry in via(["a.jpg", "b.jpg"]).values():
        picture(folder / entry["filename"])
        region = entry["regions"][0]
        cells = [
            json.dumps(region[key]).replace('"', '""') for key in ("shape_attributes", "region_attributes")
        ]
        lines.append(f'{entry["filename"]},1234,"{{}}",1,0,"{cells[0]}","{cells[1]}"')
    write(folder / "via_export.csv", "\n".join(lines) + "\n")


@layout("VIA 3", "project", "VIA 3's own JSON, which is not read: export COCO")
def _(folder: Path) -> None:
    keys = ("project", "config", "attribute", "file", "metadata", "view")
    write(folder / "project.json", {key: {"pid": "x"} for key in keys})


@layout("Supervisely", "COCO", TWO)
def _(folder: Path) -> None:
    write(folder / "ds0/annotations/instances.json", coco(["a.jpg", "b.jpg"]))
    for name in ("a", "b"):
        picture(folder / "ds0/images" / f"{name}.jpg")


@layout("Supervisely", "Supervisely JSON", "a Supervisely project, which is not read: export COCO")
def _(folder: Path) -> None:
    write(folder / "meta.json", {"classes": [{"title": "bolt", "shape": "rectangle"}], "tags": []})
    write(folder / "ds0/ann/a.jpg.json", {"size": {"height": 48, "width": 64}, "objects": []})
    picture(folder / "ds0/img/a.jpg")


@layout("Labelbox", "NDJSON", "Labelbox's own JSON, which is not read")
def _(folder: Path) -> None:
    write(
        folder / "export.ndjson",
        json.dumps({"data_row": {"id": "x"}, "projects": {"p": {"labels": []}}}) + "\n",
    )


@layout("Ultralytics", "detect and segment", {"train": (2, 2), "val": (1, 1)})
def _(folder: Path) -> None:
    write(
        folder / "data.yaml",
        "path: ../datasets/bolts\ntrain: images/train\nval: images/val\nnames:\n  0: bolt\n",
    )
    for split, name, text in (("train", "a", YOLO), ("train", "b", f"0 {SHARES}\n"), ("val", "c", YOLO)):
        picture(folder / "images" / split / f"{name}.jpg")
        write(folder / "labels" / split / f"{name}.txt", text)


@layout("Ultralytics", "pose", TWO)
def _(folder: Path) -> None:
    write(
        folder / "data.yaml", "train: images/train\nkpt_shape: [2, 3]\nflip_idx: [0, 1]\nnames:\n  0: bolt\n"
    )
    for name in ("a", "b"):
        picture(folder / "images/train" / f"{name}.jpg")
        write(folder / "labels/train" / f"{name}.txt", f"{YOLO.strip()} 0.3 0.4 2 0 0 0\n")


@layout("Ultralytics", "OBB", TWO)
def _(folder: Path) -> None:
    write(folder / "data.yaml", "train: images/train\nnames: [bolt]\n")
    for name in ("a", "b"):
        picture(folder / "images/train" / f"{name}.jpg")
        write(folder / "labels/train" / f"{name}.txt", f"0 {SHARES}\n")


@layout("Pascal VOC", "VOCdevkit", THREE)
def _(folder: Path) -> None:
    year = folder / "VOC2012"
    write(year / "ImageSets/Main/train.txt", "2008_000001\n2008_000002\n")
    write(year / "ImageSets/Main/val.txt", "2008_000003\n")
    write(year / "ImageSets/Main/bolt_train.txt", "2008_000001 1\n2008_000002 -1\n")
    for number in (1, 2, 3):
        picture(year / "JPEGImages" / f"2008_00000{number}.jpg")
        write(year / "Annotations" / f"2008_00000{number}.xml", voc(f"2008_00000{number}.jpg"))


@layout("KITTI", "object detection", TWO)
def _(folder: Path) -> None:
    matrix = "700 0 32 0 0 700 24 0 0 0 1 0"
    for frame in ("000000", "000001"):
        picture(folder / "training/image_2" / f"{frame}.png")
        write(folder / "training/calib" / f"{frame}.txt", "".join(f"P{n}: {matrix}\n" for n in range(4)))
        label = "Car 0.00 0 0.10 10.00 12.00 30.00 28.00 1.50 1.60 4.00 -0.50 0.50 40.00 0.09\n"
        write(folder / "training/label_2" / f"{frame}.txt", label)


@layout("DOTA", "labelTxt", TWO)
def _(folder: Path) -> None:
    for name in ("P0001", "P0002"):
        picture(folder / "train/images" / f"{name}.png")
        text = "imagesource:GoogleEarth\ngsd:0.15\n10 12 30 12 30 28 10 28 ship 0\n"
        write(folder / "train/labelTxt" / f"{name}.txt", text)


def call(*arguments: str) -> tuple[int, str]:
    """Exit code and stderr of the command line."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr(sys, "argv", ["ctnet", *arguments])
        try:
            main()
        except SystemExit as error:
            code = int(error.code or 0)
    return code, err.getvalue()


def test_every_row_has_a_layout_and_every_layout_a_row() -> None:
    assert [(tool, export) for tool, export, _ in rows()] == list(MAKERS)


@pytest.mark.parametrize(("tool", "export", "command"), rows(), ids=lambda text: text)
def test_a_row(tool: str, export: str, command: str, tmp_path: Path) -> None:
    make, expected = MAKERS[tool, export]
    source, target = tmp_path / "given", tmp_path / "out"
    make(source)
    if tool == "DOTA":
        pytest.importorskip("ctnet_tasks_obb")
    if isinstance(expected, str):
        assert command == "not read"
        code, said = call("data", "check", str(source))
        assert code == 2
        assert said.startswith(f"error: {source} is not a data directory; ")
        assert expected in said
        return
    places = {"SOURCE": str(source), "OUT": str(target)}
    code, said = call(*[places.get(word, word) for word in command.split()[1:]])
    assert code == 0, said
    assert "skipped" not in said
    directory = target if "OUT" in command else source
    report = check_dataset(directory)
    assert report.bad == 0
    assert {split.split: (split.images, split.annotations) for split in report.splits} == dict(expected)
    for dataset in open_splits(directory):
        assert np.abs(dataset.coco.boxes - BOX).max() < 0.01
        assert tool in ("KITTI", "DOTA") or [c["name"] for c in dataset.categories] == ["bolt"]


# A folder of Supervisely's COCO export happens to be a data directory.
CONVERTED = [row for row in rows() if "convert" in row[2] and row[0] not in ("DOTA", "Supervisely")]


@pytest.mark.parametrize(("tool", "export", "command"), CONVERTED, ids=lambda text: text)
def test_given_as_data_the_command_is_named(tool: str, export: str, command: str, tmp_path: Path) -> None:
    source = tmp_path / "my data"
    MAKERS[tool, export][0](source)
    code, said = call("data", "check", str(source))
    assert code == 2
    (named,) = re.findall(r"ctnet convert (\w+) (?:'(.*?)'|(\S+)) -o ", said)
    assert named[0] == command.split()[2]
    assert (named[1] or named[2]).startswith(str(source))
    assert len(said.splitlines()) == 1


def test_training_names_the_command_too(tmp_path: Path) -> None:
    MAKERS["Roboflow", "COCO"][0](tmp_path / "given")
    code, said = call("train", "ctdet", "--data", str(tmp_path / "given"))
    assert (code, said.count("\n")) == (2, 1)
    assert f"ctnet convert coco {tmp_path / 'given'} -o {tmp_path / 'given-coco'}" in said


def test_training_without_a_validation_split_names_what_makes_one(tmp_path: Path) -> None:
    MAKERS["LabelMe", "JSON"][0](tmp_path / "given")
    call("convert", "labelme", str(tmp_path / "given"), "-o", str(tmp_path / "out"))
    code, said = call("train", "ctdet", "--data", str(tmp_path / "out"))
    assert (code, said.count("\n")) == (2, 1)
    assert f"`ctnet data split {tmp_path / 'out'} --val 0.2`" in said
    assert "--val-split none" in said


@pytest.mark.parametrize("target", re.findall(r"\]\((?!http)([^)#]+)", TEXT))
def test_a_link_leads_somewhere(target: str) -> None:
    assert (ROOT / "docs" / target).exists()
