"""Whether two models, or two recipes, differ by more than the choice of images and seeds explains.

Both are evaluated on the same images, and every draw of images is of both: what makes an image hard for one
makes it hard for the other, so that the difference varies less than either figure.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ctnet.base.errors import CtnetError
from ctnet.core.tally import Tally
from ctnet.evaluation.bootstrap import (
    LEVEL,
    Draws,
    draw_covariance,
    draw_metric,
    interval,
    left_out_one_by_one,
)

#: Up to so many images, the influence of every one is computed; of more, that of the likeliest ones.
_ALL_IMAGES = 500
_CANDIDATES = 200


@dataclass(frozen=True)
class Difference:
    """A metric of A and of B.

    Attributes:
        a, b: the metric of each.
        difference: B's minus A's.
        percentile, bca: intervals of the difference, see ``Interval``.
        probability: the fraction of draws in which B is better; draws of equals count half.
        distinguishable: whether the percentile interval leaves out 0.
    """

    a: float
    b: float
    difference: float
    percentile: tuple[float, float]
    bca: tuple[float, float]
    probability: float
    distinguishable: bool

    def to_json(self) -> dict[str, Any]:
        return {
            "a": self.a,
            "b": self.b,
            "difference": self.difference,
            "percentile": list(self.percentile),
            "bca": list(self.bca),
            "probability_b_better": self.probability,
            "distinguishable": self.distinguishable,
        }


@dataclass(frozen=True)
class Disagreement:
    """An image, and how much of the difference of B from A comes from it: without it, it is less by that."""

    image_id: int
    effect: float


def compare_models(
    a: Draws, b: Draws, lower_is_better: Callable[[str], bool], level: float = LEVEL
) -> dict[str, Difference]:
    """Compare two models, metric by metric.

    Args:
        a, b: draws of the same images.
        lower_is_better: see ``Evaluator.lower_is_better``.
        level: see ``intervals``.
    """
    names = [name for name, value in a.value.items() if np.isfinite(value) and name in b.value]
    return {
        name: _difference(
            (a.value[name], b.value[name]),
            b.drawn[name] - a.drawn[name],
            b.left_out[name] - a.left_out[name],
            lower_is_better(name),
            level,
        )
        for name in names
        if np.isfinite(b.value[name])
    }


def is_distinguishable(
    a: Tally, b: Tally, metric: str, draws: int, seed: int = 0, level: float = LEVEL
) -> bool:
    """Whether the percentile interval of one metric's difference leaves out 0: ``compare_models`` in short.

    Args:
        a, b: tallies of the same images.
        metric: the metric.
        draws, seed: see ``draw_metrics``.
        level: see ``intervals``.
    """
    drawn = draw_metric(b, metric, draws, seed) - draw_metric(a, metric, draws, seed)
    low, high = interval(0.0, drawn, np.empty(0), level).percentile
    return bool(low > 0 or high < 0)


def compare_recipes(
    a: Sequence[Draws],
    b: Sequence[Draws],
    lower_is_better: Callable[[str], bool],
    seed: int = 0,
    level: float = LEVEL,
) -> dict[str, Difference]:
    """Compare the means of several trainings: every draw is one of images and one of trainings.

    The draws of images are of the mean of all trainings. To each, what the mean of trainings drawn differs
    from that of all is added; see ``_luck_of_seeds``.

    Args:
        a, b: draws of the same images for each training of a recipe, two or more of each.
        lower_is_better: see ``Evaluator.lower_is_better``.
        seed: seed of the choice of trainings.
        level: see ``intervals``.

    Raises:
        CtnetError: for a recipe with a single training.
    """
    if min(len(a), len(b)) < 2:
        raise CtnetError("a recipe is compared by two trainings or more, with other seeds; three are better")
    rng = np.random.default_rng([seed, 1])
    draws = len(next(iter(a[0].drawn.values())))
    picks = [rng.integers(len(side), size=(draws, len(side))) for side in (a, b)]
    found = {}
    for name in a[0].value:
        values = [[one.value.get(name, np.nan) for one in side] for side in (a, b)]
        if not np.isfinite([*values[0], *values[1]]).all():
            continue
        tables = [np.stack([one.drawn[name] for one in side]) for side in (a, b)]
        drawn = tables[1].mean(axis=0) - tables[0].mean(axis=0)
        drawn = drawn + _luck_of_seeds([np.array(side) for side in values], tables, picks)
        left = [np.mean([one.left_out[name] for one in side], axis=0) for side in (a, b)]
        means = (float(np.mean(values[0])), float(np.mean(values[1])))
        lower = lower_is_better(name)
        found[name] = _difference(means, drawn, left[1] - left[0], lower, level)
    return found


def most_different(
    a: Tally, b: Tally, metric: str, draws: tuple[Draws, Draws], seed: int
) -> list[Disagreement]:
    """The images with the most influence on the difference of B from A, most first.

    Args:
        a, b: tallies of the same images.
        metric: the metric of the difference.
        draws: the draws of both, of this seed.
        seed: see ``draw_metrics``.
    """
    images = len(a.image_ids)
    chosen = np.arange(images)
    if images > _ALL_IMAGES:
        drawn = draws[1].drawn[metric] - draws[0].drawn[metric]
        chosen = np.argsort(-np.abs(draw_covariance(drawn, images, seed)), kind="stable")[:_CANDIDATES]
    without = left_out_one_by_one(b, metric, chosen) - left_out_one_by_one(a, metric, chosen)
    effect = draws[1].value[metric] - draws[0].value[metric] - without
    order = np.argsort(-np.abs(effect), kind="stable")
    return [
        Disagreement(int(a.image_ids[chosen[row]]), float(effect[row]))
        for row in order
        if np.isfinite(effect[row]) and effect[row] != 0
    ]


def _luck_of_seeds(
    values: Sequence[np.ndarray], tables: Sequence[np.ndarray], picks: Sequence[np.ndarray]
) -> np.ndarray:
    """What the choice of seeds adds to the difference of two recipes' means, drawn.

    Trainings of a recipe differ by more than their seeds' worth: each has its own luck with these images. The
    draws of images contain that luck, so its variance is taken off that of the trainings (both summed over
    the recipes). With the images drawn as well, it would count three times, and hardly anything would be
    distinguishable (Owen, "The pigeonhole bootstrap", 2007). A mean of n drawn from n varies too little, by
    sqrt((n - 1) / n), and the variance of a few numbers is hardly known, which widens the interval as in
    Student's t-test.

    Args:
        values: (n,) for each recipe, the metric of its trainings.
        tables: (n, B) for each recipe, the same of B draws of images.
        picks: (B, n) for each recipe, the trainings drawn.

    Returns:
        (B,).
    """
    freedom = sum(len(side) - 1 for side in values)
    deviations = [side - side.mean() for side in values]
    between = sum(float((side**2).sum()) for side in deviations) / freedom
    luck = sum(float(np.nanvar(table - table.mean(axis=0), axis=1).sum()) for table in tables) / freedom
    scale = np.sqrt(max(0.0, 1 - luck / between)) if between > 0 else 0.0
    drawn = [
        np.sqrt(len(side) / (len(side) - 1)) * side[pick].mean(axis=1)
        for side, pick in zip(deviations, picks, strict=True)
    ]
    return np.asarray(scale * _wider_than_normal(freedom) * (drawn[1] - drawn[0]))


def _wider_than_normal(freedom: int) -> float:
    """The 97.5 % quantile of Student's distribution as a multiple of the normal one.

    Source: Abramowitz and Stegun, 26.7.5, whose first four terms are 0.8 % too small for two degrees of
    freedom and 0.02 % for four.
    """
    z: float = 1.959964
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return 1 + sum(term / float(freedom**power) for power, term in enumerate(terms, 1)) / z


def _difference(
    values: tuple[float, float], drawn: np.ndarray, left_out: np.ndarray, lower: bool, level: float
) -> Difference:
    value = values[1] - values[0]
    found = interval(value, drawn, left_out, level)
    known = drawn[np.isfinite(drawn)]
    better = -known if lower else known
    probability = float((better > 0).mean() + (better == 0).mean() / 2) if len(known) else 0.5
    low, high = found.percentile
    return Difference(
        *values, value, found.percentile, found.bca, probability, distinguishable=bool(low > 0 or high < 0)
    )
