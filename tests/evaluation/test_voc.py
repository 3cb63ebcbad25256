from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from ctnet.evaluation import VocEvaluator
from ctnet.evaluation.matching import average_precision

Json = dict[str, Any]


def slow_reference(truth: Json, results: list[Json], metric: str) -> dict[str, float]:
    """The development kit's rules written out, one detection at a time, on pixels with the +1."""
    figures = {}
    for category in truth["categories"]:
        objects = [dict(a) for a in truth["annotations"] if a["category_id"] == category["id"]]
        count = sum(not (a["difficult"] or a["iscrowd"]) for a in objects)
        if not count:
            continue
        found = [entry for entry in results if entry["category_id"] == category["id"]]
        right, wrong, curve = 0, 0, [(0.0, 0.0)]
        for entry in sorted(found, key=lambda entry: (-entry["score"], entry["image_id"])):
            best, best_overlap = None, -1.0
            for candidate in objects:
                if candidate["image_id"] == entry["image_id"]:
                    overlap = pixel_iou(entry["bbox"], candidate["bbox"])
                    if overlap > best_overlap:
                        best, best_overlap = candidate, overlap
            if best is None or best_overlap < 0.5:
                wrong += 1
            elif best["difficult"] or best["iscrowd"]:
                continue
            elif best.get("taken"):
                wrong += 1
            else:
                best["taken"] = True
                right += 1
            curve.append((right / count, right / (right + wrong)))
        figures[f"AP/{category['name']}"] = slow_average(curve, metric)
    return {"mAP": sum(figures.values()) / len(figures), **figures}


def pixel_iou(first: list[float], second: list[float]) -> float:
    """IoU of boxes given by their first and last pixel, as in the development kit."""
    (ax1, ay1, ax2, ay2), (bx1, by1, bx2, by2) = (
        (x + 1, y + 1, x + width, y + height) for x, y, width, height in (first, second)
    )
    width = min(ax2, bx2) - max(ax1, bx1) + 1
    height = min(ay2, by2) - max(ay1, by1) + 1
    if width <= 0 or height <= 0:
        return 0.0
    area = (ax2 - ax1 + 1) * (ay2 - ay1 + 1) + (bx2 - bx1 + 1) * (by2 - by1 + 1)
    return width * height / (area - width * height)


def slow_average(curve: list[tuple[float, float]], metric: str) -> float:
    def best_from(recall: float) -> float:
        return max((p for r, p in curve if r >= recall - 1e-9), default=0.0)

    if metric == "voc07":
        return sum(best_from(tenth / 10) for tenth in range(11)) / 11
    recalls = sorted({r for r, _ in curve})
    return sum((b - a) * best_from(b) for a, b in itertools.pairwise(recalls))


@pytest.mark.parametrize("metric", ["voc07", "voc10"])
@pytest.mark.parametrize("seed", range(6))
def test_equals_the_slow_reference(measure, metric: str, seed: int, random_case: Callable[..., Any]) -> None:
    truth, results = random_case(seed)
    figures = measure(truth, results, VocEvaluator, metric=metric)
    assert figures == pytest.approx(slow_reference(truth, results, metric), abs=1e-12)


def _case() -> tuple[Json, list[Json]]:
    """Three objects and one difficult one; by score: right, duplicate, difficult, right, wrong place."""

    def bee(x: float, **extra: Any) -> Json:
        return {"image_id": 1, "category_id": 1, "bbox": [x, 0, 10, 10], **extra}

    truth = {
        "images": [{"id": 1}],
        "categories": [{"id": 1, "name": "bee"}],
        "annotations": [bee(0, id=1), bee(100, id=2), bee(200, id=3), bee(300, id=4, difficult=1)],
    }
    scored = [(0, 0.9), (1, 0.8), (300, 0.7), (102, 0.6), (250, 0.5)]
    return truth, [bee(x, score=score) for x, score in scored]


def test_hand_worked_case(measure) -> None:
    """Precision 1 at recall 1/3 (right), 1/2 (duplicate), 2/3 at recall 2/3 (right), 1/2 (wrong)."""
    truth, results = _case()
    by_points = measure(truth, results, VocEvaluator, metric="voc07")
    assert by_points["AP/bee"] == pytest.approx((4 * 1 + 3 * 2 / 3) / 11)  # recalls 0 to 0.3 and 0.4 to 0.6
    by_area = measure(truth, results, VocEvaluator, metric="voc10")
    assert by_area["mAP"] == pytest.approx(1 / 3 * 1 + 1 / 3 * 2 / 3)


def test_difficult_and_ignore_mean_the_same(measure) -> None:
    truth, results = _case()
    expected = measure(truth, results, VocEvaluator)
    truth["annotations"][3]["ignore"] = truth["annotations"][3].pop("difficult")
    assert measure(truth, results, VocEvaluator) == expected
    truth["annotations"][3]["ignore"] = 0
    assert measure(truth, results, VocEvaluator) != expected


@pytest.mark.parametrize("width", [5, 4])
def test_half_an_overlap_is_enough(measure, width: int) -> None:
    truth, _ = _case()
    result = {"image_id": 1, "category_id": 1, "bbox": [0, 0, width, 10], "score": 1.0}
    figure = measure(truth, [result], VocEvaluator, metric="voc10")["mAP"]
    assert figure == pytest.approx(1 / 3 if width == 5 else 0)


def test_eleven_points_are_met_exactly() -> None:
    """Three of ten found is a recall of exactly 0.3, without a rounding error."""
    assert average_precision(np.ones(3, bool), 10, "voc07") == pytest.approx(4 / 11)
    assert average_precision(np.ones(7, bool), 10, "voc07") == pytest.approx(8 / 11)
    assert average_precision(np.zeros(0, bool), 10, "voc07") == 0
