from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from ctnet.evaluation import evaluate_results
from ctnet.evaluation.coco import ENGINES

Json = dict[str, Any]
TWELVE = ("AP", "AP50", "AP75", "APS", "APM", "APL", "AR1", "AR10", "AR100", "ARS", "ARM", "ARL")


def reference(truth: Json, results: list[Json]) -> np.ndarray:
    """The twelve figures from pycocotools, called as its own demo does."""
    with contextlib.redirect_stdout(io.StringIO()):
        side = COCO()
        side.dataset = json.loads(json.dumps(truth))
        side.createIndex()
        evaluation = COCOeval(side, side.loadRes(json.loads(json.dumps(results))), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return np.asarray(evaluation.stats)


def twelve(figures: dict[str, float]) -> list[float]:
    return [figures.get(name, -1) for name in TWELVE]


@pytest.mark.real
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("split", ["train2017", "val2017"])
def test_real_data_gives_the_reference_figures(
    engine: str, split: str, shared_data: Path, perturb: Callable[..., list[Json]]
) -> None:
    truth = json.loads((shared_data / "coco-mini/annotations" / f"instances_{split}.json").read_text())
    results = perturb(truth, np.random.default_rng(2))
    figures = evaluate_results(truth, results, engine=engine)
    assert 0.1 < figures["AP"] < 0.9
    np.testing.assert_allclose(twelve(figures), reference(truth, results), atol=1e-6, rtol=0)


@pytest.mark.parametrize("seed", range(4))
def test_engines_agree_with_the_reference(seed: int, random_case: Callable[..., Any]) -> None:
    truth, results = random_case(seed)
    first, second = (evaluate_results(truth, results, engine=engine) for engine in ENGINES)
    assert first == pytest.approx(second, abs=1e-6)
    np.testing.assert_allclose(twelve(first), reference(truth, results), atol=1e-6, rtol=0)


@pytest.mark.parametrize("engine", ENGINES)
def test_hand_worked_case(engine: str) -> None:
    """Two objects: one found at an IoU of 0.81, one missed."""
    truth = {
        "images": [{"id": 1}],
        "categories": [{"id": 7, "name": "bee"}],
        "annotations": [
            {"id": 0, "image_id": 1, "category_id": 7, "bbox": [0, 0, 10, 10]},
            {"id": 1, "image_id": 1, "category_id": 7, "bbox": [50, 50, 100, 100]},
        ],
    }
    results = [{"image_id": 1, "category_id": 7, "bbox": [0, 0, 9, 9], "score": 0.5}]
    figures = evaluate_results(truth, results, engine=engine)
    half = 51 / 101  # the recalls 0, 0.01 ... 0.50 are reached
    assert figures["AP50"] == pytest.approx(half)
    assert figures["AP50/bee"] == pytest.approx(half)
    assert figures["AP"] == pytest.approx(0.7 * half)  # thresholds 0.50 to 0.80 of ten
    assert figures["AR100"] == pytest.approx(0.7 * 0.5)
    assert figures["APS"] == pytest.approx(0.7)
    assert figures["APL"] == 0
    assert "APM" not in figures


@pytest.mark.parametrize("engine", ENGINES)
def test_a_crowd_absorbs_detections(engine: str) -> None:
    box = {"image_id": 1, "category_id": 1, "bbox": [0, 0, 20, 20]}
    crowd = {"id": 6, "image_id": 1, "category_id": 1, "bbox": [100, 0, 100, 100], "iscrowd": 1}
    truth = {
        "images": [{"id": 1}],
        "categories": [{"id": 1, "name": "bee"}],
        "annotations": [{**box, "id": 5}, crowd],
    }
    inside = {"image_id": 1, "category_id": 1, "bbox": [110, 10, 20, 20], "score": 0.9}
    results = [inside, {**inside, "bbox": [150, 50, 20, 20]}, {**box, "score": 0.5}]
    assert evaluate_results(truth, results, engine=engine)["AP"] == pytest.approx(1)
    truth["annotations"].pop()
    assert evaluate_results(truth, results, engine=engine)["AP"] == pytest.approx(1 / 3)


@pytest.mark.parametrize("engine", ENGINES)
def test_the_libraries_print_nothing(
    engine: str, truth: Json, results: list[Json], capfd: pytest.CaptureFixture[str]
) -> None:
    evaluate_results(truth, results, engine=engine)
    assert capfd.readouterr() == ("", "")
