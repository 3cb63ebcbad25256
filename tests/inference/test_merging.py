from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctnet.base.errors import CtnetError
from ctnet.core.records import Detections
from ctnet.core.task import create_task
from ctnet.inference.decoding import merge
from ctnet.inference.settings import DetectionSettings
from ctnet.ops.nms import FLOOR, Nms, nms_method, pixel_iou, suppress

TASK = create_task("ctdet", [{"id": number, "name": name} for number, name in enumerate("abc")])
METHODS: list[Nms] = ["none", "hard", "soft", "soft-linear"]


def cases(folder: Path) -> list[tuple[np.lib.npyio.NpzFile, str]]:
    found = []
    for file in sorted(folder.glob("nms*.npz")):
        data = np.load(file)
        found += [(data, name.removeprefix("boxes")) for name in data.files if name.startswith("boxes")]
    return found


def detections(rows: np.ndarray) -> Detections:
    """Rows of box, score and the rest as detections of one class."""
    extra = {"rest": rows[:, 5:]} if rows.shape[1] > 5 else {}
    return Detections(rows[:, :4], rows[:, 4], np.zeros(len(rows), np.int64), extra)


# --- the reference's numbers


@pytest.mark.golden
def test_hard_suppression_equals_the_reference(golden: Path) -> None:
    for data, case in cases(golden):
        boxes = data[f"boxes{case}"]
        rows, scores = suppress(boxes[:, :4], boxes[:, 4], "hard")
        np.testing.assert_array_equal(rows, data[f"nms_keep_05_{case}"])
        np.testing.assert_array_equal(scores, boxes[rows, 4])


@pytest.mark.golden
@pytest.mark.parametrize(
    ("key", "method", "threshold"),
    [
        ("soft_m0", "hard", 0.5),
        ("soft_m1", "soft-linear", 0.5),
        ("soft_m2", "soft", 0.5),
        ("soft_default", "hard", 0.3),
    ],
)
def test_soft_suppression_equals_the_reference(golden: Path, key: str, method: Nms, threshold: float) -> None:
    for data, case in cases(golden):
        boxes = data[f"boxes{case}"]
        count = int(data[f"{key}_nkeep_{case}"])
        rows, scores = suppress(boxes[:, :4], boxes[:, 4], method, threshold)
        ours = np.concatenate([boxes[rows, :4], scores[:, None]], 1)
        if method == "hard":  # that of the reference's soft routine forgets what scores below the floor
            ours = ours[: (scores >= FLOOR).sum()]
        np.testing.assert_allclose(ours, data[f"{key}_{case}"][:count], atol=1e-5, rtol=1e-5)


@pytest.mark.golden
def test_a_tasks_own_columns_travel_along(golden: Path) -> None:
    for data, case in cases(golden):
        count = int(data[f"soft39_m2_nkeep_{case}"])
        merged = merge(TASK, [detections(data[f"pose{case}"])], DetectionSettings(nms="soft", topk=1000))
        ours = np.concatenate([merged.boxes, merged.scores[:, None], merged.rest], 1)
        np.testing.assert_allclose(ours, data[f"soft39_m2_{case}"][:count], atol=1e-5, rtol=1e-5)


# --- against a slow, obvious reference


def slow_iou(a: np.ndarray, b: np.ndarray) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0]) + 1
    height = min(a[3], b[3]) - max(a[1], b[1]) + 1
    if width <= 0 or height <= 0:
        return 0.0
    areas = [(box[2] - box[0] + 1) * (box[3] - box[1] + 1) for box in (a, b)]
    return float(width * height / (areas[0] + areas[1] - width * height))


def slow_suppress(boxes: np.ndarray, scores: np.ndarray, method: str) -> list[tuple[int, float]]:
    left = {row: float(score) for row, score in enumerate(scores)}
    kept = []
    while left:
        best = max(left, key=lambda row: (left[row], -row))
        kept.append((best, left.pop(best)))
        for row in list(left):
            iou = slow_iou(boxes[best], boxes[row])
            if method == "hard" and iou >= 0.5:
                del left[row]
            elif method == "soft-linear" and iou > 0.5:
                left[row] *= 1 - iou
            elif method == "soft":
                left[row] *= float(np.exp(-iou * iou / 0.5))
            if method.startswith("soft") and iou > 0 and left[row] < 0.001:
                del left[row]
    return kept


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(0, 40), method=st.sampled_from(METHODS[1:]))
def test_equals_the_slow_reference(seed: int, count: int, method: Nms) -> None:
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 60, (count, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(0, 60, (count, 2))], 1)
    scores = rng.uniform(0, 1, count) ** 3
    rows, weakened = suppress(boxes, scores, method)
    expected = slow_suppress(boxes, scores, method)
    assert rows.tolist() == [row for row, _ in expected]
    np.testing.assert_allclose(weakened, [score for _, score in expected], rtol=1e-12)
    assert (np.diff(weakened) <= 0).all()


def test_inside_out_boxes_overlap_nothing() -> None:
    """A size regression may come out negative early in training."""
    good, inside_out = np.array([0.0, 0, 10, 10]), np.array([8.0, 8, 2, 2])
    assert pixel_iou(good, inside_out[:, None]).tolist() == [0]
    assert pixel_iou(inside_out, inside_out[:, None]).tolist() == [0]
    rows, _ = suppress(np.array([good, inside_out]), np.array([0.9, 0.8]), "hard")
    assert rows.tolist() == [0, 1]


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
    assert [nms_method(name) for name in METHODS] == METHODS
    with pytest.raises(CtnetError, match="nms is 'firm'; it must be none, hard, soft or soft-linear"):
        nms_method("firm")
