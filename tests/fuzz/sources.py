"""Small valid files of every kind that ctnet reads: the starting points of the mutated inputs."""

from __future__ import annotations

import json
import shutil
from contextlib import redirect_stderr
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image
from torch import Tensor, nn

from ctnet.backbones import Backbone, register_backbone
from ctnet.base.files import write_json
from ctnet.core.task import create_task, list_tasks, load_task_class
from ctnet.data.dataset import Dataset
from ctnet.data.pack import pack_directory
from ctnet.data.synthetic import write_dataset
from ctnet.export.detector import Trials, export_detector
from ctnet.inference.detector import Detector
from ctnet.inference.maps import write_maps
from ctnet.measuring.reading import Settings
from ctnet.measuring.run import evaluate
from ctnet.training.request import Machine, Network, RecipeChoice, TrainingData
from ctnet.training.session import new_session

TASKS = tuple(list_tasks())
SIZE = (64, 64)

#: Suffix of an exported file -> the packages that it needs besides torch.
EXPORTS = {".pt2": (), ".onnx": ("onnx", "onnxscript", "onnxruntime"), ".xml": ("openvino",)}


class FuzzTiny(Backbone):
    channels, divisor, hidden = 4, 4, 4

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3, 2, 1)
        )

    def forward(self, images: Tensor) -> list[Tensor]:
        return [self.layers(images)]


def fuzztiny(pretrained: bool = False) -> Backbone:
    return FuzzTiny()


def make_sources(home: Path) -> None:
    """Fill a folder with the files that all targets start from."""
    register_backbone(fuzztiny)
    for name in TASKS:
        make_task(home / name, name)
    make_run(home / "run", home / "ctdet")
    make_voc(home / "voc")
    make_yolo(home / "yolo")
    make_kitti(home / "kitti")
    make_loose(home / "loose", home / "run")
    make_pack(home / "pack", home / "ctdet")
    make_coco_export(home / "coco export")
    make_labelme(home / "labelme")
    make_via(home / "via")
    make_darknet(home / "darknet")
    make_loose_voc(home / "loose voc")


def make_task(folder: Path, name: str) -> None:
    cls = load_task_class(name)
    assert cls.scenes is not None
    task = create_task(name, cls.scenes.categories)
    write_dataset(task, folder, {"val": 2}, (96, 64))
    dataset = Dataset.open(folder, "val", task)
    evaluation = [
        {**entry, "score": 0.5, "category_id": int(entry["category_id"])}
        for entry in dataset.as_coco(full=True)["annotations"]
    ]
    for entry in evaluation:
        entry.pop("id"), entry.pop("area"), entry.pop("iscrowd")
    write_json(folder / "results.json", evaluation)


def make_run(folder: Path, data: Path) -> None:
    """A run of one epoch and the maps of its detector, beside a copy of the data that it names."""
    session = new_session(
        "ctdet",
        TrainingData(data, train_split="val"),
        Network(backbone="fuzztiny"),
        RecipeChoice(fields={"epochs": 2, "size": SIZE, "batch_size": 2, "save_every": 0.0}),
        machine=Machine("cpu", 0),
        output=folder / "run",
    )
    with redirect_stderr(StringIO()):
        session.trainer._epoch()  # one of two epochs: there is something left to resume
    detector = Detector.load(folder / "run", "cpu")
    dataset = Dataset.open(data, "val", detector.task)
    settings = Settings()
    with write_maps(folder / "maps.h5", detector.description, settings) as keep, redirect_stderr(StringIO()):
        evaluate(detector, dataset, settings, keep_maps=keep)


def make_pack(folder: Path, data: Path) -> None:
    folder.mkdir()
    pack_directory(data, folder / "data.h5")


def make_exports(folder: Path, run: Path) -> None:
    """The network of a run as .pt2, and for the installed runtimes."""
    folder.mkdir()
    picture(folder / "picture.png")
    for suffix, modules in EXPORTS.items():
        if all(find_spec(name) for name in modules):
            export_detector(run, folder / f"model{suffix}", trials=Trials(images=2))


def picture(path: Path, width: int = 48, height: int = 32) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = np.random.default_rng(width).integers(0, 255, (height, width, 3), np.uint8)
    assert cv2.imwrite(str(path), image)


def make_voc(folder: Path) -> None:
    for name in ("one", "two"):
        picture(folder / f"JPEGImages/{name}.png")
        objects = "".join(
            f"<object><name>{kind}</name><difficult>0</difficult><bndbox><xmin>{x}</xmin><ymin>3</ymin>"
            f"<xmax>{x + 9}</xmax><ymax>20</ymax></bndbox></object>"
            for kind, x in (("cat", 2), ("dog", 20))
        )
        xml = folder / f"Annotations/{name}.xml"
        xml.parent.mkdir(exist_ok=True)
        xml.write_text(
            f"<annotation><filename>{name}.png</filename><size><width>48</width><height>32</height></size>"
            f"{objects}</annotation>"
        )
    (folder / "ImageSets/Main").mkdir(parents=True)
    (folder / "ImageSets/Main/train.txt").write_text("one\ntwo\n")


def make_yolo(folder: Path) -> None:
    for name in ("one", "two"):
        picture(folder / f"images/train/{name}.png")
        label = folder / f"labels/train/{name}.txt"
        label.parent.mkdir(parents=True, exist_ok=True)
        label.write_text("0 0.5 0.5 0.25 0.25 0.4 0.4 2 0.6 0.6 1\n1 0.2 0.3 0.1 0.2 0 0 0 0.2 0.3 2\n")
    (folder / "data.yaml").write_text(
        "path: .\ntrain: images/train\nnames:\n  0: cat\n  1: dog\nkpt_shape: [2, 3]\nflip_idx: [1, 0]\n"
    )


CALIBRATION = "P2: 700.0 0.0 24.0 45.0 0.0 700.0 16.0 0.2 0.0 0.0 1.0 0.002\n"


def make_kitti(folder: Path) -> None:
    line = "Car 0.00 0 1.55 5.00 6.00 25.00 20.00 1.50 1.60 3.90 -5.00 1.60 20.00 1.31"
    for name in ("000000", "000001"):
        for room, text in (
            ("training/label_2", f"{line}\n{line.replace('Car', 'DontCare')}\n"),
            ("training/calib", CALIBRATION),
            ("results", f"{line} 0.9\n"),
        ):
            path = folder / room / f"{name}.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        picture(folder / f"training/image_2/{name}.png")


def make_loose(folder: Path, run: Path) -> None:
    for suffix in ("png", "jpg", "bmp", "tiff", "webp", "ppm"):
        picture(folder / f"picture.{suffix}")
    shades = [Image.new("RGB", (24, 16), (50 * number, 0, 0)) for number in range(4)]
    for suffix in ("gif", "png", "tiff", "webp"):
        shades[0].save(folder / f"moving.{suffix}", save_all=True, append_images=shades[1:], duration=50)
    (folder / "camera.txt").write_text(CALIBRATION)
    (folder / "names.txt").write_text("cat\ndog\n")
    writer = cv2.VideoWriter(str(folder / "film.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 10, (48, 32))
    for shade in range(5):
        writer.write(np.full((32, 48, 3), 40 * shade, np.uint8))
    writer.release()
    (folder / "best.pt").write_bytes((run / "run/best.pt").read_bytes())


def make_coco_export(folder: Path) -> None:
    """As Roboflow writes it: a folder for each split; polygons, also without boxes."""
    for split in ("train", "valid"):
        picture(folder / split / "one.png")
        outline = {"segmentation": [[2, 3, 20, 3, 20, 18]], "iscrowd": 0}
        content = {
            "info": {"year": "2024"},
            "images": [{"id": 0, "file_name": "one.png", "width": 48, "height": 32, "license": 1}],
            "categories": [{"id": 0, "name": "all", "supercategory": "none"}, {"id": 1, "name": "cat"}],
            "annotations": [
                {"id": 0, "image_id": 0, "category_id": 1, "bbox": [2, 3, 18, 15], "area": 270, **outline},
                {"id": 1, "image_id": 0, "category_id": 1, **outline},
            ],
        }
        write_json(folder / split / "_annotations.coco.json", content)


def make_labelme(folder: Path) -> None:
    for name in ("one", "two"):
        picture(folder / f"{name}.png")
        shapes = [
            {"label": "cat", "points": points, "group_id": group, "shape_type": kind, "flags": {"old": True}}
            for kind, group, points in (
                ("polygon", None, [[5, 6], [25, 6], [20, 30]]),
                ("rectangle", 1, [[25, 30], [5.5, 6]]),
                ("circle", 1, [[20, 20], [23, 24]]),
                ("point", None, [[20, 20]]),
            )
        ]
        size = {"imageHeight": 32, "imageWidth": 48}
        labelled = {"version": "5.4.1", "flags": {}, "shapes": shapes, "imagePath": f"{name}.png"}
        write_json(folder / f"{name}.json", {**labelled, "imageData": None, **size})


def make_via(folder: Path) -> None:
    regions = [
        {"shape_attributes": shape, "region_attributes": {"kind": "cat"}}
        for shape in (
            {"name": "rect", "x": 3, "y": 4, "width": 10, "height": 12},
            {"name": "polygon", "all_points_x": [2, 20, 11], "all_points_y": [3, 4, 25]},
            {"name": "ellipse", "cx": 20, "cy": 15, "rx": 8, "ry": 5, "theta": 0.3},
        )
    ]
    entries: dict[str, Any] = {}
    rows = [
        "filename,file_size,file_attributes,region_count,region_id,region_shape_attributes,region_attributes"
    ]
    for name in ("one.png", "two.png"):
        picture(folder / name)
        entries[name] = {"filename": name, "size": 10, "regions": regions, "file_attributes": {}}
        for number, region in enumerate(regions):
            quoted = [json.dumps(part).replace('"', '""') for part in region.values()]
            rows.append(f'{name},10,"{{}}",3,{number},"{quoted[0]}","{quoted[1]}"')
    write_json(folder / "via.json", entries)
    (folder / "via.csv").write_text("\n".join(rows) + "\n")


def make_darknet(folder: Path) -> None:
    for name in ("one", "two"):
        picture(folder / f"obj_train_data/{name}.png")
        (folder / f"obj_train_data/{name}.txt").write_text("0 0.5 0.5 0.25 0.25\n1 0.2 0.3 0.1 0.2\n")
    (folder / "obj.names").write_text("cat\ndog\n")
    (folder / "train.txt").write_text("data/obj_train_data/one.png\ndata/obj_train_data/two.png\n")
    (folder / "obj.data").write_text(
        "classes = 2\ntrain = data/train.txt\nnames = data/obj.names\nbackup = b/\n"
    )


def make_loose_voc(folder: Path) -> None:
    """As labelImg writes it: each XML file next to its image."""
    make_voc(folder / "benchmark")
    for name in ("one", "two"):
        (folder / "benchmark/JPEGImages" / f"{name}.png").rename(folder / f"{name}.png")
        (folder / "benchmark/Annotations" / f"{name}.xml").rename(folder / f"{name}.xml")
    shutil.rmtree(folder / "benchmark")
