"""Which epoch's weights are kept, and which other epochs are as good as far as the validation images tell.

The metric varies from epoch to epoch, and its maximum is above what the weights are worth. A mean over some
evaluations picks a good stretch of the training instead of a lucky epoch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ctnet.base.errors import CtnetError
from ctnet.core.evaluator import Evaluator
from ctnet.core.recipe import Recipe
from ctnet.core.tally import Tally
from ctnet.evaluation.comparison import is_distinguishable

#: Draws per comparison of two epochs: for a comment in the log, not for a figure.
_DRAWS = 200


@dataclass(frozen=True)
class Best:
    """The epoch whose weights are kept.

    Attributes:
        epoch: counted from 1.
        value: its main metric.
        smoothed: the mean of the main metric over the last evaluations up to it.
        since: evaluations after it.
    """

    epoch: int
    value: float
    smoothed: float
    since: int


def best_of(rows: Sequence[Mapping[str, float]], metric: str, smooth: int) -> Best | None:
    """The first epoch with the highest mean of a metric over its own and the evaluations before it.

    Args:
        rows: one record per epoch, as in metrics.csv; those without the metric were not evaluated.
        metric: name of the main metric.
        smooth: number of evaluations in a mean; the first epochs have fewer. 1: the metric itself.

    Returns:
        None when no epoch was evaluated.
    """
    evaluated = [row for row in rows if metric in row]
    if not evaluated:
        return None
    values = [row[metric] if math.isfinite(row[metric]) else 0.0 for row in evaluated]
    means = [_mean(values[max(0, end - smooth) : end]) for end in range(1, len(values) + 1)]
    place = max(range(len(means)), key=means.__getitem__)
    return Best(int(evaluated[place]["epoch"]), values[place], means[place], len(means) - 1 - place)


def is_out_of_patience(
    rows: Sequence[Mapping[str, float]], metric: str, recipe: Recipe, waits_from: int = 0
) -> bool:
    """Whether so many evaluations in a row gave no new best one as the recipe allows.

    Args:
        rows, metric: see ``best_of``.
        recipe: the one of the training.
        waits_from: evaluations up to this epoch do not count; see ``Position``.
    """
    best = best_of(rows, metric, recipe.smooth)
    own = sum(metric in row and row["epoch"] > waits_from for row in rows)
    return best is not None and 0 < recipe.patience <= min(best.since, own)


def is_over(rows: Sequence[Mapping[str, float]], metric: str, recipe: Recipe, waits_from: int = 0) -> bool:
    """Whether a training has done all its epochs, or its patience has ended; see ``is_out_of_patience``."""
    return len(rows) >= recipe.epochs or is_out_of_patience(rows, metric, recipe, waits_from)


class Rival:
    """Compares each evaluated epoch with the best one so far, on drawn images (a paired bootstrap).

    What the images of the best epoch contributed is kept in memory, at most about 130 bytes per detection. It
    is not saved: a run that continues says nothing until it has a best epoch again.
    """

    def __init__(self) -> None:
        self._epoch = 0
        self._tally: Tally | None = None

    def comment(self, epoch: int, tally: Tally | None, metric: str, improved: bool) -> str:
        """What to say of an epoch besides its metrics; empty where it clearly differs from the best one.

        Args:
            epoch: counted from 1.
            tally: what the images contributed to its evaluation; see ``tally_of``.
            metric: the main metric.
            improved: whether this is the best epoch from now on.
        """
        before, equal = self._epoch, self._is_as_good(tally, metric)
        if improved:
            self._epoch, self._tally = epoch, tally
            return f"best, within noise of epoch {before}" if equal else "best"
        return f"within noise of the best, epoch {before}" if equal else ""

    def _is_as_good(self, tally: Tally | None, metric: str) -> bool:
        if tally is None or self._tally is None:
            return False
        return not is_distinguishable(self._tally, tally, metric, _DRAWS)


def tally_of(evaluator: Evaluator | None) -> Tally | None:
    """What each image contributed; None for an evaluator without a tally, or where images cannot be drawn."""
    if evaluator is None:
        return None
    try:
        tally = evaluator.tally()
    except CtnetError:
        return None
    return tally if len(tally.image_ids) > 1 else None


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
