"""The error breakdown against hand-worked cases, plain loops, and COCO's evaluation of corrected results."""

from __future__ import annotations

import numpy as np
import pytest

from ctnet.analysis.breakdown import TYPES, Compared, average_precision, break_down
from ctnet.base.errors import CtnetError
from ctnet.core.documents import truth_of
from ctnet.core.records import Detections, Instances
from ctnet.core.task import create_task
from ctnet.evaluation import CocoBoxEvaluator

ANT, BEE, CAT = range(3)
TASK = create_task("ctdet", [{"id": number, "name": name} for number, name in enumerate("abcd")])
OBJECT = [0, 0, 100, 100]


def boxes_of(*rows):
    return np.array(rows, np.float32).reshape(-1, 4)


def found(*rows):
    """Detections of (box, score, label)."""
    boxes, scores, labels = zip(*rows, strict=True) if rows else ([], [], [])
    return Detections(boxes_of(*boxes), np.array(scores, np.float32), np.array(labels, np.int64))


def compared(truth, detections):
    return Compared(truth, detections, TASK.overlap(detections, truth_of(TASK, truth)))


def counts(breakdown):
    return {name: error.count for name, error in breakdown.errors.items() if error.count}


def cost(breakdown, name):
    return breakdown.errors[name].cost


# --- cases worked by hand: one object (an ant) in a box of 100x100, unless said otherwise


def one(*detections, truth=None, iou=0.5):
    truth = truth or Instances.of([OBJECT], [ANT])
    return break_down([compared(truth, found(*detections))], iou)


def test_nothing_wrong():
    done = one((OBJECT, 0.9, ANT))
    assert (done.ap, done.right, done.detections, done.objects) == (1.0, 1, 1, 1)
    assert counts(done) == {}
    assert all(error.cost == 0 for error in done.errors.values())
    assert tuple(done.errors) == TYPES


def test_localisation():
    done = one(([0, 0, 100, 40], 0.9, ANT))  # IoU 0.4
    assert counts(done) == {"localisation": 1}
    assert (done.ap, cost(done, "localisation")) == (0.0, 1.0)


def test_classification():
    done = one(([0, 0, 100, 60], 0.9, BEE))  # IoU 0.6
    assert counts(done) == {"classification": 1}
    assert (done.ap, cost(done, "classification")) == (0.0, 1.0)


def test_both():
    done = one(([0, 0, 100, 40], 0.9, BEE))
    assert counts(done) == {"both": 1, "missed": 1}
    assert (cost(done, "both"), cost(done, "missed")) == (0.0, 0.0)


def test_duplicate_and_background():
    """Precision is 1/3 at every recall; with either error fixed it is 1/2."""
    truth = Instances.of([OBJECT, [300, 0, 400, 100]], [ANT, ANT])
    right = ([300, 0, 400, 100], 0.6, ANT)
    wrong = [(OBJECT, 0.9, ANT), ([0, 0, 100, 90], 0.8, ANT), ([600, 0, 700, 100], 0.7, ANT), right]
    done = one(*wrong, truth=truth)
    assert counts(done) == {"duplicate": 1, "background": 1}
    # Recalls 0 ... 0.5 have precision 1, the upper 50 of 101 have 2 of 4, or 2 of 3 when one is fixed.
    assert done.ap == pytest.approx((51 * 1 + 50 * 2 / 4) / 101)
    for name in ("duplicate", "background"):
        assert cost(done, name) == pytest.approx((51 * 1 + 50 * 2 / 3) / 101 - done.ap)


def test_missed():
    truth = Instances.of([OBJECT, [300, 0, 400, 100]], [ANT, ANT])
    done = one((OBJECT, 0.9, ANT), truth=truth)
    assert counts(done) == {"missed": 1}
    assert (done.ap, cost(done, "missed")) == (pytest.approx(51 / 101), pytest.approx(50 / 101))


def test_an_image_without_detection_misses_all():
    done = break_down([compared(Instances.of([OBJECT], [label]), found()) for label in (ANT, BEE)])
    assert counts(done) == {"missed": 2}
    assert done.ap == 0


def test_a_class_without_objects_is_left_out_of_the_mean():
    done = one((OBJECT, 0.9, ANT), ([300, 0, 400, 100], 0.8, BEE))
    assert counts(done) == {"background": 1}
    assert (done.ap, cost(done, "background")) == (1.0, 0.0)


def test_the_best_scored_error_is_fixed_and_the_others_of_its_object_are_taken_out():
    """The second localisation error would be a duplicate once the first is fixed."""
    truth = Instances.of([OBJECT, [300, 0, 400, 100]], [ANT, ANT])
    bad = [([0, 0, 100, 40], 0.9, ANT), ([0, 0, 100, 30], 0.8, ANT), ([300, 0, 400, 100], 0.7, ANT)]
    done = one(*bad, truth=truth)
    assert counts(done) == {"localisation": 2}
    assert done.ap == pytest.approx(51 / 3 / 101)
    assert cost(done, "localisation") == pytest.approx(1 - 51 / 3 / 101)


def test_an_error_at_an_object_that_is_found_is_taken_out_not_turned_right():
    done = one((OBJECT, 0.5, ANT), ([0, 0, 100, 40], 0.9, ANT))
    assert counts(done) == {"localisation": 1}
    assert (done.ap, cost(done, "localisation")) == (0.5, 0.5)


def test_a_crowd_absorbs_what_lies_in_it():
    truth = Instances.of([OBJECT, [200, 0, 600, 400]], [ANT, ANT], [False, True])
    within = ([250, 50, 300, 100], 0.9, ANT)
    done = one(within, (OBJECT, 0.8, ANT), truth=truth)
    assert (done.detections, done.objects, done.ap) == (1, 1, 1.0)
    assert counts(done) == {}
    assert counts(one((within[0], 0.9, BEE), (OBJECT, 0.8, ANT), truth=truth)) == {"background": 1}


def test_the_threshold_decides():
    detection = ([0, 0, 100, 70], 0.9, ANT)
    assert counts(one(detection)) == {}
    assert counts(one(detection, iou=0.75)) == {"localisation": 1}


def test_only_the_hundred_best_of_a_class_count():
    done = one(*[([600, 0, 700, 100], 0.5 + i / 1000, ANT) for i in range(150)], (OBJECT, 0.1, ANT))
    assert counts(done) == {"background": 100, "missed": 1}
    done = one(*[([600, 0, 700, 100], 0.5 + i / 1000, BEE) for i in range(150)], (OBJECT, 0.1, ANT))
    assert (done.ap, counts(done)) == (1.0, {"background": 100})


def test_boxes_without_area_are_background():
    assert counts(one(([10, 10, 10, 10], 0.9, ANT))) == {"background": 1, "missed": 1}
    assert counts(one(([90, 90, 10, 10], 0.9, ANT))) == {"background": 1, "missed": 1}


def test_mistakes():
    with pytest.raises(CtnetError, match=r"there are no objects.*split with annotations"):
        break_down([compared(Instances.of([OBJECT], [ANT], [True]), found((OBJECT, 1.0, ANT)))])
    with pytest.raises(CtnetError, match="there are no objects"):
        break_down([])
    for iou in (0.05, 1.2, float("nan")):
        with pytest.raises(CtnetError, match=r"--iou is .* must be above 0.1"):
            one(iou=iou)


def test_average_precision_equals_its_definition():
    generator = np.random.default_rng(0)
    for count in (1, 3, 7, 97):  # none of these recalls is a multiple of 0.01, where COCO's rounding decides
        right = generator.random(count + 20) < 0.4
        right[np.cumsum(right) > count] = False
        total = 0.0
        for hundredth in range(101):
            best = 0.0
            for n in range(1, len(right) + 1):
                if right[:n].sum() * 100 >= hundredth * count:
                    best = max(best, right[:n].sum() / n)
            total += best / 101
        assert average_precision(right, count) == pytest.approx(total)


# --- independently: plain loops sort the errors; COCO's evaluation measures the corrected results


def random_scenes(seed, images=30):
    """Instances and flawed detections of every image: all error types, crowds, empty images."""
    generator = np.random.default_rng(seed)
    scenes = []
    for image in range(images):
        count = int(generator.integers(0, 7)) if image else 0
        corner, size = generator.uniform(0, 150, (count, 2)), generator.uniform(20, 90, (count, 2))
        boxes, labels = np.concatenate([corner, corner + size], axis=1), generator.integers(0, 3, count)
        crowd = generator.random(count) < 0.1
        rows = []
        for box, label in zip(boxes, labels, strict=True):
            for _ in range(generator.integers(0, 4)):
                extent = np.tile(box[2:] - box[:2], 2)
                other = int(generator.integers(0, 4))  # 3: a class without objects
                shifted = box + generator.normal(0, 0.08, 4) * extent
                rows.append((shifted, generator.random(), label if generator.random() < 0.75 else other))
        for _ in range(3):
            start = generator.uniform(0, 200, 2)
            rows.append(([*start, *(start + 30)], generator.random(), int(generator.integers(0, 3))))
        scenes.append((Instances.of(boxes, labels, crowd), found(*rows)))
    return scenes


def plain_iou(a, b, of_first=False):
    common = max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    first, second = (a[2] - a[0]) * (a[3] - a[1]), (b[2] - b[0]) * (b[3] - b[1])
    union = first if of_first else first + second - common
    return common / union if union > 0 else 0.0


def sort_by_loops(truth, detections, iou):
    """Kind and intended object of an image's detections, the errors that a fix turns right, the misses."""
    objects = [i for i in range(len(truth)) if not truth.crowd[i]]
    by_score = sorted(range(len(detections)), key=lambda row: -detections.scores[row])
    boxes, labels = detections.boxes.astype(float), detections.labels
    owner, kind, meant = {}, {}, {}
    for row in by_score:
        best, taken = iou, None
        for i in objects:
            overlap = plain_iou(boxes[row], truth.boxes[i].astype(float))
            if i not in owner and truth.labels[i] == labels[row] and overlap >= best:
                best, taken = overlap, i
        if taken is not None:
            owner[taken], kind[row] = row, "right"
            continue
        for i in range(len(truth)):
            covered = plain_iou(boxes[row], truth.boxes[i].astype(float), of_first=True)
            if truth.crowd[i] and truth.labels[i] == labels[row] and covered >= iou:
                kind[row] = "absorbed"
    for row in by_score:
        if row in kind:
            continue
        mine = {i: plain_iou(boxes[row], truth.boxes[i].astype(float)) for i in objects}
        same = {i: value for i, value in mine.items() if truth.labels[i] == labels[row]}
        other = {i: value for i, value in mine.items() if truth.labels[i] != labels[row]}
        best_same, best_other = max(same.values(), default=0), max(other.values(), default=0)
        if 0.1 <= best_same < iou:
            kind[row], meant[row] = "localisation", max(same, key=same.get)
        elif best_other >= iou:
            kind[row], meant[row] = "classification", max(other, key=other.get)
        elif best_same >= iou:
            kind[row] = "duplicate"
        elif max(best_same, best_other) < 0.1:
            kind[row] = "background"
        else:
            kind[row] = "both"
    missed = [i for i in objects if i not in owner and i not in meant.values()]
    first = {}
    for row in by_score:
        if row in meant and meant[row] not in owner:
            first.setdefault(meant[row], row)
    return kind, meant, set(first.values()), missed


def with_fix(truth, detections, iou, error):
    """The scene without errors of this type."""
    kind, meant, turned_right, missed = sort_by_loops(truth, detections, iou)
    rows = []
    for row in range(len(detections)):
        box, label = detections.boxes[row], detections.labels[row]
        if kind[row] == error:
            if row not in turned_right:
                continue
            box = truth.boxes[meant[row]] if error == "localisation" else box
            label = truth.labels[meant[row]]
        rows.append((box, detections.scores[row], label))
    if error == "missed":
        truth = truth[np.array([i not in missed for i in range(len(truth))], bool)]
    return truth, found(*rows)


def coco_ap(scenes, iou):
    annotations = [
        {"image_id": n, "category_id": int(label), "iscrowd": int(crowd),
         "bbox": [*box[:2], *(box[2:] - box[:2])]}
        for n, (truth, _) in enumerate(scenes)
        for box, label, crowd in zip(truth.boxes.astype(float), truth.labels, truth.crowd, strict=True)
    ]  # fmt: skip
    truth = {"images": [{"id": n} for n in range(len(scenes))], "annotations": annotations}
    evaluator = CocoBoxEvaluator(truth, range(4), "abcd")
    for n, (_, detections) in enumerate(scenes):
        evaluator.update(n, detections)
    return evaluator.compute()[f"AP{round(100 * iou)}"]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("iou", [0.5, 0.75])
def test_equals_an_independent_computation(seed, iou):
    scenes = random_scenes(seed)
    done = break_down([compared(*scene) for scene in scenes], iou)
    assert done.ap == pytest.approx(coco_ap(scenes, iou), abs=1e-9)
    sorted_scenes = [sort_by_loops(truth, detections, iou) for truth, detections in scenes]
    kinds = [kind for scene in sorted_scenes for kind in scene[0].values()]
    assert done.right == kinds.count("right")
    assert done.detections == len(kinds) - kinds.count("absorbed")
    for name in TYPES:
        number = sum(len(scene[3]) for scene in sorted_scenes) if name == "missed" else kinds.count(name)
        assert number, f"the scenes hold no {name} error"
        assert done.errors[name].count == number, name
        fixed = [with_fix(truth, detections, iou, name) for truth, detections in scenes]
        assert cost(done, name) == pytest.approx(coco_ap(fixed, iou) - done.ap, abs=1e-9), name
