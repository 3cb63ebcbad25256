"""The law on real annotations: rendered ground truth is found again, after soft suppression."""

from __future__ import annotations

import pytest
from ctnet_tasks_exdet import ExtremeDetection

from ctnet.data.dataset import Dataset
from ctnet.evaluation.evaluators import evaluator_of
from ctnet.inference.preprocessing import Preprocessor
from ctnet.measuring.rendered import render


def rendered_ap(dataset: Dataset, **options) -> float:
    task = ExtremeDetection(dataset.categories, **options)
    dataset = dataset.with_task(task)
    evaluator = evaluator_of(task, dataset)
    preprocess = Preprocessor("keep", (512, 512), 32)
    for index in range(len(dataset)):
        found = render(task, dataset, index, preprocess, topk=100).detections
        evaluator.update(dataset.info(index).image_id, found)
    return evaluator.compute()["AP"]


@pytest.mark.real
def test_the_law_on_coco(shared_data):
    dataset = Dataset.open(shared_data / "coco-mini", "val", ExtremeDetection)
    assert rendered_ap(dataset) >= 0.985


@pytest.mark.real
@pytest.mark.slow
def test_the_law_on_coco_with_other_options(shared_data):
    dataset = Dataset.open(shared_data / "coco-mini", "val", ExtremeDetection)
    assert rendered_ap(dataset, ghosts="suppress") >= 0.985
    assert rendered_ap(dataset, middle="cells") >= 0.95  # the release loses small objects
    assert rendered_ap(dataset, agnostic=True) >= 0.95
