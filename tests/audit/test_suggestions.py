"""What is suggested, why, and in which order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from ctnet.audit.evidence import Evidence
from ctnet.audit.suggestions import Suggestion, suggestions
from ctnet.core.fields import Choice, Value
from ctnet.core.records import Detections
from ctnet.ops.boxes import box_iou

BOX = (10.0, 10.0, 50.0, 50.0)
FAR = (200.0, 200.0, 260.0, 240.0)


def record(rows: Sequence[tuple[Any, ...]], **columns: Any) -> Detections:
    """Objects as (label, score, box)."""
    boxes = np.array([row[2] for row in rows], np.float64).reshape(-1, 4)
    scores = np.array([row[1] for row in rows], np.float64)
    return Detections(boxes, scores, np.array([row[0] for row in rows], np.int64), columns)


def evidence(
    annotated: Sequence[tuple[Any, ...]] = (),
    found: Sequence[tuple[Any, ...]] = (),
    seen: Any = None,
    ignored: Sequence[int] = (),
    excused: Sequence[int] = (),
    extra: tuple[dict[str, Any], dict[str, Any]] = ({}, {}),
) -> Evidence:
    one, other = record(annotated, **extra[0]), record(found, **extra[1])
    return Evidence(
        index=0,
        source=0,
        annotated=one,
        ids=np.arange(100, 100 + len(one)),
        ignored=np.isin(np.arange(len(one)), ignored),
        found=other,
        excused=np.isin(np.arange(len(other)), excused),
        overlap=box_iou(other.boxes, one.boxes),
        together=box_iou(one.boxes, one.boxes),
        repeated=box_iou(other.boxes, other.boxes),
        seen=np.array(seen if seen is not None else np.full((len(one), 3), 0.5), np.float32),
    )


def moved(box: Sequence[float], x: float, y: float = 0.0) -> tuple[float, ...]:
    return (box[0] + x, box[1] + y, box[2] + x, box[3] + y)


def kinds(found: Sequence[Suggestion]) -> list[tuple[str, float]]:
    return [(each.kind, round(float(each.rank), 3)) for each in found]


def test_annotations_that_are_seen_as_they_are_give_nothing():
    one = evidence([(0, 1, BOX), (1, 1, FAR)], [(0, 0.9, BOX), (1, 0.4, FAR)])
    assert suggestions([one], {}) == []


def test_a_detection_of_nothing_annotated_is_an_unmarked_object():
    beside = moved(BOX, 24)  # overlaps by a quarter
    one = evidence([(0, 1, BOX)], [(1, 0.9, FAR), (0, 0.8, BOX), (2, 0.6, beside)])
    found = suggestions([one], {})
    assert kinds(found) == [("unmarked", 0.9), ("unmarked", 0.3)]
    assert [each.detection for each in found] == [0, 2]
    assert found[1].figures["overlap"] == pytest.approx(0.25)


def test_an_unmarked_object_that_is_found_twice_is_one_suggestion():
    one = evidence([(0, 1, BOX)], [(0, 0.9, BOX), (0, 0.8, FAR), (1, 0.7, moved(FAR, 3))])
    assert kinds(suggestions([one], {})) == [("unmarked", 0.8)]


def test_detections_in_regions_that_do_not_count_are_not_unmarked():
    one = evidence([(0, 1, BOX)], [(0, 0.9, BOX), (0, 0.8, FAR)], excused=[1])
    assert suggestions([one], {}) == []


def test_another_class_is_suggested_where_the_own_is_not_seen():
    for own, rank in ((0.1, 0.8), (0.6, 0.3)):
        one = evidence([(0, 1, BOX)], [(1, 0.9, BOX)], seen=[[own, 0.9, 0]])
        (found,) = suggestions([one], {})
        assert kinds([found]) == [("class", rank)]
        assert (found.annotation, found.detection) == (0, 0)
    one = evidence([(0, 1, BOX)], [(0, 0.95, BOX), (1, 0.9, BOX)], seen=[[0.1, 0.9, 0]])
    assert suggestions([one], {}) == []  # a detection of the own class counts as well


def test_a_box_in_another_place_is_suggested():
    one = evidence([(0, 1, BOX)], [(0, 0.9, moved(BOX, 20))], seen=[[0.7, 0, 0]])  # overlaps by a third
    assert kinds(suggestions([one], {})) == [("box", 0.4)]


def test_a_box_with_a_better_partner_is_not():
    one = evidence([(0, 1, BOX)], [(0, 0.9, BOX), (0, 0.5, moved(BOX, 30))], seen=[[0.7, 0, 0]])
    assert kinds(suggestions([one], {})) == [("unmarked", 0.357)]


def test_two_annotations_of_one_object():
    twice = [(0, 1, BOX), (0, 1, moved(BOX, 1)), (1, 1, BOX)]
    one = evidence(twice, [(0, 0.9, BOX)], seen=[[0.9, 0.9, 0]] * 3)
    found = [each for each in suggestions([one], {}) if each.kind == "duplicate"]
    assert [(each.annotation, each.other) for each in found] == [(1, 0)]
    assert found[0].rank == pytest.approx((39 / 41 - 0.8) / 0.2)


def test_an_annotation_of_nothing_ranks_high_only_where_objects_are_seldom_missed():
    seen = [[0.9, 0, 0]] * 99 + [[0.01, 0, 0]]
    places = [(0, 1, moved(BOX, 100.0 * number)) for number in range(100)]
    detections = [(0, 0.9, box) for _, _, box in places[:99]]
    (found,) = suggestions([evidence(places, detections, seen)], {})
    assert kinds([found]) == [("unseen", round(0.99 * 0.005 / 0.015, 3))]
    assert found.annotation == 99
    half = [evidence(places[:10], detections[:5], seen[:5] + [[0.01, 0, 0]] * 5)]
    assert suggestions(half, {}) == []


def test_one_suggestion_for_an_annotation_the_surest():
    """A box of the wrong class in the wrong place is one error."""
    one = evidence([(0, 1, BOX)], [(1, 0.9, moved(BOX, 5)), (0, 0.2, moved(BOX, 20))], seen=[[0.05, 0.9, 0]])
    found = suggestions([one], {})
    assert [each.kind for each in found if each.annotation is not None] == ["class"]


def test_annotations_that_do_not_count_are_left_alone():
    twice = [(0, 1, BOX), (0, 1, BOX), (0, 1, FAR)]
    one = evidence(twice, [(1, 0.9, BOX)], seen=np.zeros((3, 3)), ignored=[0, 1, 2])
    assert suggestions([one], {}) == []


def test_the_surest_come_first_whatever_the_image():
    images = [evidence([], [(0, score, BOX)]) for score in (0.3, 0.9, 0.02, 0.6)]
    assert kinds(suggestions(images, {})) == [("unmarked", 0.9), ("unmarked", 0.6), ("unmarked", 0.3)]


def test_declared_values_that_differ_are_suggested():
    fields = {
        "depth": Value(json="depth"),
        "kind": Choice(json="kind", choices=("a", "b"), scores="kind_scores"),
    }
    places = [(0, 1, moved(BOX, 100.0 * number)) for number in range(40)]
    found = [(0, 0.8, box) for _, _, box in places]
    depth, kind = np.arange(40.0), np.zeros(40, np.int64)
    wrong, other = depth + np.linspace(-1, 1, 40), kind.copy()
    wrong[7] += 50
    other[9] = 1
    scores = np.stack([1 - 0.9 * other, 0.9 * other + 0.0], axis=1)
    extra = ({"depth": depth, "kind": kind}, {"depth": wrong, "kind": other, "kind_scores": scores})
    first, second = suggestions([evidence(places, found, np.full((40, 3), 0.8), extra=extra)], fields)
    assert (first.kind, first.annotation, first.fields) == ("value", 7, ("depth",))
    assert first.rank == pytest.approx(0.8 * (1 - 1 / 50), abs=0.02)
    assert (second.kind, second.annotation, second.fields) == ("value", 9, ("kind",))
    assert second.rank == pytest.approx(0.8 * 0.9)


@pytest.mark.parametrize("images", [[], [evidence()], [evidence([(0, 1, BOX)])]])
def test_nothing_at_all(images):
    assert [each.kind for each in suggestions(images, {})] in ([], ["unseen"])
