"""The round trip of pose on real annotations: rendered ground truth evaluates nearly perfectly."""

from __future__ import annotations

import numpy as np
import pytest

from ctnet.core.task import create_task
from ctnet.data.dataset import Dataset
from ctnet.evaluation.evaluators import evaluator_of
from ctnet.inference.preprocessing import Preprocessor
from ctnet.measuring.rendered import render

ORIGINAL_RESOLUTION = Preprocessor("keep", (512, 512), 32)


@pytest.mark.real
@pytest.mark.parametrize("snap", [True, False])
@pytest.mark.parametrize("split", ["train2017", "val2017"])
@pytest.mark.parametrize("data", ["coco-pose-mini", "coco-mini"])
def test_the_law_on_coco(shared_data, data, split, snap):
    dataset = Dataset.open(shared_data / data, split, prefix="person_keypoints")
    task = create_task("pose", dataset.categories, snap=snap)
    dataset = dataset.with_task(task)
    evaluator = evaluator_of(task, dataset)
    moved = 0
    for index in range(len(dataset)):
        rendered = render(task, dataset, index, ORIGINAL_RESOLUTION, topk=100)
        evaluator.update(dataset.info(index).image_id, rendered.detections)
        moved += joints_off_without_sharing_a_cell(rendered)
    figures = evaluator.compute()
    assert figures["AP"] >= 0.98
    assert figures["AR50"] == 1
    assert moved == 0


def joints_off_without_sharing_a_cell(rendered) -> int:
    """Joints that come back more than 0.1 pixels off although they share their cell with no other."""
    instances, on_grid, found = rendered.instances, rendered.on_grid, rendered.detections
    labelled = (instances.visibility > 0) & ~instances.crowd[:, None]
    cells = np.floor(on_grid.keypoints)
    centres = np.floor((on_grid.boxes[:, :2] + on_grid.boxes[:, 2:]) / 2)
    lone_person = (np.abs(centres[:, None] - centres[None]).max(2) == 0).sum(1) == 1
    taken = cells[labelled]
    count = 0
    for person in np.flatnonzero(labelled.any(1) & lone_person):
        errors = np.abs(found.keypoints - instances.keypoints[person]).max(2)  # (detections, joints)
        row = np.where(labelled[person], errors, 0).sum(1).argmin()
        for joint in np.flatnonzero(labelled[person] & (errors[row] > 0.1)):
            count += (taken == cells[person, joint]).all(1).sum() == 1
    return count
