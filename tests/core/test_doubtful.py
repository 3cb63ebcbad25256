"""Cells that a teacher takes for an unmarked object are not background."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ctnet.core.doubtful import INSISTS, without_doubtful
from ctnet.core.heads import Heatmap, Regression
from ctnet.core.targets import CellTargets, Grid, Peaks, collate_targets
from ctnet.core.task import create_task
from ctnet.data.shape_scenes import SHAPES
from ctnet.heatmap.gaussian import SOFT_PEAK

HEADS = {"heatmap": Heatmap(2), "size": Regression(2)}
SHAPE = (2, 2, 24, 32)


def bump(seen: torch.Tensor, image: int, channel: int, x: int, y: int, height: float) -> None:
    rows, columns = torch.meshgrid(torch.arange(24), torch.arange(32), indexing="ij")
    drawn = height * torch.exp(-((rows - y) ** 2 + (columns - x) ** 2) / 8)
    seen[image, channel] = seen[image, channel].maximum(drawn)


@pytest.fixture
def targets():
    """One object, of class 0 at (6, 5) of image 0; none in image 1."""
    some = Peaks.of(np.array([[6.2, 5.4]]), np.array([2]), np.array([0]))
    none = Peaks.of(np.zeros((0, 2)), np.zeros(0, int), np.zeros(0, int))
    sizes = [
        CellTargets.of(np.array([[6, 5]]), np.ones((1, 2))),
        CellTargets.of(np.zeros((0, 2)), np.ones((0, 2))),
    ]
    return {"heatmap": collate_targets([some, none]), "size": collate_targets(sizes)}


def taught(targets, seen):
    changed = without_doubtful(HEADS, targets, {"heatmap": seen, "size": torch.zeros(2, 2, 24, 32)})
    return changed["heatmap"].draw(SHAPE)


def test_a_peak_that_is_not_annotated_is_not_penalised(targets):
    seen = torch.full(SHAPE, 0.01)
    bump(seen, 1, 1, 20, 12, 0.6)
    drawn = taught(targets, seen)
    assert drawn[1, 1, 12, 20] == pytest.approx(SOFT_PEAK)
    torch.testing.assert_close(drawn[1, 1, 12, 15:26], seen[1, 1, 12, 15:26] / 0.6, atol=1e-3, rtol=0)
    rest = torch.ones(SHAPE, dtype=torch.bool)
    rest[1, 1, 6:19, 14:27] = False
    assert torch.equal(drawn[rest], targets["heatmap"].draw(SHAPE)[rest])


def test_at_the_edge_of_the_map_as_well(targets):
    seen = torch.zeros(SHAPE)
    bump(seen, 1, 0, 0, 23, 0.9)
    drawn = taught(targets, seen)
    assert drawn[1, 0, 23, 0] == pytest.approx(SOFT_PEAK)
    assert drawn[1, 0, :16].max() == 0


@pytest.mark.parametrize("height", [INSISTS - 0.01, 0.1])
def test_a_teacher_that_does_not_insist_changes_nothing(targets, height):
    seen = torch.zeros(SHAPE)
    bump(seen, 1, 1, 20, 12, height)
    assert torch.equal(taught(targets, seen), targets["heatmap"].draw(SHAPE))


def test_the_peak_of_an_annotated_object_changes_nothing(targets):
    seen = torch.zeros(SHAPE)
    bump(seen, 0, 0, 7, 5, 0.9)  # a cell beside it
    assert torch.equal(taught(targets, seen), targets["heatmap"].draw(SHAPE))


def test_another_class_at_an_object_is_doubtful(targets):
    seen = torch.zeros(SHAPE)
    bump(seen, 0, 1, 6, 5, 0.9)
    assert taught(targets, seen)[0, 1, 5, 6] == pytest.approx(SOFT_PEAK)


def test_counts_stay_and_the_loss_only_falls(targets):
    torch.manual_seed(0)
    raw, seen = torch.randn(SHAPE), torch.rand(SHAPE)
    head = HEADS["heatmap"]
    changed = without_doubtful(HEADS, targets, {"heatmap": seen, "size": raw})
    before, after = head.loss(raw, targets["heatmap"]), head.loss(raw, changed["heatmap"])
    assert after.count == before.count == 1
    assert after.total < before.total
    assert changed["size"] is targets["size"]


@pytest.mark.parametrize("options", [{}, {"doubtful": "background"}])
def test_without_the_option_a_task_teaches_what_is_annotated(targets, options):
    task = create_task("ctdet", SHAPES, **options)
    assert task.taught(targets, {}) is targets
    assert not task.needs_average


def test_every_task_has_the_option():
    task = create_task("ctdet", SHAPES, doubtful="ignore")
    assert task.needs_average
    grid = Grid(16, 16, 1)
    boxes = np.array([[4, 4, 10, 10]], np.float32)
    from ctnet.core.records import Instances

    made = {name: collate_targets([t]) for name, t in task.encode(Instances.of(boxes, [1]), grid).items()}
    seen = {name: torch.full((1, head.channels, 16, 16), 0.0) for name, head in task.heads.items()}
    seen["heatmap"][0, 2, 12, 12] = 0.8
    changed = task.taught(made, seen)["heatmap"].draw((1, len(SHAPES), 16, 16))
    assert changed[0, 2, 12, 12] == pytest.approx(SOFT_PEAK)
