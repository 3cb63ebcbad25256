"""Intervals of metrics: images are drawn again, with replacement.

A metric of other images of the same kind would differ from that of these. The bootstrap asks how much, by
drawing as many images as there are from those at hand. Whole images are drawn: the objects of an image
are alike.

Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993: the percentile interval (chapter 13) and
the bias-corrected and accelerated one, BCa (chapter 14).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np

from ctnet.base.errors import CtnetError
from ctnet.base.progress import track
from ctnet.core.tally import Drawn, Tally

DRAWS = 1000
LEVEL = 0.95

#: Below these, intervals are known to be too narrow.
FEW_IMAGES = 50
FEW_OBJECTS = 30

#: Values of draws that are held at once (``Tally.rows`` per draw): a draw holds about 40 bytes for each.
_VALUES = 1 << 20
_MOST_DRAWS = 128
#: Groups of images that are left out for the acceleration of BCa; more would say little more.
_GROUPS = 200


@dataclass(frozen=True)
class Draws:
    """Metrics of a data set, of draws of its images, and of it without some of its images.

    Attributes:
        value: the metrics of all images.
        drawn: (B,) float64 by metric; NaN for draws that do not define it.
        left_out: (G,) float64 by metric: the images are in G groups, and each is left out once.
    """

    value: dict[str, float]
    drawn: Drawn
    left_out: Drawn


@dataclass(frozen=True)
class Interval:
    """Between which values a metric lies.

    Attributes:
        value: the metric of all images.
        percentile: the interval between quantiles of the draws.
        bca: the same, corrected for bias and for a spread that depends on the metric.
    """

    value: float
    percentile: tuple[float, float]
    bca: tuple[float, float]

    def to_json(self) -> dict[str, object]:
        return {"value": self.value, "percentile": list(self.percentile), "bca": list(self.bca)}


@dataclass(frozen=True)
class Intervals:
    """The intervals of an evaluation.

    Attributes:
        by_metric: in the order of the metrics.
        images, draws, seed: what they come from.
        warnings: what makes them too narrow, a sentence each.
    """

    by_metric: dict[str, Interval]
    images: int
    draws: int
    seed: int
    warnings: list[str]

    @property
    def said(self) -> str:
        """A line that says what the intervals are."""
        return (
            f"intervals: {LEVEL:.0%}, from {self.draws} draws of {self.images} images (seed {self.seed}); "
            "they are about other images like these, not about other trainings"
        )

    def to_json(self) -> dict[str, Any]:
        about = {"level": LEVEL, "draws": self.draws, "seed": self.seed, "images": self.images}
        metrics = {name: one.to_json() for name, one in self.by_metric.items()}
        return {**about, "warnings": self.warnings, "metrics": metrics}


def intervals_of(tally: Tally, metrics: Mapping[str, float], draws: int = DRAWS, seed: int = 0) -> Intervals:
    """The intervals of an evaluation's metrics.

    Args:
        tally: what the images of the evaluation contributed.
        metrics: from ``Evaluator.compute``; their order is kept.
        draws: number of draws.
        seed: seed of the random choice.

    Raises:
        CtnetError: see ``require_draws``.
    """
    found = intervals(draw_metrics(tally, draws, seed))
    ordered = {name: found[name] for name in metrics if name in found}
    return Intervals(ordered, len(tally.image_ids), draws, seed, warnings(tally))


def draw_metrics(tally: Tally, draws: int = DRAWS, seed: int = 0, describe: str = "drawing images") -> Draws:
    """Draw images with replacement, as many as there are, and compute the metrics of each draw.

    The same seed draws the same images of any tally of as many images, so that two models can be compared.

    Args:
        tally: what the images of an evaluation contributed.
        draws: number of draws.
        seed: seed of the random choice.
        describe: text for the progress display.

    Raises:
        CtnetError: where there is nothing to draw from, see ``require_draws``.
    """
    require_draws(tally)
    images = len(tally.image_ids)
    at_once = _at_once(tally)
    value = {name: float(column[0]) for name, column in tally.metrics(_ones(1, images)).items()}
    drawing = track(_batches(images, draws, seed, at_once), describe, -(-draws // at_once), "batches")
    batches = [(len(weights), tally.metrics(weights)) for weights in drawing]
    groups = np.random.default_rng(seed).permutation(images) % min(images, _GROUPS)
    rows = np.arange(min(images, _GROUPS))[:, None]
    without = [
        (len(some), tally.metrics((groups != some).astype(np.int32)))
        for some in (rows[start : start + at_once] for start in range(0, len(rows), at_once))
    ]
    return Draws(value, _joined(batches, value), _joined(without, value))


def draw_metric(tally: Tally, metric: str, draws: int, seed: int = 0) -> np.ndarray:
    """(B,) one metric of the draws of ``draw_metrics``, without progress display; NaN where undefined."""
    images = len(tally.image_ids)
    return np.concatenate(
        [
            tally.metrics(weights).get(metric, np.full(len(weights), np.nan))
            for weights in _batches(images, draws, seed, _at_once(tally))
        ]
    )


def draw_covariance(drawn: np.ndarray, images: int, seed: int) -> np.ndarray:
    """(I,) the covariance of a value with how often each image was drawn.

    Args:
        drawn: (B,) of the draws of ``draw_metrics``; NaN where undefined.
        images: number of images.
        seed: that of the draws.
    """
    deviation = np.where(np.isfinite(drawn), drawn - np.nanmean(drawn), 0.0)
    total, start = np.zeros(images), 0
    for weights in _batches(images, len(drawn), seed, _MOST_DRAWS):
        total += deviation[start : start + len(weights)] @ (weights - 1.0)
        start += len(weights)
    return total / len(drawn)


def drawn_images(images: int, draws: int, seed: int) -> Iterator[np.ndarray]:
    """The draws of ``draw_metrics`` in batches, (D, I) int32 each: how often each image was drawn."""
    return _batches(images, draws, seed, _MOST_DRAWS)


def left_out_one_by_one(tally: Tally, metric: str, chosen: np.ndarray) -> np.ndarray:
    """(C,) a metric without each of some images, given by their rows."""
    images, at_once = len(tally.image_ids), _at_once(tally)
    parts = []
    for start in range(0, len(chosen), at_once):
        some = chosen[start : start + at_once]
        weights = _ones(len(some), images)
        weights[np.arange(len(some)), some] = 0
        parts.append(tally.metrics(weights).get(metric, np.full(len(some), np.nan)))
    return np.concatenate(parts)


def require_draws(tally: Tally) -> None:
    """Refuse what no interval can be made of.

    Raises:
        CtnetError: for a single image, and where nothing was detected.
    """
    if len(tally.image_ids) < 2:
        raise CtnetError(
            "intervals come from drawing images, and there is only one; evaluate a split of at least "
            f"{FEW_IMAGES} images"
        )
    if not tally.detections.any():
        raise CtnetError(
            "nothing was detected in any image, so every metric is 0 and has no interval; was the model "
            "trained on these classes?"
        )


def intervals(draws: Draws, level: float = LEVEL) -> dict[str, Interval]:
    """The interval of each metric that all images define, from the draws that define it.

    Args:
        draws: the draws of a tally.
        level: fraction of intervals that are meant to contain the metric of all images of this kind.
    """
    return {
        name: interval(value, draws.drawn[name], draws.left_out[name], level)
        for name, value in draws.value.items()
        if np.isfinite(value)
    }


def interval(value: float, drawn: np.ndarray, left_out: np.ndarray, level: float = LEVEL) -> Interval:
    """The interval of one metric.

    Args:
        value: the metric of all images.
        drawn: (B,) the metric of draws; NaN where undefined.
        left_out: (G,) the metric with a group of images left out; NaN where undefined.
        level: see ``intervals``.
    """
    drawn = drawn[np.isfinite(drawn)]
    if not len(drawn):
        return Interval(value, (value, value), (value, value))
    tail = (1 - level) / 2
    percentile = np.quantile(drawn, [tail, 1 - tail])
    bca = np.quantile(drawn, _bca_levels(value, drawn, left_out[np.isfinite(left_out)], tail))
    return Interval(value, (float(percentile[0]), float(percentile[1])), (float(bca[0]), float(bca[1])))


def warnings(tally: Tally) -> list[str]:
    """What makes intervals of a data set too narrow, a sentence each."""
    images, found = len(tally.image_ids), []
    if images < FEW_IMAGES:
        found.append(f"{images} images: with fewer than {FEW_IMAGES}, intervals are too narrow")
    counts = {name: int(objects.sum()) for name, objects in tally.objects.items()}
    few = [f"{name} ({count})" for name, count in counts.items() if 0 < count < FEW_OBJECTS]
    if few:
        some = ", ".join(few[:5]) + (", ..." if len(few) > 5 else "")
        found.append(
            f"{len(few)} of {len(counts)} classes have fewer than {FEW_OBJECTS} objects, so their intervals "
            f"are too narrow: {some}"
        )
    return found


def _bca_levels(value: float, drawn: np.ndarray, left_out: np.ndarray, tail: float) -> list[float]:
    """The quantiles of the draws that bound BCa's interval."""
    below = float((drawn < value).mean() + (drawn == value).mean() / 2)
    if not 0 < below < 1:
        return [tail, 1 - tail]
    normal = NormalDist()
    bias, acceleration = normal.inv_cdf(below), _acceleration(left_out)
    levels = []
    for quantile in (tail, 1 - tail):
        shifted = bias + normal.inv_cdf(quantile)
        levels.append(normal.cdf(bias + shifted / max(1 - acceleration * shifted, 1e-9)))
    return levels


def _acceleration(left_out: np.ndarray) -> float:
    """How the spread of a metric changes with its value: the skewness of the influence of the images."""
    if len(left_out) < 2:
        return 0.0
    influence = left_out.mean() - left_out
    squares = float((influence**2).sum())
    return float((influence**3).sum()) / (6 * squares**1.5) if squares > 1e-24 else 0.0


def _batches(images: int, draws: int, seed: int, at_once: int) -> Iterator[np.ndarray]:
    """(D, I) int32 each: how often each image was drawn."""
    rng = np.random.default_rng(seed)
    for start in range(0, draws, at_once):
        count = min(at_once, draws - start)
        rows = [np.bincount(rng.integers(images, size=images), minlength=images) for _ in range(count)]
        yield np.stack(rows).astype(np.int32)


def _at_once(tally: Tally) -> int:
    """How many draws are computed together, so that memory is bounded."""
    return max(1, min(_MOST_DRAWS, _VALUES // max(tally.rows, 1)))


def _ones(draws: int, images: int) -> np.ndarray:
    return np.ones((draws, images), np.int32)


def _joined(batches: list[tuple[int, Drawn]], names: dict[str, float]) -> Drawn:
    """Batches of so many draws, one after the other; a metric that one does not have is undefined there."""
    return {
        name: np.concatenate([batch.get(name, np.full(count, np.nan)) for count, batch in batches])
        for name in names
    }
