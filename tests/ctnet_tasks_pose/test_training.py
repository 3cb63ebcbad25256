"""Other skeletons from file to metrics: five points with two pairs, and with none."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest

from ctnet.data.dataset import Dataset
from ctnet.inference import DetectionSettings, Detector
from ctnet.measuring.run import evaluate
from ctnet.training.request import Machine, Network, RecipeChoice, TrainingData
from ctnet.training.session import new_session

PAIRED = ["top", "left_arm", "right_arm", "left_leg", "right_leg"]
UNPAIRED = ["one", "two", "three", "four", "five"]


def write_stars(folder, names: list[str]) -> None:
    """Coloured dots on grey: four points around one."""
    category = {"id": 3, "name": "star", "keypoints": names, "skeleton": [[1, 2], [1, 3], [1, 4], [1, 5]]}
    rng = np.random.default_rng(0)
    arms = np.array([[0, 0], [10, -8], [-10, -8], [8, 10], [-8, 10]])
    for split in ("train", "val"):
        images, annotations = [], []
        (folder / split).mkdir(parents=True)
        for number in range(1, 5):
            canvas = np.full((64, 64, 3), 128, np.uint8)
            points = rng.integers(20, 44, 2) + arms
            for point in points:
                cv2.circle(canvas, point.tolist(), 3, rng.integers(0, 255, 3).tolist(), -1)
            cv2.imwrite(str(folder / split / f"{number}.png"), canvas)
            low, high = points.min(0) - 3, points.max(0) + 3
            images.append({"id": number, "file_name": f"{number}.png", "width": 64, "height": 64})
            keypoints = np.concatenate([points, np.full((5, 1), 2)], 1).flatten().tolist()
            bbox = [*low.tolist(), *(high - low).tolist()]
            annotation = {"id": number, "image_id": number, "category_id": 3, "bbox": bbox}
            annotations.append({**annotation, "keypoints": keypoints})
        content = {"images": images, "annotations": annotations, "categories": [category]}
        (folder / "annotations").mkdir(exist_ok=True)
        (folder / "annotations" / f"person_keypoints_{split}.json").write_text(json.dumps(content))


@pytest.mark.parametrize("names", [PAIRED, UNPAIRED], ids=["two pairs", "no pair"])
def test_a_skeleton_of_five_points_trains_and_evaluates(tmp_path, tiny_backbone, names):
    with tiny_backbone() as backbone:
        train_and_evaluate(tmp_path, backbone, names)


def train_and_evaluate(tmp_path, backbone: str, names: list[str]) -> None:
    write_stars(tmp_path / "data", names)
    session = new_session(
        "pose",
        TrainingData(tmp_path / "data"),
        Network(backbone=backbone),
        RecipeChoice(fields={"epochs": 1, "batch_size": 2, "size": (64, 64)}),
        machine=Machine("cpu", 0),
        output=tmp_path / "run",
    )
    assert session.fit()
    assert 0 <= session.rows[-1]["AP"] <= 1
    detector = Detector.load(tmp_path / "run", "cpu")
    assert detector.task.skeleton.joints == tuple(names)
    assert len(detector.task.skeleton.pairs) == (2 if names is PAIRED else 0)
    dataset = Dataset.open(tmp_path / "data", "val", detector.task)
    assert 0 <= evaluate(detector, dataset).metrics["AP"] <= 1
    (found,) = detector([dataset[0].image], DetectionSettings(score=0.0, topk=7, clip=False))
    assert found.keypoints.shape == (7, 5, 2)
    assert detector.task.draw(dataset[0].image, found).shape == (64, 64, 3)
