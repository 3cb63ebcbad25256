"""The round trip of ctdet on real annotations: rendered ground truth evaluates (nearly) perfectly."""

from __future__ import annotations

import pytest

from ctnet.convert.voc import convert_voc
from ctnet.core.declarations import Suppression
from ctnet.core.records import Detections
from ctnet.core.task import create_task
from ctnet.data.dataset import Dataset
from ctnet.data.directory import splits
from ctnet.data.shape_scenes import SHAPES
from ctnet.data.synthetic import write_dataset
from ctnet.evaluation.evaluators import evaluator_of
from ctnet.inference.decoding import merge
from ctnet.inference.detector import Preprocessor
from ctnet.inference.settings import DetectionSettings
from ctnet.measuring.rendered import explain_misses, render

ORIGINAL_RESOLUTION = Preprocessor("keep", (512, 512), 32)


def measured(folder, split: str) -> tuple[float, list[str]]:
    """AP of rendered ground truth, and the causes of all misses at IoU 0.75."""
    dataset = Dataset.open(folder, split)
    task = create_task("ctdet", dataset.categories)
    dataset = dataset.with_task(task)
    evaluator = evaluator_of(task, dataset)
    causes = []
    for index in range(len(dataset)):
        rendered = render(task, dataset, index, ORIGINAL_RESOLUTION, topk=500)
        evaluator.update(dataset.info(index).image_id, rendered.detections)
        causes += explain_misses(rendered, 0.75)
    return evaluator.compute()["AP"], causes


@pytest.mark.real
@pytest.mark.parametrize("split", ["train2017", "val2017"])
def test_the_law_on_coco(shared_data, split):
    ap, causes = measured(shared_data / "coco-mini", split)
    assert ap >= 0.99
    assert "unexplained" not in causes


@pytest.mark.thorough
@pytest.mark.real
def test_the_law_on_bccd(shared_data, tmp_path):
    convert_voc(shared_data / "bccd", tmp_path / "bccd", images="none")
    assert {"train", "val", "test"} <= set(splits(tmp_path / "bccd"))
    for split in ("train", "val", "test"):
        ap, causes = measured(tmp_path / "bccd", split)
        assert ap >= 0.99
        assert "unexplained" not in causes


def test_the_suppression_of_the_task_itself_follows(tmp_path):
    """A task that finds every object twice and suppresses scores like one that finds it once."""
    task = create_task("ctdet", SHAPES)
    write_dataset(task, tmp_path, {"val": 3}, (128, 96))
    dataset = Dataset.open(tmp_path, "val", task)

    class Twice(type(task)):
        suppression = Suppression("hard", candidates=100)

        def decode(self, maps, k):
            found = super().decode(maps, k // 2)
            columns = (found.boxes, found.scores, found.labels)
            return Detections(*(column.repeat_interleave(2, dim=1) for column in columns))

    for index in range(len(dataset)):
        once, twice = (
            render(renderer, dataset, index, ORIGINAL_RESOLUTION, topk=20).detections
            for renderer in (task, Twice(task.categories))
        )
        once = merge(task, [once], DetectionSettings(nms="hard", topk=20))
        assert len(once)
        assert sorted(twice.boxes.tolist()) == sorted(once.boxes.tolist())  # scores of 1 are in any order
