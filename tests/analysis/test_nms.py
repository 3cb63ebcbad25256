"""Suppression after a detector: the metrics as evaluated with it, the duplicates as put in."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import torch

from ctnet.analysis import compare_nms
from ctnet.analysis.nms import METHODS
from ctnet.base.errors import CtnetError
from ctnet.core.declarations import Suppression
from ctnet.core.records import Detections
from ctnet.data.dataset import Dataset
from ctnet.inference import Detector
from ctnet.measuring.reading import Settings
from ctnet.measuring.run import evaluate
from ctnet.ops.boxes import box_iou

SETTINGS = Settings(batch_size=4)


@pytest.fixture
def apart(scenes) -> Dataset:
    """Images whose objects of one class do not overlap, so that suppression removes none of them."""

    def is_apart(index: int) -> bool:
        truth = scenes.instances(index)
        overlap = box_iou(truth.boxes, truth.boxes) * (truth.labels[:, None] == truth.labels)
        return bool((np.triu(overlap, 1) < 0.2).all())

    chosen = [index for index in range(len(scenes)) if is_apart(index)]
    assert len(chosen) >= 4
    return scenes.subset(chosen)


@pytest.fixture
def repeating(detector, scenes, monkeypatch) -> Callable[[float], Detector]:
    """Make a detector that finds the objects with scores 0.9, 0.8 ... and each again, shifted by a pixel."""
    index_of = {image_id: index for index, image_id in enumerate(scenes.image_ids.tolist())}

    def make(behind: float) -> Detector:
        def detect(batch, settings, times=None, keep_maps=None):
            found = []
            for views in batch:
                truth = scenes.instances(index_of[views[0].info.image_id])
                truth = truth[~truth.crowd]
                boxes = np.concatenate([truth.boxes, truth.boxes + 1])
                scores = 0.9 - 0.1 * np.arange(len(truth), dtype=np.float32)
                again = np.maximum(scores - np.float32(behind), np.float32(0.001))  # 0 is not a detection
                found.append(Detections(boxes, np.concatenate([scores, again]), np.tile(truth.labels, 2)))
            return found

        monkeypatch.setattr(detector, "detect", detect)
        return detector

    return make


def test_every_row_is_what_evaluation_with_the_method_gives(detector, scenes):
    with torch.no_grad():
        detector.model.branches[0]["size"][2].bias.fill_(10)  # in cells, so that boxes overlap
    done = compare_nms(detector, scenes, SETTINGS)
    assert [row.method for row in done.rows] == list(METHODS)
    for row in done.rows:
        plain = evaluate(detector, scenes, dataclasses.replace(SETTINGS, nms=row.method))
        assert row.metrics == pytest.approx(plain.metrics)
        assert row.detections == sum(len(found) for found in plain.evaluator.state().values())
        assert row.gain == pytest.approx(plain.metrics["AP"] - done.rows[0].metrics["AP"])
    assert done.rows[1].detections < done.rows[0].detections


def test_duplicates_are_counted_and_removed(repeating, apart):
    objects = sum(int((~apart.instances(index).crowd).sum()) for index in range(len(apart)))
    none, hard, soft = compare_nms(repeating(0.01), apart, SETTINGS, ["hard", "soft"]).rows
    assert (none.duplicates, none.removed, none.detections) == (objects, 0, 2 * objects)
    assert (hard.duplicates, hard.removed, hard.detections) == (0, objects, objects)
    assert (soft.duplicates, soft.removed, soft.detections) == (objects, 0, 2 * objects)
    assert none.metrics["AP50"] < soft.metrics["AP50"]


def test_duplicates_cost_what_suppression_gains(repeating, apart):
    none, hard = compare_nms(repeating(0.01), apart, SETTINGS, ["hard"]).rows
    assert none.duplicate_cost > 0.1
    assert hard.metrics["AP50"] - none.metrics["AP50"] == pytest.approx(none.duplicate_cost)
    assert hard.duplicate_cost == 0


def test_duplicates_below_all_objects_cost_nothing(repeating, apart):
    none, hard = compare_nms(repeating(0.9), apart, SETTINGS, ["hard"]).rows
    assert none.duplicates > 0
    assert none.duplicate_cost == pytest.approx(0)
    assert hard.metrics["AP50"] == pytest.approx(1)


def test_mistakes(detector, scenes):
    with pytest.raises(CtnetError, match="nms is 'softer'; it must be"):
        compare_nms(detector, scenes, SETTINGS, ["softer"])
    with pytest.raises(CtnetError, match="compare methods at one scale"):
        compare_nms(detector, scenes, Settings(scales=(1.0, 0.5)))


def test_methods_choose_among_the_candidates_that_the_task_wants(detector, scenes):
    """Every row equals an evaluation with the method, even if decode is asked for more than is kept."""

    class Grouping(type(detector.task)):
        suppression = Suppression(candidates=60)

    detector.task = Grouping(detector.task.categories)
    with torch.no_grad():
        detector.model.branches[0]["size"][2].bias.fill_(10)
    few = dataclasses.replace(SETTINGS, topk=20)
    for row in compare_nms(detector, scenes, few).rows:
        plain = evaluate(detector, scenes, dataclasses.replace(few, nms=row.method))
        assert row.metrics == pytest.approx(plain.metrics)
        assert row.detections == sum(len(found) for found in plain.evaluator.state().values())
