"""Ghost boxes lose half their score, others nothing."""

from __future__ import annotations

import torch
from ctnet_tasks_exdet.ghosts import suppress_ghosts
from torch import Tensor

from ctnet.core.records import Detections


def detections(boxes, scores, labels=None) -> Detections:
    boxes = torch.tensor([boxes], dtype=torch.float32)
    labels = torch.tensor([labels or [0] * boxes.shape[1]])
    points = torch.arange(boxes.shape[1]).reshape(1, -1, 1, 1).expand(1, -1, 4, 2).float()
    return Detections(boxes, torch.tensor([scores]), labels, {"extreme_points": points})


THREE = [[0, 0, 9, 9], [10, 0, 19, 9], [20, 0, 29, 9]]
AROUND = [0, 0, 29, 9]


def test_a_box_around_three_better_ones_is_a_ghost():
    found = suppress_ghosts(detections([*THREE, AROUND], [0.9, 0.8, 0.7, 0.6]))
    assert found.scores[0].tolist() == torch.tensor([0.9, 0.8, 0.7, 0.3]).tolist()
    assert found.boxes[0, 3].tolist() == AROUND


def test_the_order_follows_the_new_scores_and_rows_stay_together():
    found = suppress_ghosts(detections([THREE[0], THREE[1], AROUND, THREE[2]], [0.9, 0.8, 0.5, 0.4]))
    assert found.scores[0].tolist() == torch.tensor([0.9, 0.8, 0.4, 0.25]).tolist()
    assert found.extreme_points[0, :, 0, 0].tolist() == [0, 1, 3, 2]


def test_three_times_its_score_and_no_less():
    kept = suppress_ghosts(detections([*THREE, AROUND], [0.75, 0.75, 0.75, 0.75]))
    assert kept.scores[0].tolist() == [0.75] * 4


def test_other_classes_do_not_count():
    found = suppress_ghosts(detections([*THREE, AROUND], [0.9, 0.8, 0.7, 0.6], [0, 0, 1, 0]))
    assert found.scores[0].max() == found.scores[0, 0]
    assert 0.6 in [round(score, 6) for score in found.scores[0].tolist()]


def test_an_object_found_several_times_counts_once():
    repeats = [[0, 0, 9, 9], [0.5, 0, 9, 9], [0, 0.5, 9, 9], [0, 0, 29, 9]]
    found = suppress_ghosts(detections(repeats, [0.9, 0.9, 0.9, 0.6]))
    assert 0.6 in [round(score, 6) for score in found.scores[0].tolist()]


def test_batches_do_not_mix():
    one = detections([*THREE, AROUND], [0.9, 0.8, 0.7, 0.6])
    other = detections([*THREE, [40, 0, 60, 9]], [0.9, 0.8, 0.7, 0.6])
    joined = Detections(*(torch.cat([a, b]) for a, b in zip(_own(one), _own(other), strict=True)))
    scores = suppress_ghosts(joined).scores
    assert scores[0, 3] == one.scores[0, 3] / 2
    assert scores[1].tolist() == other.scores[0].tolist()


def _own(found: Detections) -> tuple[Tensor, Tensor, Tensor]:
    return found.boxes, found.scores, found.labels
