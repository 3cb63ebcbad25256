"""Operating points against the slow way: count at every threshold, and evaluate images drawn again."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ctnet.base.errors import CtnetError
from ctnet.core.tally import Drawn, Matched, Matches, Tally
from ctnet.core.task import create_task
from ctnet.evaluation import CocoBoxEvaluator, VocEvaluator
from ctnet.evaluation.bootstrap import draw_metrics, intervals
from ctnet.evaluation.operating import Aim, PointsTally, operating_points, threshold_curves, warnings_of
from ctnet.measuring.results import read_results
from ctnet.testing.redrawn import evaluated, redrawn

Json = dict[str, Any]


class Given(Tally):
    """Matches that are given."""

    def __init__(self, classes: dict[str, Matched]) -> None:
        images = len(next(iter(classes.values())).objects)
        found = sum(np.bincount(each.image, minlength=images) for each in classes.values())
        super().__init__(range(images), {name: each.objects for name, each in classes.items()}, found)
        self._classes = classes

    def metrics(self, weights: np.ndarray) -> Drawn:
        return {}

    def matches(self) -> Matches:
        return Matches("IoU 0.5", self._classes)


def one_class(scores: list[float], right: list[int], objects: int, images: int = 4) -> Matched:
    image = np.arange(len(scores)) % images
    spread = np.bincount(np.arange(objects) % images, minlength=images)
    hits = np.array(right)
    return Matched.of(image, np.array(scores), hits, 1 - hits, spread)


def many(objects: int, seed: int, shift: float = 0.0, images: int = 60) -> Matched:
    """Right ones score higher than wrong ones, not always; scores are rounded, so that some are equal."""
    rng = np.random.default_rng(seed)
    hits = np.concatenate([np.ones(int(0.8 * objects)), np.zeros(3 * objects)])
    logits = np.where(hits > 0, 0.5, -2.0) + shift + rng.normal(0, 1.2, len(hits))
    scores = (1 / (1 + np.exp(-logits))).round(2)
    held = np.bincount(rng.integers(images, size=objects), minlength=images)
    return Matched.of(rng.integers(images, size=len(hits)), scores, hits, 1 - hits, held)


def reached(matched: Matched, threshold: float) -> tuple[float, float, float]:
    kept = matched.score > threshold
    right, wrong = matched.right[kept].sum(), matched.wrong[kept].sum()
    objects = matched.objects.sum()
    return right / max(right + wrong, 1), right / objects, 2 * right / max(right + wrong + objects, 1)


def thresholds_between(matched: Matched) -> np.ndarray:
    """One between every two scores, highest first."""
    scores = np.append(np.unique(matched.score)[::-1], 0.0)
    return (scores[1:] + scores[:-1]) / 2


@pytest.mark.parametrize("seed", range(3))
def test_the_best_f1_is_the_middle_of_what_cannot_be_told_apart(seed: int) -> None:
    classes = {"ant": many(120, seed), "bee": many(50, seed + 9, -0.5)}
    points = operating_points(Given(classes), "val", draws=100)
    for name, matched in classes.items():
        tried = thresholds_between(matched)
        f1 = np.array([reached(matched, value)[2] for value in tried])
        good = np.flatnonzero(f1 >= f1.max() - 0.5 / np.sqrt(matched.objects.sum()))
        scores = np.append(np.unique(matched.score)[::-1], 0.0)
        middle = (scores[good[0]] + scores[good[-1] + 1]) / 2
        point = points.classes[name]
        assert point.score == pytest.approx(middle, abs=1e-3)
        assert point.own
        assert (point.precision, point.recall, point.f1) == pytest.approx(reached(matched, point.score))
        assert point.objects == matched.objects.sum()
        assert point.f1 >= f1.max() - 0.12
        assert point.intervals is not None
        for value, name_of in ((point.score, "score"), (point.f1, "f1"), (point.recall, "recall")):
            low, high = getattr(point.intervals, name_of)
            assert low < value < high


def test_a_plateau_is_divided_in_the_middle() -> None:
    """Right ones from 0.8, wrong ones up to 0.2: anything between is the best, 0.5 is the middle."""
    matched = one_class([0.9, 0.85, 0.8] * 40 + [0.2, 0.1] * 30, [1] * 120 + [0] * 60, 120)
    (point,) = operating_points(Given({"ant": matched}), "val", draws=100).classes.values()
    assert 0.3 < point.score < 0.6
    assert (point.precision, point.recall, point.f1) == (1, 1, 1)


@pytest.mark.parametrize("wanted", [0.4, 0.6, 0.75])
@pytest.mark.parametrize("goal", ["precision", "recall"])
def test_a_wanted_precision_or_recall(goal: str, wanted: float) -> None:
    matched = many(150, 3)
    points = operating_points(Given({"ant": matched}), "val", Aim(goal, wanted), draws=100)  # type: ignore[arg-type]
    (point,) = points.classes.values()
    tried = [(value, *reached(matched, value)) for value in thresholds_between(matched)]
    if goal == "precision":
        best = max(row[2] for row in tried if row[1] >= wanted)
        assert point.recall == pytest.approx(best)
        assert point.precision >= wanted
    else:
        best = max(row[0] for row in tried if row[2] >= wanted)
        assert point.score == pytest.approx(best, abs=0.006)
        assert point.recall >= wanted
    assert point.reached
    assert points.chosen_for == f"{goal} {wanted:g} on val"


def test_what_cannot_be_reached_is_said() -> None:
    points = operating_points(Given({"ant": many(150, 3)}), "val", Aim("recall", 0.95), draws=100)
    assert not points.classes["ant"].reached
    assert points.classes["ant"].recall == pytest.approx(0.8)
    assert warnings_of(points) == ["no threshold reaches a recall of 0.95 for ant; the nearest one is taken"]


def test_a_class_with_few_objects_gets_the_threshold_of_all() -> None:
    classes = {"ant": many(120, 0), "rare": many(12, 1), "none": one_class([0.4], [0], 0, 60)}
    points = operating_points(Given(classes), "val", draws=100)
    assert points.classes["rare"].score == points.classes["none"].score == points.everything.score
    assert [point.own for point in points.classes.values()] == [True, False, False]
    assert (points.classes["none"].recall, points.classes["none"].f1) == (None, None)
    assert points.everything.objects == 132
    (line,) = warnings_of(points)
    assert line.startswith(
        "2 of 3 classes have fewer than 30 objects, or none is found, and get the threshold of"
    )
    assert line.endswith("rare (12), none (0)")


def test_few_images_are_said_and_the_seed_decides_the_draws() -> None:
    given = Given({"ant": many(60, 0, images=20)})
    first, again, other = (operating_points(given, "val", draws=100, seed=seed) for seed in (0, 0, 1))
    assert first == again != other
    assert first.classes["ant"].score == other.classes["ant"].score
    assert warnings_of(first) == [
        "20 images: with fewer than 50, thresholds are rough and their intervals too narrow"
    ]


@pytest.mark.parametrize(
    ("tally", "message"),
    [
        (Given({"ant": one_class([0.5], [1], 1, images=1)}), "there is only one"),
        (Given({"ant": one_class([], [], 3)}), "nothing was detected in any image"),
        (Given({"ant": one_class([0.5, 0.4], [0, 0], 40)}), "not one detection is right"),
    ],
)
def test_nothing_to_choose_from(tally: Tally, message: str) -> None:
    with pytest.raises(CtnetError, match=message):
        operating_points(tally, "val")


@pytest.mark.parametrize(
    ("goal", "wanted"), [("f1", 0.5), ("recall", None), ("precision", 0.0), ("recall", 1.5)]
)
def test_an_aim_that_makes_no_sense(goal: str, wanted: float | None) -> None:
    with pytest.raises(CtnetError, match="wanted"):
        Aim(goal, wanted)  # type: ignore[arg-type]


def test_curves_are_what_is_reached_at_each_score() -> None:
    matched = many(80, 4)
    curve = threshold_curves(Matches("", {"ant": matched}))["ant"]
    assert curve.score.tolist() == np.unique(matched.score)[::-1].tolist()
    for row in (0, 10, len(curve.score) - 1):
        found = (curve.precision[row], curve.recall[row], curve.f1[row])
        assert found == pytest.approx(reached(matched, curve.score[row] - 1e-9))
    document = curve.to_json(10)
    assert len(document["score"]) == len(document["f1"]) == 10
    assert document["objects"] == 80


# --- by the evaluators' own matching


def make(truth: Json) -> CocoBoxEvaluator:
    ids = [category["id"] for category in truth["categories"]]
    return CocoBoxEvaluator(truth, ids, [category["name"] for category in truth["categories"]])


def detections(truth: Json, results: list[Json]) -> Json:
    task = create_task("ctdet", truth["categories"])
    return read_results(results, task, [image["id"] for image in truth["images"]])


@pytest.mark.parametrize("seed", range(2))
def test_a_lower_threshold_adds_detections_and_changes_no_match(random_case, seed: int) -> None:
    """What the operating points rest on: one matching serves every threshold."""
    truth, results = random_case(seed)
    found = detections(truth, results)
    matches = evaluated(make, truth, found).tally().matches()
    assert matches.how == "IoU 0.5"
    for score in (0.3, 0.655):
        left = {key: each[np.asarray(each.scores) > score] for key, each in found.items()}
        above = evaluated(make, truth, left).tally().matches().classes
        for name, matched in matches.classes.items():
            kept = matched.score > score
            assert matched.right[kept].sum() == above[name].right.sum()
            assert matched.wrong[kept].sum() == above[name].wrong.sum()
            assert (matched.objects == above[name].objects).all()


def test_coco_and_voc_find_the_same_without_crowds(random_case) -> None:
    truth, results = random_case(7)
    for annotation in truth["annotations"]:
        annotation["iscrowd"] = annotation["difficult"] = 0
    found = detections(truth, results)
    coco = evaluated(make, truth, found).tally().matches()

    def voc(content: Json) -> VocEvaluator:
        ids = [category["id"] for category in content["categories"]]
        return VocEvaluator(content, ids, [category["name"] for category in content["categories"]])

    other = evaluated(voc, truth, found).tally().matches()
    assert other.how == "overlap 0.5"
    for name, matched in coco.classes.items():
        # A second object may be matched by COCO's rules and not by Pascal VOC's.
        assert abs(int(matched.right.sum() - other.classes[name].right.sum())) <= 2
        assert len(matched.score) == len(other.classes[name].score)
        assert (matched.objects == other.classes[name].objects).all()


def test_draws_of_figures_at_thresholds_are_exact(random_case) -> None:
    truth, results = random_case(1)
    found = detections(truth, results)
    scores = {"ant": 0.4, "bee": 0.25, "cat": 0.6, "dog": 0.5}
    tally = PointsTally(evaluated(make, truth, found).tally(), scores)
    images = len(truth["images"])
    weights = np.random.default_rng(0).multinomial(images, [1 / images] * images, 4).astype(np.int32)
    drawn = tally.metrics(weights)
    for row, one in enumerate(weights):
        again = PointsTally(evaluated(make, *redrawn(truth, found, one)).tally(), scores)
        for name, value in again.for_all_images().items():
            assert drawn[name][row] == pytest.approx(value), name
    given = intervals(draw_metrics(tally, 100))
    assert {"precision", "recall", "F1", "mF1", "F1/ant", "precision/dog"} <= set(given)
    assert "recall/dog" not in given
    of_classes = [value for name, value in tally.for_all_images().items() if name.startswith("F1/")]
    assert given["mF1"].value == pytest.approx(np.mean(of_classes))
