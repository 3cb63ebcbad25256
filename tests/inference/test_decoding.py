from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ctnet.base.choices import Nms, check_choice
from ctnet.base.errors import CtnetError
from ctnet.core.declarations import Suppression
from ctnet.core.documents import detections_of, results_of
from ctnet.core.geometry import Affine, View
from ctnet.core.records import Detections, ImageInfo
from ctnet.core.task import Task, create_task, list_tasks, load_task_class, scenes_of
from ctnet.evaluation import CocoBoxEvaluator
from ctnet.inference.decoding import decode, merge
from ctnet.inference.settings import DetectionSettings
from ctnet.ops.boxes import box_iou
from ctnet.ops.nms import suppress, suppress_by
from ctnet.tasks.ctdet import CenterDetection

TASK = create_task("ctdet", [{"id": number, "name": name} for number, name in enumerate("abc")])
CAMERA = [[93.0, 0, 80, 0], [0, 93.0, 80, 0], [0, 0, 1, 0]]
METHODS: list[Nms] = ["none", "hard", "soft", "soft-linear"]


def detections(rows: np.ndarray) -> Detections:
    """Rows of box, score and the rest as detections of one class."""
    extra = {"rest": rows[:, 5:]} if rows.shape[1] > 5 else {}
    return Detections(rows[:, :4], rows[:, 4], np.zeros(len(rows), np.int64), extra)


@pytest.mark.golden
def test_a_tasks_own_columns_travel_along(golden_nms: list[tuple[Any, str]]) -> None:
    for data, case in golden_nms:
        count = int(data[f"soft39_m2_nkeep_{case}"])
        merged = merge(TASK, [detections(data[f"pose{case}"])], DetectionSettings(nms="soft", topk=1000))
        ours = np.concatenate([merged.boxes, merged.scores[:, None], merged.rest], 1)
        np.testing.assert_allclose(ours, data[f"soft39_m2_{case}"][:count], atol=1e-5, rtol=1e-5)


# --- merging


def some(seed: int, count: int = 30) -> Detections:
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 50, (count, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(10, 60, (count, 2))], 1).astype(np.float32)
    scores = np.sort(rng.uniform(0, 1, count).astype(np.float32))[::-1]
    return Detections(boxes, scores, rng.integers(0, 3, count), {"depth": rng.random(count)})


@pytest.mark.parametrize("method", METHODS)
def test_classes_do_not_touch_each_other(method: Nms) -> None:
    parts = [some(0), some(1)]
    settings = DetectionSettings(nms=method, topk=1000)
    whole = merge(TASK, parts, settings)
    for label in range(3):
        alone = merge(TASK, [part[part.labels == label] for part in parts], settings)
        mine = whole[whole.labels == label]
        for name, column in alone.fields().items():
            np.testing.assert_array_equal(mine.fields()[name], column)
    assert (np.diff(whole.scores) <= 0).all()


@pytest.mark.parametrize("method", METHODS)
def test_the_best_of_all_parts_stay(method: Nms) -> None:
    parts = [some(0), some(1)]
    whole, few = (merge(TASK, parts, DetectionSettings(nms=method, topk=topk)) for topk in (1000, 7))
    assert len(few) == 7
    for name, column in few.fields().items():
        np.testing.assert_array_equal(column, whole.fields()[name][:7])
    assert few.scores.dtype == np.float32


def test_without_suppression_one_part_stays_as_it_is() -> None:
    part = some(3)
    merged = merge(TASK, [part], DetectionSettings(nms="none", topk=30))
    for name, column in part.fields().items():
        np.testing.assert_array_equal(merged.fields()[name], column)


@pytest.mark.parametrize("method", METHODS)
def test_nothing_merges_to_nothing(method: Nms) -> None:
    assert len(merge(TASK, [some(0, 0), some(1, 0)], DetectionSettings(nms=method, topk=5))) == 0


def test_unknown_method() -> None:
    for name in METHODS:
        check_choice("nms", name, Nms)
    with pytest.raises(CtnetError, match="nms is 'firm'; it must be none, hard, soft or soft-linear"):
        check_choice("nms", "firm", Nms)


# --- looks with any columns


def look_of(task: Task, side: int, seed: int) -> Detections:
    """What a task decodes from random maps of ``side`` cells per side, with size-dependent columns."""
    generator = torch.Generator().manual_seed(seed)
    maps = {
        name: head.activate(torch.randn(1, head.channels, side, side, generator=generator))
        for name, head in task.heads.items()
    }
    view = View(ImageInfo(1, "", 160, 160, {"calib": CAMERA}), Affine.scaling(160 / side))
    (found,) = decode(task, maps, [view], DetectionSettings(nms="none", topk=8))
    count = len(found)
    assert count
    return found.replace(
        picture=np.full((count, side, side), seed), none=np.zeros((count, 0)), contour=[np.ones(side)] * count
    )


@pytest.fixture(params=list_tasks())
def task(request: pytest.FixtureRequest) -> Task:
    cls = load_task_class(request.param)
    return cls(scenes_of(cls).categories)


@pytest.mark.parametrize("method", METHODS)
def test_looks_of_different_widths_are_merged(task: Task, method: Nms) -> None:
    looks = [look_of(task, 8, 1), look_of(task, 12, 2)]
    merged = merge(task, looks, DetectionSettings(nms=method, topk=100))
    assert set(merged.fields()) == set(looks[0].fields())
    sides = [mask.shape for mask in merged.picture]
    assert {(8, 8), (12, 12)} == set(sides)
    for row in range(len(merged)):
        side, seed = (8, 1) if sides[row] == (8, 8) else (12, 2)
        assert (merged.picture[row] == seed).all()
        assert merged.contour[row].shape == (side,)
    assert merged.none.shape == (len(merged), 0)
    assert merged.boxes.dtype == looks[0].boxes.dtype
    changed = merged.replace(weight=np.ones(len(merged)))[::-1][:2]
    assert [mask.shape for mask in changed.picture] == sides[:-3:-1]
    assert detections_of(task, results_of(task, 1, merged)).scores == pytest.approx(merged.scores)


def test_looks_of_one_width_stay_arrays(task: Task) -> None:
    merged = merge(task, [look_of(task, 8, 1), look_of(task, 8, 2)], DetectionSettings(nms="none", topk=100))
    assert merged.picture.shape == (len(merged), 8, 8)
    assert merged.picture.dtype == np.int64


@pytest.mark.parametrize("method", METHODS)
def test_a_look_that_found_nothing_has_no_say(task: Task, method: Nms) -> None:
    look = look_of(task, 8, 1)
    settings = DetectionSettings(nms=method, topk=100)
    alone = merge(task, [look], settings)
    for nothing in (look[:0], Detections.empty(), look_of(task, 12, 2)[:0]):
        for looks in ([look, nothing], [nothing, look], [nothing, look, nothing]):
            for name, column in merge(task, looks, settings).fields().items():
                assert list(map(np.array_equal, column, alone.fields()[name])) == [True] * len(alone), name
        assert len(merge(task, [nothing, nothing], settings)) == 0
    assert set(merge(task, [look[:0], look[:0]], settings).fields()) == set(look.fields())


def test_a_column_that_one_look_lacks_is_named() -> None:
    with pytest.raises(CtnetError, match="one has a column 'depth', the other only boxes, scores, labels"):
        merge(TASK, [some(0), detections(np.ones((1, 5)))], DetectionSettings())


def test_evaluators_join_detections_with_columns_of_any_shape() -> None:
    truth = {
        "images": [{"id": number} for number in range(2)],
        "annotations": [{"image_id": n, "category_id": 0, "bbox": [0, 0, 9, 9]} for n in range(2)],
    }
    looks = [some(number, 3).replace(contour=[np.ones(k) for k in (4, 5, 6)]) for number in range(2)]
    parts = []
    for number, look in enumerate(looks):
        evaluator = CocoBoxEvaluator(truth, range(3), "abc")
        evaluator.update(number, look)
        parts.append(pickle.loads(pickle.dumps(evaluator.state())))
    evaluator.merge(parts)
    assert [len(found.contour[1]) for found in evaluator.state().values()] == [5, 5]
    assert evaluator.compute()


# --- a single look


class Recording(CenterDetection):
    """Keeps what is lifted."""

    suppression = Suppression(candidates=12)

    def lift(self, detections: Detections, view: View) -> Detections:
        self.lifted = detections
        return detections


@pytest.mark.parametrize(("nms", "rows"), [("none", 5), ("soft", 12)])
def test_the_best_above_the_score_are_lifted_in_image_pixels(nms: Nms, rows: int) -> None:
    task = Recording([{"id": 1, "name": "a"}])
    generator = torch.Generator().manual_seed(0)
    maps = {
        name: torch.rand(1, head.channels, 20, 30, generator=generator) for name, head in task.heads.items()
    }
    view = View(ImageInfo(1, "", 100, 100), Affine(np.array([[3.0, 0, 5], [0, 3, -2]])))
    plain = task.decode(maps, 12).per_image()[0]
    decode(task, maps, [view], DetectionSettings(nms=nms, topk=5))
    assert len(task.lifted) == rows
    np.testing.assert_allclose(task.lifted.boxes, view.affine.boxes(plain.boxes[:rows]), rtol=1e-6)
    score = float(plain.scores[3])
    (found,) = decode(task, maps, [view], DetectionSettings(nms=nms, topk=5, score=score))
    assert len(task.lifted) == len(found) == (plain.scores > score).sum() == 3


def test_rows_without_score_are_no_detections() -> None:
    maps = {name: torch.zeros(2, head.channels, 8, 8) for name, head in TASK.heads.items()}
    maps["heatmap"][1, 0, 4, 4] = 0.5
    view = View(ImageInfo(1, "", 32, 32), Affine.scaling(4))
    assert [len(found) for found in decode(TASK, maps, [view, view], DetectionSettings())] == [0, 1]


def test_what_suppression_weakens_to_the_score_is_gone() -> None:
    rows = np.array([[0, 0, 10, 10, 0.9], [0, 0, 10, 10, 0.8], [50, 50, 60, 60, 0.5]])
    plain = merge(TASK, [detections(rows)], DetectionSettings(nms="soft"))
    assert plain.scores == pytest.approx([0.9, 0.5, 0.8 * np.exp(-2)])
    above = merge(TASK, [detections(rows)], DetectionSettings(nms="soft", score=0.2))
    assert above.scores == pytest.approx([0.9, 0.5])


# --- overlaps


class OwnOverlap(CenterDetection):
    """Objects overlap where their centres are near, whatever their boxes."""

    def overlap(self, a: Detections, b: Detections) -> np.ndarray:
        self.asked = max(getattr(self, "asked", 0), len(a))
        middle = [(found.boxes[:, :2] + found.boxes[:, 2:]) / 2 for found in (a, b)]
        return np.exp(-np.linalg.norm(middle[0][:, None] - middle[1], axis=2))


@pytest.mark.parametrize("method", METHODS[1:])
def test_a_tasks_own_overlap_decides(method: Nms) -> None:
    task = OwnOverlap(TASK.categories)
    rows = np.array([[0, 0, 10, 10, 0.9], [4, 4, 6, 6, 0.8], [-50, 0, 50, 10, 0.7], [-5, 1, 30, 10, 0.6]])
    merged = merge(task, [detections(rows)], DetectionSettings(nms=method))
    weakened = [0.8 * np.exp(-2)] if method == "soft" else []  # the second box has the centre of the first
    assert merged.scores == pytest.approx([0.9, 0.7, 0.6, *weakened], abs=1e-3)
    assert merged.boxes[:3].tolist() == rows[[0, 2, 3], :4].tolist()


def test_a_task_is_asked_for_overlaps_in_blocks() -> None:
    task = OwnOverlap(TASK.categories)
    found = some(0, 300).replace(labels=np.zeros(300, int))
    merged = merge(task, [found], DetectionSettings(nms="hard", topk=300))
    rows, _ = suppress_by(task.overlap(found, found).__getitem__, found.scores, "hard")
    task.asked = 0
    np.testing.assert_array_equal(merged.boxes, found.boxes[rows])
    merge(task, [found], DetectionSettings(nms="hard"))
    assert 0 < task.asked <= 64


@given(seed=st.integers(0, 2**32 - 1), method=st.sampled_from(METHODS))
@settings(max_examples=20, deadline=None)
def test_suppression_by_overlaps_equals_that_of_boxes(seed: int, method: Nms) -> None:
    found = some(seed)
    boxes = found.boxes.astype(np.float64)
    matrix = box_iou(boxes, boxes, inclusive=True)
    one = suppress(found.boxes, found.scores, method)
    other = suppress_by(matrix.__getitem__, found.scores, method)
    for mine, theirs in zip(one, other, strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_upright_boxes_overlap_by_their_iou(task: Task) -> None:
    if type(task).overlap is not Task.overlap:
        pytest.skip("a task with overlaps of its own")
    one, other = some(0), some(1, 7)
    overlap = task.overlap(one, other)
    assert overlap.shape == (30, 7)
    np.testing.assert_allclose(overlap, box_iou(one.boxes, other.boxes), rtol=1e-4, atol=1e-6)
    inside_out = Detections(np.array([[8.0, 8, 2, 2]]), np.ones(1), np.zeros(1, int))
    assert task.overlap(inside_out, inside_out).tolist() == [[0]]
