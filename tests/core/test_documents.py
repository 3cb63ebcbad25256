"""Annotations and results, read and written by a task's declarations."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctnet.core.documents import (
    annotation_errors,
    annotation_warnings,
    annotations_of,
    checks_records,
    detections_of,
    instances_of,
    results_of,
    truth_of,
)
from ctnet.core.fields import Angle, Choice, Length, Points, Value, differences
from ctnet.core.records import Detections, Instances
from ctnet.core.task import AnnotationWarning, create_task
from ctnet.tasks.ctdet import CenterDetection

CATEGORIES = [{"id": 7, "name": "x"}, {"id": 3, "name": "y"}]
IMAGE = {"id": 5, "file_name": "a.png", "width": 100, "height": 80}


class Fruit(CenterDetection):
    """A task with a field of every kind; ``area`` is computed from the box."""

    fields: ClassVar = {
        "stalk": Points(json="stalk"),
        "joints": Points(
            json="keypoints", n=2, visible="visibility", scores="joint_scores", needed="never", swap=(1, 0)
        ),
        "reach": Length(json="reach", needed="objects"),
        "tilt": Angle(json="tilt", needed="objects"),
        "ripeness": Value(json="attributes.ripeness", needed="never", limits=(0, 1), digits=4),
        "kind": Choice(json="attributes.kind", choices=("small", "large"), needed="never"),
        "sure": Value(json="sure", needed="never", annotated=False),
        "area": Value(json="", digits=9),
    }

    def complete(self, instances: Instances, image: Mapping[str, Any]) -> Instances:
        size = instances.boxes[:, 2:] - instances.boxes[:, :2]
        return instances.replace(area=size.prod(axis=1) / image["width"])

    def errors(self, annotation: Mapping[str, Any], image: Mapping[str, Any]) -> list[str]:
        reach = annotation.get("reach", 0)
        if reach > image["width"]:
            return [f"reach is {reach:g}, beyond its image"]
        return [AnnotationWarning("the stalk is long")] if reach > 50 else []


TASK = Fruit(CATEGORIES)


class Listed(list[dict[str, Any]]):
    """Annotations as a data set returns them."""

    def __init__(self, entries: list[dict[str, Any]]) -> None:
        super().__init__(entries)
        self.boxes = np.array([entry["bbox"] for entry in entries], np.float32).reshape(-1, 4)
        self.boxes[:, 2:] += self.boxes[:, :2]
        self.category_ids = np.array([entry["category_id"] for entry in entries], np.int64)
        self.crowd = np.array([entry["iscrowd"] for entry in entries], bool)


def fruit(count: int, seed: int = 0) -> Instances:
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 50, (count, 2))
    visible = rng.integers(0, 3, (count, 2))
    crowd = rng.random(count) < 0.3
    known = np.where(crowd, np.nan, 1)
    bare = Instances.of(
        np.concatenate([corner, corner + rng.uniform(1, 40, (count, 2))], axis=1),
        rng.integers(0, 2, count),
        crowd,
        stalk=rng.uniform(0, 90, (count, 2)).astype(np.float32),
        joints=(rng.uniform(0, 90, (count, 2, 2)) * (visible > 0)[..., None]).astype(np.float32),
        visibility=visible,
        reach=rng.uniform(0, 20, count) * known,
        tilt=rng.uniform(-3, 3, count) * known,
        ripeness=np.where(rng.random(count) < 0.3, np.nan, rng.random(count)),
        kind=rng.integers(-1, 2, count),
    )
    return TASK.complete(bare, IMAGE)


@given(st.integers(0, 6), st.integers(0, 1000))
def test_annotations_and_instances_are_inverse(count, seed):
    instances = fruit(count, seed)
    entries = json.loads(json.dumps(annotations_of(TASK, instances), allow_nan=False))
    assert all(annotation_errors(TASK, entry, IMAGE) == [] for entry in entries)
    again = instances_of(TASK, Listed(entries), IMAGE)
    assert set(again.fields()) == set(instances.fields())
    for name, gap in differences(
        {k: f for k, f in TASK.fields.items() if k != "area"}, instances, again
    ).items():
        assert (gap <= 0.011).all(), name
    for name in ("labels", "crowd", "visibility", "kind"):
        np.testing.assert_array_equal(again.fields()[name], instances.fields()[name])
    for name in ("reach", "tilt", "ripeness"):
        np.testing.assert_array_equal(np.isnan(again.fields()[name]), np.isnan(instances.fields()[name]))
    for entry, other in zip(annotations_of(TASK, again), entries, strict=True):
        assert entry == {**other, "area": entry["area"]}  # COCO's area is of the box before it was rounded


def test_an_annotation_has_the_keys_of_coco_and_those_that_are_declared():
    rows = Instances.of(
        [[2, 3, 9.5, 8]],
        [1],
        stalk=np.array([[1.234, 5.678]]),
        joints=np.array([[[4.0, 5.0], [6, 7]]]),
        visibility=np.array([[0, 2]]),
        reach=np.array([1.005]),
        tilt=np.array([0.12345]),
        ripeness=np.array([np.nan]),
        kind=np.array([1]),
        area=np.array([3.0]),
        sure=np.array([1.0]),
    )
    [entry] = annotations_of(TASK, rows)
    assert entry == {
        "category_id": 7,
        "bbox": [2.0, 3.0, 7.5, 5.0],
        "area": 37.5,
        "iscrowd": 0,
        "stalk": [1.23, 5.68],
        "keypoints": [0, 0, 0, 6.0, 7.0, 2],
        "num_keypoints": 1,
        "reach": pytest.approx(1.0, abs=0.01),
        "tilt": 0.1234,
        "attributes": {"kind": "large"},
    }


def test_an_empty_image_has_every_column():
    columns = instances_of(TASK, Listed([]), IMAGE).fields()
    assert {name: len(column) for name, column in columns.items()} == dict.fromkeys(fruit(1).fields(), 0)
    assert annotations_of(TASK, fruit(0)) == []


def test_errors_between_values_are_asked_for_only_where_each_value_makes_sense():
    [good] = annotations_of(TASK, fruit(1, 3))
    assert annotation_errors(TASK, good, IMAGE) == annotation_warnings(TASK, good, IMAGE) == []
    assert annotation_errors(TASK, {**good, "reach": 500}, IMAGE) == ["reach is 500, beyond its image"]
    bad = {**good, "reach": "far", "stalk": [1], "attributes": {"ripeness": math.nan}}
    assert annotation_errors(TASK, bad, IMAGE) == [
        "stalk are 1 numbers, not 2 (x, y of 1 point)",
        "reach is 'far', not a finite number",
        "attributes.ripeness is nan, not a finite number",
    ]


def test_a_warning_leaves_an_annotation_in_use():
    [entry] = annotations_of(TASK, fruit(1, 3))
    entry["reach"] = 60
    assert annotation_errors(TASK, entry, IMAGE) == []
    assert annotation_warnings(TASK, entry, IMAGE) == ["the stalk is long"]


def test_only_a_task_with_checks_of_its_own_checks_records():
    class Silent(CenterDetection):
        fields: ClassVar = {"area": Value(json="")}

    assert checks_records(TASK)
    assert not checks_records(create_task("ctdet", CATEGORIES))
    assert not checks_records(Silent(CATEGORIES))


def found(count: int) -> Detections:
    truth = truth_of(TASK, fruit(count, 1).replace(crowd=np.zeros(count, bool)))
    rng = np.random.default_rng(count)
    return truth.replace(
        scores=rng.random(len(truth)),
        reach=rng.random(len(truth)) / 3,
        tilt=rng.random(len(truth)) / 3,
        joint_scores=rng.random((len(truth), 2)),
        sure=rng.random(len(truth)),
    )


def test_results_keep_every_digit():
    detections = found(4)
    entries = json.loads(json.dumps(results_of(TASK, 5, detections)))
    assert {entry["image_id"] for entry in entries} == {5}
    assert {entry["category_id"] for entry in entries} <= {3, 7}
    again = detections_of(TASK, entries)
    assert set(again.fields()) == set(detections.fields()) - {"area"}
    for name, column in again.fields().items():
        np.testing.assert_allclose(column, detections.fields()[name], rtol=1e-7, err_msg=name)
    assert results_of(TASK, 5, again) == results_of(TASK, 5, detections)
    assert results_of(TASK, 5, Detections.empty()) == []
    assert len(detections_of(TASK, [])) == 0


def test_what_no_result_of_an_image_has_is_no_column():
    entries = results_of(TASK, 5, found(2))
    bare = [{k: v for k, v in entry.items() if k not in ("reach", "sure")} for entry in entries]
    assert set(detections_of(TASK, entries).fields()) - set(detections_of(TASK, bare).fields()) == {
        "reach",
        "sure",
    }
    with pytest.raises(ValueError, match="reach is missing"):
        detections_of(TASK, [entries[0], bare[1]])
    with pytest.raises(ValueError, match="stalk is missing"):
        detections_of(TASK, [{k: v for k, v in entry.items() if k != "stalk"} for entry in entries])
    with pytest.raises(ValueError, match=r"keypoints are 3 numbers, not 6 \(x, y, score of 2 points\)"):
        detections_of(TASK, [{**entries[0], "keypoints": [1, 2, 3]}])


def test_truth_is_what_perfect_detections_are():
    instances = fruit(6, 4)
    truth = truth_of(TASK, instances)
    kept = instances[~instances.crowd]
    assert 0 < len(truth) == len(kept) < 6
    assert truth.scores.tolist() == [1] * len(kept)
    np.testing.assert_array_equal(truth.labels, kept.labels)
    np.testing.assert_array_equal(truth.joint_scores, (kept.visibility > 0).astype(np.float32))
    for name in ("boxes", "stalk", "reach", "tilt", "ripeness", "kind"):
        np.testing.assert_array_equal(truth.fields()[name], kept.fields()[name])
