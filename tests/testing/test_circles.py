"""The circle task of task-in-90-lines.md keeps the contract, evaluates circles, and learns real cells."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ctnet.core.categories import Categories
from ctnet.core.documents import instances_of
from ctnet.core.records import Detections
from ctnet.data.dataset import Dataset
from ctnet.testing import task_checks

FILE = Path(__file__).with_name("circles.py")


def loaded() -> Any:
    spec = importlib.util.spec_from_file_location("circles", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules["circles"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


circles = loaded()
TASK = circles.Circles(circles.Circles.scenes.categories)


@task_checks(TASK)
def test_contract(task, check) -> None:
    check(task)


def test_it_is_short_and_imports_the_plugin_module_alone() -> None:
    text = FILE.read_text("utf-8")
    assert len(text.splitlines()) <= 120
    assert [line for line in text.splitlines() if "import" in line and "ctnet" in line] == [
        "from ctnet import plugin as ct"
    ]


@pytest.mark.parametrize("second", [(10, 10, 4), (12, 10, 4), (11, 9, 7), (10, 10, 1.5), (30, 30, 4)])
def test_the_overlap_is_that_of_the_pixels(second: tuple[float, float, float]) -> None:
    y, x = np.mgrid[0:40:0.02, 0:40:0.02]
    one, other = (np.hypot(x - cx, y - cy) < r for cx, cy, r in ((10, 10, 4), second))
    expected = (one & other).sum() / (one | other).sum()
    x2, y2, radius = second
    found = circles.circle_iou(np.array([[10, 10]]), np.array([4]), np.array([[x2, y2]]), np.array([radius]))
    assert found[0, 0] == pytest.approx(expected, abs=2e-3)


def dataset(tmp_path: Path, *annotations: dict[str, Any]) -> Dataset:
    entries = [
        {"id": number, "image_id": 1, "category_id": 1, **annotation}
        for number, annotation in enumerate(annotations, start=1)
    ]
    images = [{"id": 1, "file_name": "1.jpg", "width": 100, "height": 80}]
    categories = list(circles.Circles.scenes.categories)
    path = tmp_path / "annotations" / "instances_val.json"
    path.parent.mkdir()
    path.write_text(json.dumps({"images": images, "annotations": entries, "categories": categories}))
    return Dataset.open(tmp_path, "val", TASK)


def test_what_an_annotation_does_not_state_is_read_off_its_box(tmp_path: Path) -> None:
    box = [10, 20, 30, 20]
    data = dataset(tmp_path, {"bbox": box}, {"bbox": box, "center": [21, 33], "radius": 9})
    instances = instances_of(TASK, data.annotations(0), data.info(0).record)
    assert instances.centre.tolist() == [[25, 30], [21, 33]]
    assert instances.radius.tolist() == [12.5, 9]


def test_a_radius_that_cannot_be_is_left_out_and_listed(tmp_path: Path) -> None:
    data = dataset(tmp_path, {"bbox": [1, 1, 8, 8]}, {"bbox": [1, 1, 8, 8], "radius": -2})
    assert len(data.instances(0)) == 1
    assert "radius is -2, outside 0.5 to inf" in str(data.problems[0])


def test_figures_by_hand() -> None:
    """Two of three red ones are found, after a mistake; a crowd that is found is not a mistake."""
    boxes = [[10, 10, 8, 8], [30, 10, 8, 8], [50, 10, 8, 8], [70, 10, 8, 8], [10, 50, 8, 8]]
    labels, crowd = [1, 1, 1, 1, 2], [0, 0, 0, 1, 0]
    entries = [
        {"image_id": 1, "bbox": box, "category_id": label, "iscrowd": is_crowd}
        for box, label, is_crowd in zip(boxes, labels, crowd, strict=True)
    ]

    class Truth:
        def as_coco(self, full: bool = False) -> dict[str, Any]:
            return {"images": [{"id": 1}], "annotations": entries}

    evaluator = TASK.metrics["circles"](Truth(), Categories(circles.Circles.scenes.categories))
    # Found: nothing, the first, the crowd, the first again, the second, and the white one as a red one.
    centre = np.array([[90, 70], [14, 14], [74, 14], [14, 14], [34, 15], [14, 54]], float)
    radius = np.full(6, 4.0)
    extra = {"centre": centre, "radius": radius}
    columns = np.concatenate([centre - 4, centre + 4], axis=1)
    scores = np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.4])
    evaluator.update(1, Detections(columns, scores, np.zeros(6, int), extra))
    # Right: no, yes, no, yes, no: a precision of 1/2 at the first, of 2/4 at the second of three.
    assert evaluator.compute() == pytest.approx({"AP50": 1 / 6, "AP50/red": 1 / 3, "AP50/white": 0})


@pytest.mark.slow
@pytest.mark.real
def test_it_overfits_four_images_of_blood_cells(shared_data: Path, tmp_path: Path) -> None:
    info = tmp_path / "site" / "circles-1.dist-info"
    info.mkdir(parents=True)
    shutil.copy(FILE, info.parent)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: circles\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[ctnet.tasks]\ncircles = circles:Circles\n")
    path = os.pathsep.join([str(info.parent), *sys.path])

    def ctnet(line: str) -> str:
        command = [sys.executable, "-m", "ctnet", *line.split()]
        environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    ctnet(f"convert voc {shared_data / 'bccd'} -o cells")
    ctnet(
        "train circles --data cells --overfit 4 --size 128x96 --epochs 100 --batch-size 4 --lr 1e-3 "
        "-R warmup=5 -R ema=0.9 -R evaluate_every=10 --device cpu --workers 0 -o run"
    )
    assert json.loads(ctnet("eval run --device cpu --json"))["metrics"]["AP50"] >= 0.9
