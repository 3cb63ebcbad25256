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

from ctnet.base.errors import CtnetError
from ctnet.core.task import create_task
from ctnet.evaluation import CocoBoxEvaluator, VocEvaluator
from ctnet.evaluation.coco import ENGINES
from ctnet.measuring.results import read_results

Json = dict[str, Any]
TWELVE = ("AP", "AP50", "AP75", "APS", "APM", "APL", "AR1", "AR10", "AR100", "ARS", "ARM", "ARL")


def reference(truth: Json, results: list[Json]) -> np.ndarray:
    """The twelve metrics from pycocotools, called as in its own demo."""
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
    measure, engine: str, split: str, shared_data: Path, perturb: Callable[..., list[Json]]
) -> None:
    truth = json.loads((shared_data / "coco-mini/annotations" / f"instances_{split}.json").read_text())
    results = perturb(truth, np.random.default_rng(2))
    figures = measure(truth, results, engine=engine)
    assert 0.1 < figures["AP"] < 0.9
    np.testing.assert_allclose(twelve(figures), reference(truth, results), atol=1e-6, rtol=0)


@pytest.mark.parametrize("seed", range(4))
def test_engines_agree_with_the_reference(measure, seed: int, random_case: Callable[..., Any]) -> None:
    truth, results = random_case(seed)
    first, second = (measure(truth, results, engine=engine) for engine in ENGINES)
    assert first == pytest.approx(second, abs=1e-6)
    np.testing.assert_allclose(twelve(first), reference(truth, results), atol=1e-6, rtol=0)


@pytest.mark.parametrize("engine", ENGINES)
def test_hand_worked_case(measure, engine: str) -> None:
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
    figures = measure(truth, results, engine=engine)
    half = 51 / 101  # the recalls 0, 0.01 ... 0.50 are reached
    assert figures["AP50"] == pytest.approx(half)
    assert figures["AP50/bee"] == pytest.approx(half)
    assert figures["AP"] == pytest.approx(0.7 * half)  # thresholds 0.50 to 0.80 of ten
    assert figures["AR100"] == pytest.approx(0.7 * 0.5)
    assert figures["APS"] == pytest.approx(0.7)
    assert figures["APL"] == 0
    assert "APM" not in figures


@pytest.mark.parametrize("engine", ENGINES)
def test_a_crowd_absorbs_detections(measure, engine: str) -> None:
    box = {"image_id": 1, "category_id": 1, "bbox": [0, 0, 20, 20]}
    crowd = {"id": 6, "image_id": 1, "category_id": 1, "bbox": [100, 0, 100, 100], "iscrowd": 1}
    truth = {
        "images": [{"id": 1}],
        "categories": [{"id": 1, "name": "bee"}],
        "annotations": [{**box, "id": 5}, crowd],
    }
    inside = {"image_id": 1, "category_id": 1, "bbox": [110, 10, 20, 20], "score": 0.9}
    results = [inside, {**inside, "bbox": [150, 50, 20, 20]}, {**box, "score": 0.5}]
    assert measure(truth, results, engine=engine)["AP"] == pytest.approx(1)
    truth["annotations"].pop()
    assert measure(truth, results, engine=engine)["AP"] == pytest.approx(1 / 3)


@pytest.mark.parametrize("engine", ENGINES)
def test_the_libraries_print_nothing(
    measure, engine: str, truth: Json, results: list[Json], capfd: pytest.CaptureFixture[str]
) -> None:
    measure(truth, results, engine=engine)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("engine", ENGINES)
def test_curves_have_the_area_that_the_figures_say(
    engine: str, measure, truth: Json, results: list[Json]
) -> None:
    figures = measure(truth, results, engine=engine)
    curves = evaluator_of(truth, results, engine).curves()
    assert json.loads(json.dumps(curves)) == curves
    assert curves["recall"] == pytest.approx(np.linspace(0, 1, 101))
    assert set(curves["precision"]) == {"ant", "bee", "cat"}  # there are no dogs
    for name, by_iou in curves["precision"].items():
        assert [float(iou) for iou in by_iou] == pytest.approx(curves["iou"])
        assert np.mean(by_iou["0.50"]) == pytest.approx(figures[f"AP50/{name}"], abs=1e-6)
        assert np.mean([*by_iou.values()]) == pytest.approx(figures[f"AP/{name}"], abs=1e-6)
        assert (np.diff([*by_iou.values()], axis=1) <= 0).all()


def evaluator_of(truth: Json, results: list[Json], engine: str) -> CocoBoxEvaluator:
    task = create_task("ctdet", truth["categories"])
    evaluator = CocoBoxEvaluator(truth, task.categories.ids, task.categories.names, engine)
    for image_id, found in read_results(results, task, [image["id"] for image in truth["images"]]).items():
        evaluator.update(image_id, found)
    return evaluator


def test_classes_without_objects_are_reported(truth: Json, results: list[Json]) -> None:
    assert evaluator_of(truth, results, "pycocotools").classes_without_objects() == ["dog"]
    for annotation in truth["annotations"]:
        annotation["iscrowd"] = int(annotation["category_id"] == 9)
    assert evaluator_of(truth, results, "pycocotools").classes_without_objects() == ["cat", "dog"]


def test_voc_has_no_curves(truth: Json) -> None:
    with pytest.raises(CtnetError, match="VocEvaluator has no curves; use the metric coco"):
        VocEvaluator(truth, [2, 5, 9, 11], list("abcd")).curves()
