"""Tallies of Pascal VOC's metrics and of attributes against the slow way: evaluate the images drawn."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ctnet.base.errors import CtnetError
from ctnet.core.evaluator import Evaluator
from ctnet.core.records import Detections
from ctnet.core.task import Task, create_task
from ctnet.evaluation import CocoBoxEvaluator, VocEvaluator
from ctnet.evaluation.evaluators import evaluator_of
from ctnet.measuring.results import read_results
from ctnet.testing.redrawn import evaluated, require_exact

Json = dict[str, Any]


def detections(task: Task, truth: Json, results: list[Json]) -> dict[int, Detections]:
    return read_results(results, task, [image["id"] for image in truth["images"]])


def draws(seed: int, images: int, number: int = 8) -> np.ndarray:
    return np.random.default_rng(seed).multinomial(images, [1 / images] * images, number)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("metric", ["voc07", "voc10"])
def test_a_draw_of_voc(random_case, seed: int, metric: str) -> None:
    truth, results = random_case(seed)
    task = create_task("ctdet", truth["categories"])
    names, ids = task.categories.names, task.categories.ids

    def make(content: Json) -> Evaluator:
        return VocEvaluator(content, ids, names, metric=metric)

    require_exact(make, truth, detections(task, truth, results), draws(seed, len(truth["images"])))


class Truth:
    """The content of a file, as a data set gives it."""

    def __init__(self, content: Json) -> None:
        self.content = content

    def as_coco(self, full: bool = False) -> Json:
        return self.content


@pytest.mark.parametrize("metric", ["coco", "voc10"])
def test_a_draw_with_attributes(random_case, metric: str) -> None:
    truth, results = random_case(5)
    rng = np.random.default_rng(5)
    for annotation in truth["annotations"]:
        annotation["attributes"] = {"ripe": float(rng.random()), "kind": str(rng.choice(["a", "b", "c"]))}
        if rng.random() < 0.2:
            annotation["attributes"] = {}
    for entry in results:
        chances = rng.dirichlet([1, 1, 1]).round(1)
        entry["attributes"] = {"ripe": float(rng.random()), "kind": "abc"[int(chances.argmax())]}
        entry["attribute_scores"] = {"kind": dict(zip("abc", chances.tolist(), strict=True))}
    task = create_task("ctdet", truth["categories"], attributes="ripe:float,kind:a|b|c")

    def make(content: Json) -> Evaluator:
        return evaluator_of(task, Truth(content), metric)

    found = detections(task, truth, results)
    figures = evaluated(make, truth, found).compute()
    assert {"ripe/error", "kind/accuracy", "kind/AP/a", "kind/confusion/a/b"} <= set(figures)
    require_exact(make, truth, found, draws(5, len(truth["images"])))
    evaluator = make(truth)
    lower = [name for name in figures if evaluator.lower_is_better(name)]
    assert "ripe/error" in lower
    assert "kind/confusion/a/b" in lower
    assert not {"kind/confusion/a/a", "kind/AP/a", evaluator.main_metric} & {*lower}


def test_equal_scores_in_an_image_repeat_with_it() -> None:
    """A right and a wrong detection of one score: twice the image gives right, wrong, right, wrong."""
    truth = {
        "images": [{"id": 1}, {"id": 2}],
        "categories": [{"id": 1, "name": "bee"}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 10, 10]},
            {"id": 2, "image_id": 2, "category_id": 1, "bbox": [0, 0, 10, 10]},
        ],
    }
    boxes = np.array([[50, 50, 60, 60], [0, 0, 10, 10], [70, 70, 80, 80]], float)
    found = {1: Detections(boxes, np.full(3, 0.5), np.zeros(3, int))}
    weights = np.array([[2, 0], [1, 1], [3, 1], [9, 2]])
    for kind in (CocoBoxEvaluator, VocEvaluator):
        require_exact(lambda content, kind=kind: kind(content, [1], ["bee"]), truth, found, weights)


def test_an_evaluator_without_a_tally_says_so(truth: Json) -> None:
    class Other(VocEvaluator):
        tally = Evaluator.tally

    evaluator = Other(truth, [2, 5, 9], ["ant", "bee", "cat"])
    with pytest.raises(CtnetError, match="Other keeps no tally of its images"):
        evaluator.tally()
