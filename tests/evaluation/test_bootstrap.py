"""Intervals: what they are, against known cases and the slow bootstrap; and what has none."""

from __future__ import annotations

from statistics import NormalDist
from typing import Any

import numpy as np
import pytest

from ctnet.base.errors import CtnetError
from ctnet.core.records import Detections
from ctnet.core.tally import JoinedTally, MeanTally
from ctnet.core.task import create_task
from ctnet.evaluation import CocoBoxEvaluator
from ctnet.evaluation.bootstrap import (
    draw_covariance,
    draw_metrics,
    interval,
    intervals,
    intervals_of,
    left_out_one_by_one,
    warnings,
)
from ctnet.measuring.results import read_results
from ctnet.testing.redrawn import evaluated, redrawn

Json = dict[str, Any]


def mean_of(values: np.ndarray, objects: int = 1) -> MeanTally:
    """A tally whose one metric is the mean of a value per image."""
    ones = np.ones(len(values), np.int64)
    counts = {"bee": objects * ones}
    return MeanTally(range(len(values)), counts, ones, {"mean": values}, {"mean": ones})


def make(truth: Json) -> CocoBoxEvaluator:
    return CocoBoxEvaluator(truth, [2, 5, 9, 11], ["ant", "bee", "cat", "dog"])


@pytest.fixture
def detections(truth: Json, results: list[Json]) -> dict[int, Detections]:
    task = create_task("ctdet", truth["categories"])
    return read_results(results, task, [image["id"] for image in truth["images"]])


def test_a_slow_bootstrap_gives_the_same_interval(truth: Json, detections: dict[int, Detections]) -> None:
    tally = evaluated(make, truth, detections).tally()
    drawn = draw_metrics(tally, 6, seed=3)
    rng, slow = np.random.default_rng(3), []
    for _ in range(6):
        weights = np.bincount(rng.integers(12, size=12), minlength=12)
        slow.append(evaluated(make, *redrawn(truth, detections, weights)).compute()["AP"])
    np.testing.assert_allclose(drawn.drawn["AP"], slow, atol=1e-9, rtol=0)
    found = intervals(drawn)["AP"]
    assert found.percentile == pytest.approx(np.quantile(slow, [0.025, 0.975]))
    assert found.value == pytest.approx(evaluated(make, truth, detections).compute()["AP"])


def test_a_seed_draws_the_same_whatever_the_size_of_batches(monkeypatch) -> None:
    values = np.random.default_rng(0).random(60)
    one = draw_metrics(mean_of(values), 150, seed=1)
    monkeypatch.setattr("ctnet.evaluation.bootstrap._VALUES", 600)
    other = draw_metrics(mean_of(values), 150, seed=1)
    assert one.drawn["mean"] == pytest.approx(other.drawn["mean"], abs=1e-12)
    assert one.left_out["mean"] == pytest.approx(other.left_out["mean"], abs=1e-12)
    assert draw_metrics(mean_of(values), 150, seed=2).drawn["mean"].tolist() != one.drawn["mean"].tolist()


def test_the_interval_of_a_mean_is_the_textbook_s() -> None:
    values = np.random.default_rng(0).normal(3, 2, 400)
    found = intervals(draw_metrics(mean_of(values), 2000))["mean"]
    error = values.std() / 20
    for low, high in (found.percentile, found.bca):
        assert (low, high) == pytest.approx(
            (values.mean() - 1.96 * error, values.mean() + 1.96 * error), abs=0.03
        )


def test_bca_shifts_towards_the_long_tail() -> None:
    """Of a mean of skewed values: the acceleration is a sixth of their skewness over the root of n."""
    values = np.random.default_rng(0).exponential(1, 100)
    drawn = draw_metrics(mean_of(values), 4000)
    found = intervals(drawn)["mean"]
    assert found.bca[0] > found.percentile[0]
    assert found.bca[1] > found.percentile[1]
    deviations = values - values.mean()
    acceleration = (deviations**3).mean() / (deviations**2).mean() ** 1.5 / 6 / 10
    bias = NormalDist().inv_cdf((drawn.drawn["mean"] < values.mean()).mean())
    shifted = bias + 1.959964
    level = NormalDist().cdf(bias + shifted / (1 - acceleration * shifted))
    assert found.bca[1] == pytest.approx(np.quantile(drawn.drawn["mean"], level), abs=2e-3)


def test_groups_of_many_images_say_as_much_as_single_ones(monkeypatch) -> None:
    tally = mean_of(np.random.default_rng(0).exponential(1, 1000))
    grouped = intervals(draw_metrics(tally, 1000))["mean"].bca
    monkeypatch.setattr("ctnet.evaluation.bootstrap._GROUPS", 1000)
    assert intervals(draw_metrics(tally, 1000))["mean"].bca == pytest.approx(grouped, abs=5e-3)


def test_what_never_varies_has_an_interval_of_one_point() -> None:
    assert intervals(draw_metrics(mean_of(np.ones(60)), 100))["mean"].bca == (1, 1)
    never = interval(0.5, np.full(5, np.nan), np.zeros(0))
    assert never.percentile == never.bca == (0.5, 0.5)


def test_undefined_draws_are_left_out() -> None:
    """The only image with a value is missing from a third of the draws."""
    counts = np.zeros(60, np.int64)
    counts[7] = 1
    tally = MeanTally(range(60), {}, counts, {"rare": 0.25 * counts}, {"rare": counts})
    drawn = draw_metrics(tally, 300)
    assert 0.2 < np.isnan(drawn.drawn["rare"]).mean() < 0.5
    assert intervals(drawn)["rare"].percentile == (0.25, 0.25)
    joined = JoinedTally(tally, mean_of(np.arange(60.0)))
    assert list(draw_metrics(joined, 100).value) == ["rare", "mean"]


def test_influence_of_single_images() -> None:
    values = np.random.default_rng(0).random(30)
    tally = mean_of(values)
    without = left_out_one_by_one(tally, "mean", np.array([3, 20]))
    assert without == pytest.approx([np.delete(values, 3).mean(), np.delete(values, 20).mean()])
    drawn = draw_metrics(tally, 3000).drawn["mean"]
    influence = draw_covariance(drawn, 30, 0)
    assert np.corrcoef(influence, values)[0, 1] > 0.9


def test_few_images_and_few_objects_are_said() -> None:
    assert warnings(mean_of(np.ones(50))) == []
    assert warnings(mean_of(np.ones(49))) == ["49 images: with fewer than 50, intervals are too narrow"]
    tally = mean_of(np.ones(60))
    tally.objects = {"ant": np.zeros(60, int), "bee": np.ones(60, int), "cat": np.eye(60, dtype=int)[0] * 29}
    assert warnings(tally) == [
        "1 of 3 classes have fewer than 30 objects, so their intervals are too narrow: cat (29)"
    ]


def test_the_document_has_all_that_is_defined(truth: Json, detections: dict[int, Detections]) -> None:
    evaluator = evaluated(make, truth, detections)
    metrics = evaluator.compute()
    found = intervals_of(evaluator.tally(), metrics, draws=100)
    document = found.to_json()
    assert list(document["metrics"]) == list(metrics)
    for name, one in document["metrics"].items():
        assert one["value"] == pytest.approx(metrics[name])
        assert one["percentile"][0] <= one["percentile"][1]
    assert (document["level"], document["draws"], document["images"]) == (0.95, 100, 12)
    assert "100 draws of 12 images" in found.said


def test_one_image_has_no_interval() -> None:
    with pytest.raises(CtnetError, match="there is only one; evaluate a split of at least 50 images"):
        draw_metrics(mean_of(np.ones(1)))


def test_nothing_detected_has_no_interval(truth: Json) -> None:
    with pytest.raises(CtnetError, match="nothing was detected in any image"):
        draw_metrics(make(truth).tally())


def test_one_class_has_one(truth: Json, detections: dict[int, Detections]) -> None:
    for annotation in truth["annotations"]:
        annotation["category_id"] = 2
    alone = {key: found.replace(labels=np.zeros(len(found), int)) for key, found in detections.items()}
    evaluator = evaluated(lambda content: CocoBoxEvaluator(content, [2], ["ant"]), truth, alone)
    found = intervals_of(evaluator.tally(), evaluator.compute(), draws=100).by_metric
    assert found["AP"].percentile == found["AP/ant"].percentile
    assert found["AP"].percentile[0] < found["AP"].value < found["AP"].percentile[1]
