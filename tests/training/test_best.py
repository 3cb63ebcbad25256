"""Which epoch's weights are kept, and what is said of the others."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from ctnet.core.evaluator import Evaluator
from ctnet.core.tally import MeanTally, Tally
from ctnet.training.best import Rival, best_of, tally_of


def rows(*values: float | None) -> list[dict[str, float]]:
    """One per epoch; None for an epoch without evaluation."""
    return [
        {"epoch": epoch, "loss": 1.0} | ({} if value is None else {"AP": value})
        for epoch, value in enumerate(values, 1)
    ]


def test_one_evaluation_is_the_plain_best() -> None:
    best = best_of(rows(0.1, 0.9, 0.5, 0.9), "AP", 1)
    assert best is not None
    assert (best.epoch, best.value, best.smoothed, best.since) == (2, 0.9, 0.9, 2)


def test_a_lucky_epoch_does_not_win_a_mean() -> None:
    best = best_of(rows(0.1, 0.9, 0.1, 0.5, 0.6, 0.7, 0.5), "AP", 3)
    assert best is not None
    assert best.epoch == 6
    assert best.smoothed == pytest.approx(0.6)
    assert best.value == 0.7


def test_the_first_epochs_have_shorter_means() -> None:
    best = best_of(rows(0.8, 0.2, 0.2), "AP", 5)
    assert best is not None
    assert (best.epoch, best.smoothed) == (1, 0.8)


def test_epochs_without_evaluation_do_not_count() -> None:
    best = best_of(rows(None, 0.3, None, 0.5, None), "AP", 2)
    assert best is not None
    assert (best.epoch, best.smoothed, best.since) == (4, 0.4, 0)
    assert best_of(rows(None, None), "AP", 2) is None


def test_a_metric_that_is_not_a_number_counts_as_zero() -> None:
    best = best_of(rows(float("nan"), 0.1), "AP", 1)
    assert best is not None
    assert best.epoch == 2


class Known(Evaluator):
    """An evaluator whose images each contribute a known figure."""

    main_metric = "score"

    def __init__(self, figures: Sequence[float]) -> None:
        self.figures = np.asarray(figures)

    def compute(self) -> dict[str, float]:
        return {"score": float(self.figures.mean())}

    def tally(self) -> Tally:
        count = len(self.figures)
        ones = np.ones(count, np.int64)
        return MeanTally(range(count), {"x": ones}, ones, {"score": self.figures}, {"score": ones})


def noisy(mean: float) -> Known:
    rng = np.random.default_rng(0)
    return Known(mean + rng.normal(0, 0.1, 100))


def test_epochs_that_images_cannot_tell_apart_are_named() -> None:
    rival = Rival()
    rng = np.random.default_rng(1)
    first = noisy(0.3)
    assert rival.comment(1, tally_of(first), "score", improved=True) == "best"
    assert (
        rival.comment(2, tally_of(Known(first.figures + 0.05)), "score", improved=True) == "best"
    )  # better in every image
    luck = Known(first.figures + 0.05 + rng.normal(0.001, 0.1, 100))
    assert rival.comment(3, tally_of(luck), "score", improved=True) == "best, within noise of epoch 2"
    assert rival.comment(4, tally_of(first), "score", improved=False) == ""
    assert rival.comment(
        5, tally_of(Known(luck.figures + rng.normal(0, 0.1, 100))), "score", improved=False
    ) == ("within noise of the best, epoch 3")


def test_an_evaluator_without_tally_gets_no_comment() -> None:
    class Plain(Known):
        def tally(self) -> Tally:
            return Evaluator.tally(self)

    rival = Rival()
    assert rival.comment(1, tally_of(Plain([0.1, 0.2])), "score", improved=True) == "best"
    assert rival.comment(2, tally_of(Plain([0.1, 0.2])), "score", improved=False) == ""
    assert Rival().comment(1, tally_of(Known([0.5])), "score", improved=True) == "best"
