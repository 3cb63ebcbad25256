from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctnet.base.errors import CtnetError
from ctnet.core.records import Detections
from ctnet.core.task import Task, create_task
from ctnet.data.dataset import Dataset
from ctnet.evaluation import VocEvaluator
from ctnet.evaluation.evaluators import evaluator_of
from ctnet.inference.timing import StageTimes
from ctnet.measuring.results import evaluate_results, images_without_results, read_results
from ctnet.measuring.run import Evaluation

Json = dict[str, Any]


@pytest.fixture
def task(truth: Json) -> Task:
    return create_task("ctdet", truth["categories"])


@pytest.fixture
def dataset(truth: Json, task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Dataset:
    monkeypatch.setenv("CTNET_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "instances_val.json"
    path.write_text(json.dumps(truth))
    return Dataset.from_file(path, [tmp_path], task)


def written(folder: Path, content: Any) -> Path:
    path = folder / "results.json"
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize("metric", ["coco", "voc07"])
def test_a_file_measures_as_its_entries_do(
    metric: str, dataset: Dataset, task: Task, truth: Json, results: list[Json], tmp_path: Path, measure
) -> None:
    done = evaluate_results(dataset, task, written(tmp_path, results), metric)
    kind = {} if metric == "coco" else {"kind": VocEvaluator, "metric": metric}
    assert done.metrics == pytest.approx(measure(truth, results, **kind), abs=1e-9)
    assert done.main_metric == done.evaluator.main_metric


def test_what_is_written_reads_back_and_measures_the_same(
    dataset: Dataset, task: Task, results: list[Json], tmp_path: Path
) -> None:
    first = evaluate_results(dataset, task, written(tmp_path, results))
    again = first.results(task)
    assert [entry["image_id"] for entry in again] == sorted(entry["image_id"] for entry in results)
    assert evaluate_results(dataset, task, written(tmp_path, again)).metrics == first.metrics


def test_results_are_exact_and_ordered(truth: Json, task: Task, dataset: Dataset) -> None:
    evaluator = evaluator_of(task, dataset)
    third = np.float32(1 / 3)
    boxes = np.array([[third, 2, 10, 20.5], [5, 5, 4, 9]], np.float32)
    evaluator.update(16, Detections(boxes, np.array([0.9, 0.8], np.float32), np.array([1, 0])))
    evaluator.update(13, Detections.empty())
    first, second = Evaluation({}, "AP", [], StageTimes(), evaluator).results(task)
    assert first["image_id"] == 16
    assert first["category_id"] == 5
    assert first["bbox"] == [float(third), 2.0, 10 - float(third), 18.5]
    assert second["bbox"] == [5.0, 5.0, 0.0, 4.0]  # a negative width covers nothing
    assert images_without_results(evaluator, dataset) == len(truth["images"]) - 1


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 30))
def test_reading_keeps_every_number(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    task = create_task("ctdet", [{"id": 4, "name": "a"}, {"id": 9, "name": "b"}])
    entries = [
        {
            "image_id": int(rng.integers(1, 4)),
            "category_id": int(rng.choice([4, 9])),
            "bbox": rng.uniform(0, 100, 4).tolist(),
            "score": float(rng.random()),
        }
        for _ in range(count)
    ]
    found = read_results(entries, task, [1, 2, 3])
    assert sum(map(len, found.values())) == count
    for image_id, detections in found.items():
        mine = [entry for entry in entries if entry["image_id"] == image_id]
        assert detections.scores.tolist() == [entry["score"] for entry in mine]
        assert [task.categories.ids[label] for label in detections.labels] == [e["category_id"] for e in mine]
        np.testing.assert_allclose(detections.boxes[:, :2], [entry["bbox"][:2] for entry in mine], rtol=0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_id": 999}, "entry 2 of r.json has image_id 999, which is not in the ground truth"),
        ({"image_id": "10"}, "entry 2 of r.json has image_id '10', which is not in the ground truth"),
        ({"image_id": None}, "entry 2 of r.json has image_id None"),
        ({"category_id": 4}, "entry 2 of r.json has category_id 4, .* are these results of another data set"),
        ({"bbox": [1, 2, 3]}, r"entry 2 of r.json \(image \d+\) is not a result of task ctdet .* a bbox of"),
        ({"bbox": None}, "entry 2 of r.json .* is not a result of task ctdet"),
        ({"bbox": "all"}, "entry 2 of r.json .* is not a result of task ctdet"),
        ({"bbox": [1, 2, float("nan"), 4]}, "entry 2 of r.json .* has NaN or infinity as bbox"),
        ({"score": float("nan")}, r"entry 2 of r.json \(image \d+\) has NaN or infinity as score"),
        ({"score": float("inf")}, "entry 2 of r.json .* has NaN or infinity as score"),
        ({"image_id": True}, "entry 2 of r.json has image_id True, which is not in the ground truth"),
        ({"bbox": [0, 0, 1e200, 1e200]}, "entry 2 of r.json .* as bbox, or a number that is too large"),
        ({"bbox": [0, 0, 1e12, 5]}, "entry 2 of r.json .* bbox is .*, not four finite numbers"),
        ({"bbox": ["1", "2", "3", "4"]}, "entry 2 of r.json .* bbox is .*, not four finite numbers"),
        ({"score": 10**400}, "entry 2 of r.json .* as score, or a number that is too large"),
        ({"score": "0.5"}, "entry 2 of r.json .* score is '0.5', not a finite number"),
        ({"score": "high"}, "entry 2 of r.json .* not a result of task ctdet .ValueError: score is 'high'"),
    ],
)  # fmt: skip
def test_a_bad_entry_is_named(
    change: Json, message: str, truth: Json, results: list[Json], task: Task
) -> None:
    results[2].update(change)
    with pytest.raises(CtnetError, match=message) as caught:
        read_results(results, task, [image["id"] for image in truth["images"]], "r.json")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("key", ["image_id", "category_id", "bbox", "score"])
def test_a_missing_field_is_named(key: str, truth: Json, results: list[Json], task: Task) -> None:
    broken = copy.deepcopy(results)
    del broken[5][key]
    with pytest.raises(CtnetError, match=rf"entry 5 of the results .*{key}"):
        read_results(broken, task, [image["id"] for image in truth["images"]])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "holds no detections, so there is nothing to evaluate"),
        ({"annotations": []}, "is not a list of results but a dict; COCO's results file is a list"),
        ([[1, 2]], r"entry 0 of .* is not an object with image_id, category_id and score but \[1, 2\]"),
    ],
)
def test_what_is_no_results_file(
    content: Any, message: str, dataset: Dataset, task: Task, tmp_path: Path
) -> None:
    with pytest.raises(CtnetError, match=message):
        evaluate_results(dataset, task, written(tmp_path, content))


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000 + "]" * 100_000,
        "[" * 100_000,
        '{"a":' * 100_000 + "1" + "}" * 100_000,
        '[{"image_id": 1, "bbox": ' + "[" * 100_000 + "]" * 100_000 + "}]",
    ],
)
def test_a_file_nested_without_end_is_named(text: str, dataset: Dataset, task: Task, tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text(text)
    with pytest.raises(CtnetError, match=r"r\.json holds values nested too deeply; write it again"):
        evaluate_results(dataset, task, tmp_path / "r.json")


def test_an_empty_file_says_so(dataset: Dataset, task: Task, tmp_path: Path) -> None:
    (tmp_path / "empty.json").write_text("")
    with pytest.raises(CtnetError, match=r"empty\.json is not valid JSON"):
        evaluate_results(dataset, task, tmp_path / "empty.json")
