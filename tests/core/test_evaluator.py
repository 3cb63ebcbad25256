"""What all evaluators share, and the evaluation of results files."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest

from ctnet.base.errors import CtnetError
from ctnet.core.evaluator import Evaluator
from ctnet.core.records import Detections
from ctnet.core.task import create_task
from ctnet.evaluation import CocoBoxEvaluator, VocEvaluator
from ctnet.measuring.results import read_results

Json = dict[str, Any]
BOTH = pytest.mark.parametrize("kind", [CocoBoxEvaluator, VocEvaluator])


def make(kind: type[Evaluator], truth: Json) -> Evaluator:
    ids = [category["id"] for category in truth["categories"]]
    return kind(truth, ids, [category["name"] for category in truth["categories"]])


def found(truth: Json, results: list[Json]) -> dict[int, Detections]:
    task = create_task("ctdet", truth["categories"])
    return read_results(results, task, [image["id"] for image in truth["images"]])


@BOTH
def test_merged_ranks_and_any_order_give_identical_figures(
    kind: type[Evaluator], truth: Json, results: list[Json]
) -> None:
    detections = found(truth, results)
    whole = make(kind, truth)
    for image_id, one in detections.items():
        whole.update(image_id, one)
    ids = list(detections)[::-1]
    ranks = [make(kind, truth) for _ in range(3)]
    for position, image_id in enumerate([*ids, ids[0]]):  # the first one twice, as from a sampler that pads
        ranks[position % 3].update(image_id, detections[image_id])
    states = [pickle.loads(pickle.dumps(rank.state())) for rank in ranks[1:]]
    ranks[0].merge(states)
    assert ranks[0].compute() == whole.compute()


@BOTH
def test_ground_truth_stays_as_it_was(
    measure, kind: type[Evaluator], truth: Json, results: list[Json]
) -> None:
    before = copy.deepcopy(truth)
    measure(truth, results, kind)
    assert truth == before


@BOTH
def test_nothing_found_is_zero(kind: type[Evaluator], truth: Json) -> None:
    nothing = make(kind, truth).compute()
    assert nothing[kind.main_metric] == 0
    assert set(nothing.values()) == {0.0}
    empty = make(kind, truth)
    empty.update(truth["images"][0]["id"], Detections.empty())
    assert empty.compute() == nothing


@BOTH
def test_everything_found_is_one(measure, kind: type[Evaluator], truth: Json) -> None:
    results = [{**annotation, "score": 0.5} for annotation in truth["annotations"]]
    figures = measure(truth, results, kind)
    figures = {name: value for name, value in figures.items() if name not in ("AR1", "AR10")}
    assert figures == pytest.approx(dict.fromkeys(figures, 1.0))


@BOTH
def test_a_class_without_objects_is_left_out(
    measure, kind: type[Evaluator], truth: Json, results: list[Json]
) -> None:
    figures = measure(truth, results, kind)
    assert {name for name in figures if name.startswith("AP/")} == {"AP/ant", "AP/bee", "AP/cat"}
    assert min(figures.values()) >= 0
    mean = np.mean([figures[f"AP/{name}"] for name in ("ant", "bee", "cat")])
    assert figures[kind.main_metric] == pytest.approx(mean)


@BOTH
def test_annotations_of_other_classes_are_ignored(
    measure, kind: type[Evaluator], truth: Json, results: list[Json]
) -> None:
    fewer = kind(truth, [2, 9], ["ant", "cat"])
    of_two = {**truth, "categories": [truth["categories"][0], truth["categories"][2]]}
    for image_id, one in found(of_two, [r for r in results if r["category_id"] in (2, 9)]).items():
        fewer.update(image_id, one)
    figures, all_figures = fewer.compute(), measure(truth, results, kind)
    assert "AP/bee" not in figures
    assert figures["AP/cat"] == pytest.approx(all_figures["AP/cat"])


@BOTH
@pytest.mark.parametrize("column", ["scores", "boxes"])
def test_nan_names_the_image(kind: type[Evaluator], column: str, truth: Json) -> None:
    columns: Json = {"boxes": np.ones((2, 4)), "scores": np.ones(2), "labels": np.zeros(2, int)}
    columns[column][1] = np.nan
    with pytest.raises(CtnetError, match=rf"image 13 \(1\.jpg\) has NaN or infinite {column}"):
        make(kind, truth).update(13, Detections(**columns))


def test_an_unknown_image_is_refused(truth: Json) -> None:
    with pytest.raises(CtnetError, match="image id 7 is not in the ground truth, which has 12 images"):
        make(CocoBoxEvaluator, truth).update(7, Detections.empty())


def test_ground_truth_without_objects_is_refused(truth: Json) -> None:
    truth["annotations"] = [{**truth["annotations"][0], "iscrowd": 1}]
    with pytest.raises(CtnetError, match="no objects of the model's classes"):
        make(CocoBoxEvaluator, truth)


@pytest.mark.parametrize("change", [{"image_id": 999}, {"bbox": None}, {"bbox": [1, 2, 3]}])
def test_a_bad_annotation_is_named(change: Json, truth: Json) -> None:
    truth["annotations"][3].update(change)
    with pytest.raises(CtnetError, match="annotation id 103 of the ground truth"):
        make(VocEvaluator, truth)


def test_unknown_engine_and_metric_offer_names(measure, truth: Json) -> None:
    with pytest.raises(CtnetError, match="did you mean pycocotools"):
        measure(truth, [], engine="pycoco")
    with pytest.raises(CtnetError, match="did you mean voc07"):
        measure(truth, [], VocEvaluator, metric="voc7")
