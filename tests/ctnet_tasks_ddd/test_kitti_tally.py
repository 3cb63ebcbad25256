"""Draws of frames against the slow way: the benchmark's evaluation of the frames drawn."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ctnet.core.records import Detections
from ctnet.testing.redrawn import evaluated, require_exact
from ctnet_tasks_ddd.evaluation import KittiEvaluator
from ctnet_tasks_ddd.kitti_eval import evaluate_objects, recall_thresholds
from ctnet_tasks_ddd.kitti_tally import _thresholds

Json = dict[str, Any]
NAMES = ["Pedestrian", "Car", "Cyclist"]


def scenes(seed: int, frames: int = 14) -> tuple[Json, dict[int, Detections]]:
    """Cars and pedestrians in flat boxes, vans, DontCare regions, and detections of all of them."""
    rng = np.random.default_rng(seed)
    images, annotations, found = [], [], {}
    for frame in range(1, frames + 1):
        others = [{"type": "DontCare", "bbox": [0.0, 0.0, 90.0, 90.0], "line": 99}]
        images.append({"id": 3 * frame, "file_name": f"{frame:06d}.png", "others": others})
        rows = []
        for line in range(int(rng.integers(1, 7))):
            name = str(rng.choice(["Car", "Car", "Pedestrian"]))
            corner, sides = rng.uniform(0, 400, 2), rng.uniform(20, 70, 2)
            location = [float(rng.uniform(-20, 20)), 1.5, float(rng.uniform(5, 50))]
            annotation = {
                "id": len(annotations) + 1, "image_id": 3 * frame, "line": line + 1, "iscrowd": 0,
                "category_id": NAMES.index(name) + 1, "type": name if rng.random() < 0.9 else "Van",
                "bbox": [*corner.tolist(), *sides.tolist()], "truncated": 0.1 * float(rng.integers(3)),
                "occluded": int(rng.integers(3)), "alpha": float(rng.uniform(-3, 3)), "dim": [1.5, 1.6, 3.9],
                "location": location, "depth": location[2], "rotation_y": float(rng.uniform(-3, 3)),
            }  # fmt: skip
            annotations.append(annotation)
            for _ in range(int(rng.integers(0, 3))):
                moved = corner + rng.normal(0, 3, 2)
                place = np.array(location) + rng.normal(0, 0.15, 3)
                turn = annotation["rotation_y"], annotation["alpha"] + float(rng.normal(0, 0.4))
                rows.append((name, [*moved, *(moved + sides)], place, turn))
        for _ in range(2):
            corner = rng.uniform(0, 60, 2)
            rows.append(("Car", [*corner, *(corner + 30)], rng.uniform(1, 40, 3), (0.0, 0.0)))
        count = len(rows)
        columns = {
            "location": np.array([row[2] for row in rows]),
            "dimensions": np.tile([1.5, 1.6, 3.9], (count, 1)),
            "rotation_y": np.array([row[3][0] for row in rows]),
            "alpha": np.array([row[3][1] for row in rows]),
        }
        boxes = np.array([row[1] for row in rows])
        labels = np.array([NAMES.index(row[0]) for row in rows])
        found[3 * frame] = Detections(boxes, rng.integers(1, 30, count) / 30, labels, columns)
    categories = [{"id": number, "name": name} for number, name in enumerate(NAMES, start=1)]
    return {"images": images, "annotations": annotations, "categories": categories}, found


def make(content: Json) -> KittiEvaluator:
    return KittiEvaluator(content, [1, 2, 3], NAMES, iou="half")


@pytest.mark.parametrize("seed", range(4))
def test_a_draw_is_what_the_benchmark_gives_for_it(seed: int) -> None:
    truth, found = scenes(seed)
    figures = evaluated(make, truth, found).compute()
    assert {"AP3D/Car/hard/R40", "AOS/Pedestrian", "depth_error", "found/Car"} <= set(figures)
    assert 0.02 < figures["AP3D"] < figures["AP2D"] < 0.98
    weights = np.random.default_rng(seed).multinomial(14, [1 / 14] * 14, 6)
    require_exact(make, truth, found, weights)


@pytest.mark.parametrize("seed", range(2))
def test_matches_are_the_counts_of_the_benchmark_at_its_thresholds(seed: int) -> None:
    truth, found = scenes(seed)
    evaluator = evaluated(make, truth, found)
    matches = evaluator.tally().matches()
    assert matches.how == "image boxes of moderate objects, IoU 0.5 Pedestrian, 0.5 Car, 0.5 Cyclist"
    benchmark = evaluate_objects(evaluator._labels, evaluator._results(), "half")
    for name in ("Car", "Pedestrian"):
        figure = benchmark.figures[name.lower()]["detection"]["moderate"]
        matched = matches.classes[name]
        assert len(figure.thresholds) > 3
        assert matched.objects.sum() == figure.objects
        for score, right, wrong in zip(figure.thresholds, figure.right, figure.wrong, strict=True):
            kept = matched.score >= score
            assert (matched.right[kept].sum(), matched.wrong[kept].sum()) == (right, wrong)
    assert not len(matches.classes["Cyclist"].score)


def test_results_without_3d_boxes_or_without_orientation_lack_those_metrics() -> None:
    truth, found = scenes(7, frames=5)
    flat = {key: each.replace(location=np.full((len(each), 3), np.nan)) for key, each in found.items()}
    flat[3] = flat[3].replace(alpha=np.full(len(flat[3]), np.nan))
    require_exact(make, truth, flat, np.array([[0, 2, 1, 1, 1], [1, 1, 1, 1, 1], [3, 0, 0, 1, 1]]))
    require_exact(make, truth, {3: found[3]}, np.array([[2, 0, 1, 1, 1], [0, 2, 1, 1, 1]]))


def test_thresholds_are_those_of_the_benchmark() -> None:
    rng = np.random.default_rng(0)
    for right in (0, 1, 2, 3, 39, 40, 41, 83, 200):
        scores = np.sort(rng.random(right))[::-1]
        for objects in (right, right + 1, 2 * right + 3, 160):
            rows, used = _thresholds(np.arange(1, right + 1)[None], np.array([max(objects, right)]))
            expected = recall_thresholds(scores, max(objects, right))
            assert scores[rows[0][used[0]]].tolist() == expected.tolist()


def test_errors_are_better_when_they_are_low() -> None:
    evaluator = make(scenes(0)[0])
    assert evaluator.lower_is_better("depth_error/Car")
    assert evaluator.lower_is_better("orientation_error")
    assert not evaluator.lower_is_better("AP3D")
    assert not evaluator.lower_is_better("found")
