"""Counts at every score equal those of an obvious count, and agree with the evaluator and the breakdown."""

from __future__ import annotations

import numpy as np
import pytest

from ctnet.analysis.breakdown import BACKGROUND_IOU, RIGHT, Compared, break_down, compare
from ctnet.analysis.scored import THRESHOLDS, WORST, Scored, thinned
from ctnet.core.records import Detections, Instances
from ctnet.ops.boxes import box_iou


@pytest.fixture(scope="module")
def examined(examined_run):
    return examined_run()


def counted_again(dataset, found, score: float, label: int | None) -> tuple[int, int, int]:
    """Right, wrong and missed among the detections above a score alone, one image after the other."""
    right = wrong = objects = 0
    for index in range(len(dataset)):
        truth = dataset.instances(index)
        free = [row for row in range(len(truth)) if label in (None, truth.labels[row])]
        objects += len(free)
        one = found[int(dataset.image_ids[index])]
        for row in range(len(one)):
            if one.scores[row] < score or label not in (None, one.labels[row]):
                continue
            ious = {
                other: float(box_iou(one.boxes[row : row + 1], truth.boxes[other : other + 1])[0, 0])
                for other in free
                if truth.labels[other] == one.labels[row]
            }
            best = max(ious, key=ious.__getitem__, default=None)
            if best is not None and ious[best] >= 0.5:
                right += 1
                free.remove(best)
            else:
                wrong += 1
    return right, wrong, objects - right


@pytest.mark.parametrize("label", [None, 0, 1, 4])
def test_counts_at_a_score_are_those_of_the_detections_above_it_alone(examined, label) -> None:
    dataset, found, scored = examined.run.subject.dataset, examined.run.found, examined.scored
    counts = scored.counts(label)
    seen = {counts.at(step) for step in range(0, 101, 10)}
    assert len(seen) > 3
    for step in range(0, 101, 10):
        assert counts.at(step) == counted_again(dataset, found, THRESHOLDS[step], label)


def test_it_agrees_with_the_breakdown(examined) -> None:
    dataset, found, scored = examined.run.subject.dataset, examined.run.found, examined.scored
    whole = break_down(compare(dataset, found))
    assert (scored.kinds == RIGHT).sum() == whole.right > 0
    assert len(scored.object_labels) == whole.objects
    assert [(scored.kinds == kind).sum() for kind in range(5)] == [
        error.count for error in list(whole.errors.values())[:5]
    ]


def test_precision_and_recall_end_at_the_counts(examined) -> None:
    ratios, counts = examined.scored.ratios(), examined.scored.counts()
    right, wrong, missed = counts.at(0)
    assert ratios.recall[-1] == right / (right + missed)
    last_right = ratios.scores[-1]
    assert (
        ratios.precision[-1]
        == right / (examined.scored.scores >= last_right).sum()
        >= right / (right + wrong)
    )
    assert (np.diff(ratios.recall) > 0).all()


def test_the_best_threshold_has_the_best_f1(examined) -> None:
    counts = examined.scored.counts()
    f1 = [
        2 * right / max(2 * right + wrong + missed, 1) for right, wrong, missed in map(counts.at, range(101))
    ]
    assert f1[counts.best] == max(f1)


def test_confusion_has_every_object_and_every_detection_once(examined) -> None:
    scored = examined.scored
    table = scored.confusion(0.3, 5)
    objects = np.bincount(scored.object_labels, minlength=5)
    found = np.bincount(scored.labels[scored.scores >= 0.3], minlength=5)
    assert table[:5].sum(axis=1).tolist() == objects.tolist()
    assert table[:, :5].sum(axis=0).tolist() == found.tolist()
    assert table[5, 5] == 0
    assert table[:5, :5].trace() > table[:5, :5].sum() / 2
    assert table[:5, 1].sum() > table[1, 1], "some are given the second class wrongly"


def image(boxes, labels, found, found_labels, scores) -> Compared:
    truth = Instances.of(boxes, labels)
    detections = Detections(np.array(found, np.float32), np.array(scores), np.array(found_labels))
    return Compared(truth, detections, box_iou(detections.boxes.astype(float), truth.boxes.astype(float)))


def test_groups_by_size_and_crowding() -> None:
    small, large = [0, 0, 20, 20], [100, 100, 300, 300]
    images = [
        (0, image([small], [0], [small], [0], [0.9])),
        (1, image([small, large], [0, 0], [large, [300, 300, 500, 500]], [0, 0], [0.8, 0.85])),
    ]
    scored = Scored.of_images(images)
    # The large false detection costs the large objects alone, and only its image.
    assert [(group.name.split()[0], group.objects, round(group.ap, 3)) for group in scored.by_size()] == [
        ("small", 2, 0.505),
        ("large", 1, 0.5),
    ]
    assert [(group.name, group.objects, round(group.ap, 3)) for group in scored.by_crowding()] == [
        ("1 object", 1, 1.0),
        ("2 to 4 objects", 2, 0.252),
    ]


def test_the_worst_images_come_first(examined) -> None:
    scored = examined.scored
    for kind in WORST:
        order = scored.worst(0.2, kind)
        assert len(order) == len(set(order)) > 2
    missed = [
        int((scored.object_scores[scored.object_image == index] < 0.2).sum())
        for index in scored.worst(0.2, "missed")
    ]
    assert missed == sorted(missed, reverse=True)
    assert missed[-1] > 0
    tops = [
        scored.scores[scored.image == index][scored.worst_row(index, "place")]
        for index in scored.worst(0.2, "place")
    ]
    assert tops == sorted(tops, reverse=True)
    assert min(tops) >= 0.2


def test_nothing_found_and_no_images() -> None:
    empty = np.zeros((0, 4))
    scored = Scored.of_images([(0, image([[0, 0, 9, 9]], [0], empty, np.zeros(0, int), np.zeros(0)))])
    assert scored.counts().at(30) == (0, 0, 1)
    assert scored.confusion(0.3, 1).tolist() == [[0, 1], [0, 0]]
    assert [group.ap for group in scored.by_size()] == [0.0]
    assert scored.worst(0.3, "missed") == [0]
    assert scored.worst(0.3, "false") == []
    assert Scored.of_images([]).counts().at(0) == (0, 0, 0)


def test_thinned_keeps_both_ends() -> None:
    assert thinned(3, 10) == [0, 1, 2]
    assert thinned(100_000, 3) == [0, 50000, 99999]
    assert BACKGROUND_IOU == 0.1
