"""Draws of images against the slow way: renumber the images that were drawn and evaluate them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ctnet.core.task import create_task
from ctnet.evaluation import CocoBoxEvaluator
from ctnet.measuring.results import read_results
from ctnet.testing.redrawn import require_exact

Json = dict[str, Any]


def make(truth: Json, **settings: Any) -> CocoBoxEvaluator:
    ids = [category["id"] for category in truth["categories"]]
    return CocoBoxEvaluator(truth, ids, [category["name"] for category in truth["categories"]], **settings)


def detections(truth: Json, results: list[Json]) -> Json:
    task = create_task("ctdet", truth["categories"])
    return read_results(results, task, [image["id"] for image in truth["images"]])


def draws(seed: int, images: int, number: int = 6) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.multinomial(images, [1 / images] * images, number)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("engine", ["faster-coco-eval", "pycocotools"])
def test_a_draw_is_what_the_evaluator_gives_for_it(random_case, seed: int, engine: str) -> None:
    truth, results = random_case(seed)
    weights = draws(seed, len(truth["images"]))
    require_exact(lambda content: make(content, engine=engine), truth, detections(truth, results), weights)
