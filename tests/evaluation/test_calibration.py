"""Calibration: isotonic regression against its formula, errors by hand, and what holds on other images."""

from __future__ import annotations

import numpy as np
import pytest

from ctnet.base.errors import CtnetError
from ctnet.core.tally import Matched, Matches
from ctnet.evaluation.calibration import fit_calibration, isotonic, reliability


def overconfident(objects: int, seed: int, images: int = 50) -> Matched:
    """Scores whose probability of being right is their square."""
    rng = np.random.default_rng(seed)
    scores = rng.random(4 * objects)
    hits = (rng.random(4 * objects) < scores**2).astype(int)
    held = np.bincount(rng.integers(images, size=objects), minlength=images)
    return Matched.of(rng.integers(images, size=len(scores)), scores, hits, 1 - hits, held)


@pytest.mark.parametrize("seed", range(4))
def test_isotonic_regression_is_that_of_the_formula(seed: int) -> None:
    """Largest over starts up to here of the smallest mean to an end from here on."""
    rng = np.random.default_rng(seed)
    scores = rng.random(40).round(2 if seed % 2 else 6)
    right = (rng.random(40) < scores).astype(float)
    curve = isotonic(scores, right)
    assert curve.ascends
    values = np.unique(scores)
    sums = np.array([right[scores == value].sum() for value in values])
    counts = np.array([(scores == value).sum() for value in values])

    def mean(start: int, end: int) -> float:
        return float(sums[start : end + 1].sum() / counts[start : end + 1].sum())

    expected = [
        max(min(mean(start, end) for end in range(row, len(values))) for start in range(row + 1))
        for row in range(len(values))
    ]
    # Linear between the middles of blocks: their means are those of the formula.
    assert sorted(set(np.round(expected, 9))) == pytest.approx(sorted(set(np.round(curve.probabilities, 9))))


def test_reliability_by_hand() -> None:
    scores, hits = np.array([0.95, 0.91, 0.15, 0.11, 0.01]), np.array([1, 0, 0, 0, 1])
    matched = Matched.of(np.zeros(5, int), scores, hits, 1 - hits, np.array([3]))
    found = reliability(Matches("", {"ant": matched}))
    assert found.detections == 4, "those below 0.05 are left out"
    assert found.error == pytest.approx((2 * abs(0.93 - 0.5) + 2 * 0.13) / 4)
    last = found.bins[9]
    assert (last.low, last.high, last.detections, last.fraction_right) == (0.9, 1.0, 2, 0.5)
    assert last.mean_score == pytest.approx(0.93)
    assert found.bins[5].mean_score is None
    assert found.to_json()["bins"][1]["detections"] == 2


def test_a_calibration_holds_on_other_images() -> None:
    matches = Matches("", {"ant": overconfident(300, 0), "rare": overconfident(10, 1)})
    done = fit_calibration(matches)
    assert done.before.error > 0.12
    assert done.after.error < 0.04
    assert (done.calibration.error_before, done.calibration.error_after) == (
        done.before.error,
        done.after.error,
    )
    assert done.calibration.classes["rare"] == done.calibration.everything
    assert done.calibration.classes["ant"](np.array([0.3, 0.7])) == pytest.approx([0.09, 0.49], abs=0.06)
    other = reliability(Matches("", {"ant": overconfident(300, 5)}), done.calibration)
    assert other.error < 0.04
    assert fit_calibration(matches) == done


def test_what_covers_a_crowd_does_not_count() -> None:
    scores = np.linspace(0.1, 0.9, 60)
    hits = np.tile([1, 0, 0], 20)
    wrong = np.tile([0, 1, 0], 20)
    matched = Matched.of(np.arange(60) % 10, scores, hits, wrong, np.full(10, 4))
    assert reliability(Matches("", {"ant": matched})).detections == 40


def test_nothing_to_fit() -> None:
    few = Matched.of(np.zeros(2, int), np.array([0.4, 0.6]), np.array([1, 0]), np.array([0, 1]), np.ones(4))
    with pytest.raises(CtnetError, match="5 groups of images, and there are 4 images"):
        fit_calibration(Matches("", {"ant": few}))
    blank = Matched.of(np.arange(6), np.full(6, 0.5), np.zeros(6), np.ones(6), np.ones(6))
    with pytest.raises(CtnetError, match="not one detection is right"):
        fit_calibration(Matches("", {"ant": blank}))
