"""Mean average precision over rotated IoU, on cases that are counted by hand and by a slow reference."""

from __future__ import annotations

import numpy as np
import pytest
from ctnet_tasks_obb.boxes import Rectangles, corners_iou
from ctnet_tasks_obb.evaluation import RotatedEvaluator

from ctnet.base.errors import CtnetError
from ctnet.core.records import Detections
from ctnet.evaluation.matching import IOUS
from ctnet.ops.boxes import boxes_around
from ctnet.testing.redrawn import require_exact


def box(x: float, y: float, length: float = 20, breadth: float = 8, degrees: float = 30) -> np.ndarray:
    axis = np.exp(1j * np.radians([degrees]))
    return Rectangles(np.array([[x, y]], float), np.array([[length, breadth]], float), axis).corners[0]


def ground_truth(*objects: tuple[int, int, np.ndarray, dict[str, int]], images: int = 3) -> dict:
    annotations = []
    for number, (image_id, category_id, corners, flags) in enumerate(objects, start=1):
        x1, y1, x2, y2 = boxes_around(corners[None])[0].tolist()
        entry = {"id": number, "image_id": image_id, "category_id": category_id, "iscrowd": 0}
        entry |= {"bbox": [x1, y1, x2 - x1, y2 - y1], "corners": corners.flatten().tolist(), **flags}
        annotations.append(entry)
    return {
        "images": [{"id": i, "file_name": f"{i}.png"} for i in range(1, images + 1)],
        "annotations": annotations,
    }


def detections(*found: tuple[float, int, np.ndarray]) -> Detections:
    corners = np.array([each[2] for each in found]).reshape(-1, 4, 2)
    scores, labels = np.array([each[0] for each in found]), np.array([each[1] for each in found], int)
    return Detections(boxes_around(corners), scores, labels, {"corners": corners})


def evaluator(truth: dict, metric: str = "voc10") -> RotatedEvaluator:
    return RotatedEvaluator(truth, [1, 5], ["ship", "plane"], metric)


def test_figures_counted_by_hand() -> None:
    measured = evaluator(ground_truth((1, 1, box(20, 20), {}), (2, 1, box(50, 50), {})))
    measured.update(1, detections((0.9, 0, box(20, 20)), (0.8, 0, box(20, 20)), (0.7, 0, box(90, 90))))
    measured.update(2, detections((0.6, 0, box(50, 50))))
    # Right, twice found, background, right: precision 1 at recall 0.5, 0.5 at recall 1.
    figures = measured.compute()
    assert figures["AP50/ship"] == pytest.approx(0.5 * 1 + 0.5 * 0.5)
    assert figures == pytest.approx({"mAP": 0.75, "mAP50": 0.75, "mAP75": 0.75, "AP50/ship": 0.75})
    assert "AP50/plane" not in figures  # there is none to be found


def test_eleven_points() -> None:
    truth = ground_truth((1, 1, box(20, 20), {}), (2, 1, box(50, 50), {}))
    measured = evaluator(truth, "voc07")
    measured.update(1, detections((0.9, 0, box(20, 20))))
    assert measured.compute()["mAP50"] == pytest.approx(6 / 11)


def test_an_angle_costs_what_the_iou_says() -> None:
    right = box(50, 50, 40, 8, 0)
    for degrees in (0, 5, 10, 20, 90, 180):
        measured = evaluator(ground_truth((1, 1, right, {})))
        turned = box(50, 50, 40, 8, degrees)
        measured.update(1, detections((0.9, 0, turned)))
        iou = corners_iou(right[None], turned[None])[0, 0]
        expected = np.mean([float(iou >= threshold) for threshold in IOUS])
        assert measured.compute()["mAP"] == pytest.approx(expected)


@pytest.mark.parametrize("flag", ["difficult", "ignore", "iscrowd"])
def test_difficult_objects_neither_count_nor_harm(flag: str) -> None:
    truth = ground_truth((1, 1, box(20, 20), {}), (1, 1, box(60, 60), {flag: 1}))
    measured = evaluator(truth)
    measured.update(1, detections((0.9, 0, box(60, 60)), (0.8, 0, box(60, 60)), (0.7, 0, box(20, 20))))
    assert measured.compute()["mAP50"] == 1


def test_the_class_matters() -> None:
    measured = evaluator(ground_truth((1, 1, box(20, 20), {}), (1, 5, box(60, 60), {})))
    measured.update(1, detections((0.9, 1, box(20, 20)), (0.8, 1, box(60, 60))))
    assert measured.compute() == pytest.approx(
        {"mAP": 0.25, "mAP50": 0.25, "mAP75": 0.25, "AP50/ship": 0.0, "AP50/plane": 0.5}
    )


def slow_average_precision(
    truth: dict, found: dict[int, Detections], label: int, category: int, iou: float
) -> float:
    """By the rules as they are told: one detection after the other, best first."""
    objects = {
        image["id"]: [
            a for a in truth["annotations"] if a["image_id"] == image["id"] and a["category_id"] == category
        ]
        for image in truth["images"]
    }
    total = sum(not a.get("difficult") for mine in objects.values() for a in mine)
    rows = [
        (float(d.scores[i]), image_id, d.corners[i])
        for image_id, d in found.items()
        for i in range(len(d))
        if d.labels[i] == label
    ]
    taken, marks = set(), []
    for _, image_id, corners in sorted(rows, key=lambda row: -row[0]):
        overlaps = [
            (corners_iou(corners[None], np.reshape(a["corners"], (1, 4, 2)))[0, 0], a)
            for a in objects[image_id]
        ]
        best, match = max(overlaps, key=lambda pair: pair[0], default=(0.0, None))
        if match is None or best < iou:
            marks.append(False)
        elif not match.get("difficult"):
            marks.append(match["id"] not in taken)
            taken.add(match["id"])
    recall = np.cumsum(marks) / total
    precision = np.cumsum(marks) / np.arange(1, len(marks) + 1)
    area, before = 0.0, 0.0
    for index, reached in enumerate(recall):
        area += (reached - before) * precision[index:].max()
        before = reached
    return area


def test_it_agrees_with_the_rules_applied_one_by_one() -> None:
    rng = np.random.default_rng(0)
    objects, found = [], {}
    for image_id in range(1, 9):
        rows = []
        for _ in range(6):
            x, y, degrees = rng.uniform(10, 90, 3)
            category = int(rng.choice([1, 5]))
            objects.append(
                (image_id, category, box(x, y, 24, 10, degrees), {"difficult": int(rng.random() < 0.2)})
            )
            for _ in range(rng.integers(0, 3)):
                off = rng.normal(0, 2, 2)
                label = int(category == 5) if rng.random() < 0.8 else int(rng.integers(2))
                guess = box(x + off[0], y + off[1], 24, 10, degrees + rng.normal(0, 8))
                rows.append((float(rng.random()), label, guess))
        found[image_id] = detections(*rows)
    truth = ground_truth(*objects, images=8)
    measured = evaluator(truth)
    for image_id, each in found.items():
        measured.update(image_id, each)
    figures = measured.compute()
    for label, category, name in ((0, 1, "ship"), (1, 5, "plane")):
        slow = slow_average_precision(truth, found, label, category, 0.5)
        assert 0.1 < slow < 0.95
        assert figures[f"AP50/{name}"] == pytest.approx(slow)
    slow75 = [
        slow_average_precision(truth, found, label, category, 0.75) for label, category in ((0, 1), (1, 5))
    ]
    assert figures["mAP75"] == pytest.approx(np.mean(slow75))


def test_ranks_merge_and_order_does_not_matter() -> None:
    truth = ground_truth((1, 1, box(20, 20), {}), (2, 1, box(50, 50), {}), (3, 5, box(30, 60), {}))
    parts = {1: detections((0.5, 0, box(20, 22))), 2: detections((0.5, 0, box(90, 9))), 3: detections()}
    whole, first, second = (evaluator(truth) for _ in range(3))
    for image_id in (3, 1, 2):
        whole.update(image_id, parts[image_id])
    first.update(2, parts[2])
    second.update(1, parts[1])
    first.merge([second.state()])
    assert first.compute() == whole.compute()


def test_nothing_found_gives_zero() -> None:
    measured = evaluator(ground_truth((1, 1, box(20, 20), {})))
    assert measured.compute()["mAP50"] == 0
    measured.update(1, Detections.empty())  # without columns of the task
    assert measured.compute()["mAP50"] == 0


def test_what_cannot_be_measured_is_named() -> None:
    truth = ground_truth((1, 1, box(20, 20), {}))
    with pytest.raises(CtnetError, match="image id 9 is not in the ground truth"):
        evaluator(truth).update(9, detections())
    found = detections((0.5, 0, box(20, 20)))
    with pytest.raises(CtnetError, match=r"image 1 have corners .* NaN or infinity"):
        evaluator(truth).update(1, found.replace(corners=found.corners * np.nan))
    with pytest.raises(CtnetError, match=r"corners of shape \(0, 4, 2\)"):
        evaluator(truth).update(1, Detections(np.zeros((1, 4)), np.ones(1), np.zeros(1, int)))
    with pytest.raises(CtnetError, match="no average precision called 'coco'"):
        evaluator(truth, "coco")


def test_draws_of_images_are_exact() -> None:
    """Against the slow way: the evaluator on the images drawn."""
    rng = np.random.default_rng(3)
    objects, found = [], {}
    for image_id in range(1, 9):
        rows = []
        for _ in range(int(rng.integers(1, 5))):
            category = int(rng.choice([1, 5]))
            x, y, degrees = [*rng.uniform(20, 200, 2).tolist(), float(rng.uniform(0, 90))]
            objects.append(
                (image_id, category, box(x, y, degrees=degrees), {"difficult": int(rng.integers(2))})
            )
            for _ in range(int(rng.integers(0, 3))):
                moved = box(x + rng.normal(), y + rng.normal(), degrees=degrees + 5 * rng.normal())
                rows.append((float(rng.integers(9)) / 9, [1, 5].index(category), moved))
        found[image_id] = detections(*rows)
    weights = rng.multinomial(8, [1 / 8] * 8, 6)
    for metric in ("voc07", "voc10"):
        require_exact(
            lambda content, metric=metric: evaluator(content, metric),
            ground_truth(*objects, images=8),
            found,
            weights,
        )
