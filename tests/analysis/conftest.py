"""Data sets for the analyses: random ones, and real ones without their images."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ctnet.checkpoint import Description
from ctnet.convert.voc import convert_voc
from ctnet.core.task import Task, create_task
from ctnet.data.dataset import Dataset
from ctnet.data.shape_scenes import SHAPES
from ctnet.data.synthetic import write_dataset
from ctnet.inference import Detector
from ctnet.model import create_model


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test writes into the user's cache folder."""
    monkeypatch.setenv("CTNET_CACHE", str(tmp_path_factory.mktemp("cache")))


def write(folder: Path, document: dict[str, Any], split: str = "train") -> Dataset:
    path = folder / "annotations" / f"instances_{split}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document))
    return Dataset.open(folder, split)


def coco(
    sizes: Sequence[tuple[int, int]], names: Sequence[str], annotations: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    """A document with images 1, 2, ... of the given widths and heights and categories 10, 9, ..."""
    return {
        "images": [
            {"id": i, "file_name": f"{i}.png", "width": w, "height": h} for i, (w, h) in enumerate(sizes, 1)
        ],
        "categories": [{"id": 10 - i, "name": name} for i, name in enumerate(names)],
        "annotations": [{"id": 100 + i, **annotation} for i, annotation in enumerate(annotations)],
    }


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Dataset]:
    """``make(boxes)``: one image, its boxes as (category name, x, y, width, height, further fields)."""

    def make(
        boxes: Sequence[tuple[Any, ...]],
        names: Sequence[str] = ("cat", "dog"),
        size: tuple[int, int] = (400, 300),
    ) -> Dataset:
        annotations = [
            {
                "image_id": 1,
                "category_id": 10 - list(names).index(box[0]),
                "bbox": list(box[1:5]),
                **(box[5] if len(box) > 5 else {}),
            }
            for box in boxes
        ]
        return write(tmp_path, coco([size], names, annotations))

    return make


def random_document(seed: int, images: int = 30, most: int = 25) -> dict[str, Any]:
    """Crowded images of all shapes: copied boxes, integer coordinates, boxes cut by the image, crowds."""
    rng = np.random.default_rng(seed)
    sizes = [(int(w), int(h)) for w, h in rng.integers(20, 900, (images, 2))]
    annotations = []
    for image, (width, height) in enumerate(sizes, 1):
        boxes = np.zeros((0, 4))
        for _ in range(rng.integers(0, most)):
            side = np.exp(rng.uniform(np.log(2), np.log(max(width, height)), 2))
            box = np.append(rng.uniform(-0.2, 0.9, 2) * (width, height), side)
            if len(boxes) and rng.random() < 0.5:
                box = boxes[rng.integers(len(boxes))] + rng.normal(0, 2, 4) * (rng.random() < 0.8)
            if rng.random() < 0.5:
                box = box.round()
            boxes = np.concatenate([boxes, box[None]])
            annotations.append(
                {
                    "image_id": image,
                    "category_id": int(rng.integers(8, 11)),
                    "bbox": box.tolist(),
                    "area": float(box[2] * box[3] * rng.uniform(0.3, 1)),
                    "iscrowd": int(rng.random() < 0.1),
                }
            )
    order = rng.permutation(len(annotations))
    return coco(sizes, ["cat", "dog", "cow"], [annotations[i] for i in order])


@pytest.fixture(params=range(3))
def random_data(request: pytest.FixtureRequest, tmp_path: Path) -> Dataset:
    return write(tmp_path, random_document(request.param))


def kitti_document(folder: Path, frames: Sequence[str]) -> dict[str, Any]:
    """Frames of the KITTI labels; DontCare regions are crowd."""
    index = {line.split()[0]: line.split() for line in (folder / "calib_index.txt").read_text().splitlines()}
    sizes = [(int(index[frame][2]), int(index[frame][3])) for frame in frames]
    rows = []
    with zipfile.ZipFile(folder / "label_2.zip") as archive:
        for image, frame in enumerate(frames, 1):
            text = archive.read(f"training/label_2/{frame}.txt").decode()
            rows += [(image, *line.split()) for line in text.splitlines()]
    names = sorted({row[1] for row in rows})
    annotations = []
    for image, name, *values in rows:
        left, top, right, bottom = map(float, values[3:7])
        annotations.append(
            {
                "image_id": image,
                "category_id": 10 - names.index(name),
                "bbox": [left, top, right - left, bottom - top],
                "iscrowd": int(name == "DontCare"),
            }
        )
    return coco(sizes, names, annotations)


REAL = ("coco-mini", "bccd", "kitti-labels")


def open_real(name: str, shared_data: Path, folder: Path) -> Dataset:
    """All of a real data set in one split."""
    source = shared_data / name
    if not source.is_dir():
        pytest.skip(f"no {name} in {shared_data}")
    if name == "bccd":
        convert_voc(source, folder, images="none")
        lists = [json.loads((folder / "annotations" / f"instances_{s}.json").read_text()) for s in LISTS]
        return write(folder, _joined(lists), "all")
    if name == "coco-mini":
        files = sorted((source / "annotations").glob("instances_*.json"))
        return write(folder, _joined([json.loads(file.read_text()) for file in files]), "all")
    frames = [line.split()[0] for line in (source / "calib_index.txt").read_text().splitlines()]
    return write(folder, kitti_document(source, frames), "all")


LISTS = ("train", "val", "test")


def _joined(documents: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Several documents with the same categories as one, renumbered."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for document in documents:
        ids = {image["id"]: len(images) + i for i, image in enumerate(document["images"], 1)}
        images += [{**image, "id": ids[image["id"]]} for image in document["images"]]
        annotations += [
            {**annotation, "id": len(annotations) + i, "image_id": ids[annotation["image_id"]]}
            for i, annotation in enumerate(document["annotations"], 1)
        ]
    return {"images": images, "annotations": annotations, "categories": documents[0]["categories"]}


@pytest.fixture(scope="session", params=REAL)
def real_data(
    request: pytest.FixtureRequest, shared_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> Dataset:
    """Each real data set, without images."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CTNET_CACHE", str(tmp_path_factory.mktemp("cache")))
        return open_real(request.param, shared_data, tmp_path_factory.mktemp(request.param))


# --- a detector and pictures, for the studies that run a network


@pytest.fixture
def untrained(tiny_backbone) -> Callable[[Task, tuple[int, int]], Detector]:
    """Makes a detector with random weights whose heads' outputs differ everywhere."""

    def make(task: Task, size: tuple[int, int]) -> Detector:
        torch.manual_seed(0)
        with tiny_backbone() as name:
            model = create_model(task, name)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.normal_(std=0.15)
        return Detector(task, model, Description.of(task, name, size))

    return make


@pytest.fixture(scope="session")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Seven drawn scenes of two sizes, and one without objects."""
    folder = tmp_path_factory.mktemp("scenes")
    task = create_task("ctdet", SHAPES)
    write_dataset(task, folder, {"val": 4}, (96, 64), seed=1)
    write_dataset(task, folder / "more", {"val": 4}, (64, 96), seed=2)
    first, second = (
        json.loads((part / "annotations" / "instances_val.json").read_text())
        for part in (folder, folder / "more")
    )
    for image in second["images"]:
        image["file_name"] = f"more/val/{image['file_name']}"
    document = _joined([first, second])
    document["annotations"] = [a for a in document["annotations"] if a["image_id"] != 3]
    document["annotations"][0]["iscrowd"] = 1
    (folder / "annotations" / "instances_val.json").write_text(json.dumps(document))
    return Dataset.open(folder, "val", task)


@pytest.fixture
def detector(scenes: Dataset, untrained) -> Detector:
    assert scenes.task is not None
    return untrained(scenes.task, (64, 64))
