"""Comparisons of models and of recipes whose answers are known."""

from __future__ import annotations

import numpy as np
import pytest

from ctnet.base.errors import CtnetError
from ctnet.core.tally import MeanTally
from ctnet.evaluation.bootstrap import Draws, draw_metrics
from ctnet.evaluation.comparison import (
    _wider_than_normal,
    compare_models,
    compare_recipes,
    most_different,
)

IMAGES = 200


def tally_of(values: np.ndarray) -> MeanTally:
    ones = np.ones(len(values), np.int64)
    return MeanTally(10 * np.arange(len(values)), {}, ones, {"mean": values}, {"mean": ones})


def draws_of(values: np.ndarray, draws: int = 500) -> Draws:
    return draw_metrics(tally_of(values), draws)


def hard() -> np.ndarray:
    """What makes images easy or hard for any model."""
    return np.random.default_rng(0).normal(0, 1, IMAGES)


def never(name: str) -> bool:
    return False


def test_the_same_images_make_small_differences_visible() -> None:
    a = hard()
    b = a + 0.05 + np.random.default_rng(1).normal(0, 0.1, IMAGES)
    found = compare_models(draws_of(a), draws_of(b), never)["mean"]
    assert found.distinguishable
    assert found.difference == pytest.approx(b.mean() - a.mean())
    assert 0.03 < found.percentile[0] < found.difference < found.percentile[1] < 0.08
    assert found.probability == 1
    back = compare_models(draws_of(b), draws_of(a), never)["mean"]
    assert (back.probability, back.distinguishable) == (0, True)
    error = compare_models(draws_of(b), draws_of(a), lambda name: name == "mean")["mean"]
    assert error.probability == 1


def test_equal_models_are_not_distinguishable() -> None:
    same = compare_models(draws_of(hard()), draws_of(hard()), never)["mean"]
    assert same.percentile == (0, 0)
    assert not same.distinguishable
    assert same.probability == 0.5
    noise = np.random.default_rng(2).normal(0, 0.1, IMAGES)
    close = compare_models(draws_of(hard()), draws_of(hard() + noise - noise.mean()), never)["mean"]
    assert not close.distinguishable
    assert close.to_json()["distinguishable"] is False


def test_metrics_that_one_lacks_are_left_out() -> None:
    a, b = draws_of(hard()), draws_of(hard())
    a.value["other"], b.value["broken"] = 1.0, float("nan")
    assert list(compare_models(a, b, never)) == ["mean"]


def test_seeds_are_part_of_a_recipe() -> None:
    """Trainings that differ by 0.3 among each other: 0.1 between recipes is nothing, 1 is much."""
    seeds = np.array([-0.3, 0.0, 0.3])
    a = [draws_of(hard() + seed) for seed in seeds]
    near = compare_recipes(a, [draws_of(hard() + 0.1 + seed) for seed in seeds], never)["mean"]
    assert (near.difference, near.distinguishable) == (pytest.approx(0.1), False)
    assert 0.5 < near.probability < 0.95
    far = compare_recipes(a, [draws_of(hard() + 1 + seed) for seed in seeds], never)["mean"]
    assert far.distinguishable
    assert far.a == pytest.approx(hard().mean())


def test_the_spread_of_seeds_is_not_too_small() -> None:
    """A mean of three varies with the variance over three, with n - 1: the bootstrap alone gives less.

    The interval is that of Student's t-test with four degrees of freedom: 2.776 standard errors to each side.
    """
    seeds = np.random.default_rng(3).normal(0, 1, 3)
    flat = np.zeros(IMAGES)
    a = [draws_of(flat + seed, 4000) for seed in seeds]
    b = [draws_of(flat, 4000) for _ in range(3)]
    found = compare_recipes(a, b, never)["mean"]
    spread = np.sqrt(seeds.var(ddof=1) / 3)
    assert found.percentile[1] - found.percentile[0] == pytest.approx(2 * 2.776 * spread, rel=0.15)


def test_the_luck_of_trainings_with_the_images_counts_once() -> None:
    """Trainings without seeds' worth of their own: the interval is that of the draws of images alone."""
    rng = np.random.default_rng(4)
    widths = []
    for _ in range(20):
        sides = [[draws_of(hard() + rng.normal(0, 1, IMAGES)) for _ in range(3)] for _ in range(2)]
        found = compare_recipes(*sides, never)["mean"].percentile
        widths.append((found[1] - found[0]) / 3.92)
    assert np.median(widths) == pytest.approx(np.sqrt(2 / 3 / IMAGES), rel=0.15)


@pytest.mark.parametrize(("freedom", "quantile"), [(2, 4.303), (4, 2.776), (8, 2.306), (100, 1.984)])
def test_few_degrees_of_freedom_are_as_in_tables(freedom: int, quantile: float) -> None:
    assert 1.959964 * _wider_than_normal(freedom) == pytest.approx(quantile, rel=0.02)


def test_a_recipe_of_one_training_is_refused() -> None:
    one = [draws_of(hard())]
    with pytest.raises(CtnetError, match="two trainings or more"):
        compare_recipes(one, one, never)


@pytest.mark.parametrize("exhaustive", [True, False])
def test_the_images_that_matter_are_found(exhaustive: bool, monkeypatch) -> None:
    if not exhaustive:
        monkeypatch.setattr("ctnet.evaluation.comparison._ALL_IMAGES", 10)
        monkeypatch.setattr("ctnet.evaluation.comparison._CANDIDATES", 40)
    a, b = hard(), hard()
    b[17] += 3
    b[60] -= 2
    tallies = tally_of(a), tally_of(b)
    pair = draw_metrics(tallies[0], 500), draw_metrics(tallies[1], 500)
    found = most_different(*tallies, "mean", pair, seed=0)
    assert [one.image_id for one in found[:2]] == [170, 600]
    assert found[0].effect == pytest.approx(1 / IMAGES - (-2) / (IMAGES - 1), abs=0.03)
    assert found[0].effect > 0 > found[1].effect
