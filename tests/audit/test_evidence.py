"""Evidence for every task, by what it declares."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from ctnet.audit.decisions import apply_decisions
from ctnet.audit.evidence import _Watch, collect
from ctnet.audit.proposals import proposals_of
from ctnet.audit.run import _decisions
from ctnet.audit.suggestions import suggestions
from ctnet.checkpoint import Description
from ctnet.core.fields import move_record
from ctnet.core.targets import Grid
from ctnet.core.task import create_task, list_tasks, load_task_class
from ctnet.data.dataset import Dataset
from ctnet.data.synthetic import write_dataset
from ctnet.inference import Detector
from ctnet.inference.preprocessing import Prepared, Preprocessor
from ctnet.measuring.reading import Settings
from ctnet.model import create_model

TASKS = [name for name in list_tasks() if name in ("ctdet", "pose", "ddd", "exdet", "obb")]


@pytest.fixture(scope="module", params=TASKS)
def dataset(request, tmp_path_factory) -> Dataset:
    cls = load_task_class(request.param)
    task = create_task(request.param, cls.scenes.categories)
    folder = tmp_path_factory.mktemp(request.param)
    write_dataset(task, folder, {"val": 3}, (128, 96))
    return Dataset.open(folder, "val", task)


def test_the_heatmap_of_classes_is_read_at_the_objects(dataset):
    """In the maps of a perfect network every object has the highest value of its class."""
    task, watch = dataset.task, None
    preprocess = Preprocessor("fix", (128, 96), 32, task.layout.fit)
    watch = _Watch(dataset, task, 4)
    for index in range(len(dataset)):
        sample = dataset[index]
        affine, (width, height) = preprocess.geometry(sample.info.width, sample.info.height)
        prepared = Prepared(affine, sample.info, np.zeros((height, width, 3), np.uint8))
        on_grid = move_record(sample.instances, prepared.view(4).affine.inverse(), task.fields)
        grid = Grid(height // 4, width // 4)
        targets = task.encode(on_grid, grid)
        maps = {name: head.render(targets[name], grid) for name, head in task.heads.items()}
        watch(maps, [prepared], 1.0)
        seen = watch.seen[sample.info.image_id]
        shown = (task.cells(on_grid, grid) >= 0).all(axis=1)
        assert shown.any()
        own = seen[np.arange(len(seen)), sample.instances.labels]
        assert (own[shown] == 1).all()


def test_what_an_untrained_network_sees_can_be_proposed_and_carried_out(
    dataset, tiny_backbone, tmp_path, monkeypatch
):
    """Its detections are nonsense; those that the task could not read are passed over."""
    monkeypatch.setattr("ctnet.audit.suggestions.LOWEST_RANK", 0.0)
    task = dataset.task
    torch.manual_seed(0)
    with tiny_backbone() as name:
        model = create_model(task, name)
        detector = Detector(task, model, Description.of(task, name, (128, 96)))
    problems = []
    evidence = collect(detector, dataset, np.arange(3), Settings(flip=True, topk=20), problems)
    assert problems == []
    assert [one.index for one in evidence] == [0, 1, 2]
    assert all(len(one.ids) == len(one.annotated) == len(one.seen) for one in evidence)
    found = suggestions(evidence, task.fields)
    chosen, proposals, passed = proposals_of(found, 40, dataset, task, ["it"])
    assert [each.number for each in proposals] == list(range(1, len(chosen) + 1))
    assert len(chosen) + passed == min(len(found), 40 + passed)
    document = json.loads(json.dumps(_decisions(dataset, task, "val", "it", proposals).to_json()))
    for each in document["suggestions"]:
        each["decision"] = "accept"
    file = tmp_path / "decisions.json"
    file.write_text(json.dumps(document))
    done = apply_decisions(file, tmp_path / "new.json")
    assert done.added + done.changed + done.removed == len(proposals) > 0
    again = Dataset.from_file(done.path, dataset.folders, task)
    assert again.problems == []
