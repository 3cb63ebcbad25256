"""Operating points: choosing the score above which detections of a class are kept, and what is reached there.

A threshold separates detections, so every threshold between the scores of two of them is the same. F1 of one
data set jumps up and down with each detection: its highest value is at one of many thresholds that the data
cannot tell apart. The one chosen is the middle of these, from the highest to the lowest threshold whose F1 is
less than the best by no more than 1 / (2 sqrt(n)), the largest standard error of a fraction of n objects.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ctnet.base.errors import CtnetError
from ctnet.core.operating import Goal, OperatingPoint, OperatingPoints, PointIntervals
from ctnet.core.tally import Drawn, Matched, Matches, Tally
from ctnet.evaluation.bootstrap import DRAWS, FEW_IMAGES, FEW_OBJECTS, drawn_images, require_draws

#: Values that are held at once: draws times detections of a class.
_VALUES = 1 << 20
#: Decimals of a threshold, where so many keep it between the same two scores.
_DECIMALS = (3, 4, 5, 6)
_TAILS = (0.025, 0.975)


@dataclass(frozen=True)
class Aim:
    """What thresholds are chosen for.

    Attributes:
        goal: "f1": the best F1. "precision": the most objects found with at least the wanted precision.
            "recall": the highest threshold with at least the wanted recall.
        wanted: the wanted precision or recall, above 0 and at most 1; None for "f1".

    Raises:
        CtnetError: for a wanted value that is missing, or not a fraction.
    """

    goal: Goal = "f1"
    wanted: float | None = None

    def __post_init__(self) -> None:
        if self.goal == "f1" and self.wanted is not None:
            raise CtnetError(f"the best F1 is wanted, and also {self.wanted:g}; leave one of them out")
        if self.goal != "f1" and (self.wanted is None or not 0 < self.wanted <= 1):
            raise CtnetError(f"a wanted {self.goal} is a number above 0 and at most 1, not {self.wanted}")


@dataclass(frozen=True)
class ThresholdCurve:
    """What is reached at every threshold, highest first: precision, recall and F1 of one class.

    Attributes:
        score: (K,) float64, descending: the distinct scores; row k is for keeping what scores this or more.
        precision, recall, f1: (K,) float64 each. Without objects, recall and F1 are NaN.
        objects: number of objects.
    """

    score: np.ndarray
    precision: np.ndarray
    recall: np.ndarray
    f1: np.ndarray
    objects: int

    def to_json(self, most: int = 200) -> dict[str, Any]:
        """Plain values, of at most so many thresholds, spread evenly over the rows; NaN becomes None."""
        rows = np.unique(np.linspace(0, len(self.score) - 1, min(most, len(self.score))).round().astype(int))
        columns = {name: getattr(self, name)[rows] for name in ("score", "precision", "recall", "f1")}
        plain = {name: [None if np.isnan(x) else float(x) for x in each] for name, each in columns.items()}
        return {"objects": self.objects, **plain}


def threshold_curves(matches: Matches) -> dict[str, ThresholdCurve]:
    """The curve of every class.

    Args:
        matches: from ``Tally.matches``.
    """
    return {name: _Steps(matched).curve() for name, matched in matches.classes.items()}


def operating_points(
    tally: Tally, split: str, aim: Aim | None = None, draws: int = DRAWS, seed: int = 0
) -> OperatingPoints:
    """Choose the threshold of every class, with intervals.

    A class with fewer than 30 objects, or of which nothing is found, gets the threshold of all classes
    together: its own would be that of a few chance detections.

    Args:
        tally: of an evaluation on images that the network was not trained on.
        split: the name of these images.
        aim: what is wanted; the best F1 when None.
        draws: draws of the images for the intervals; 0 for none.
        seed: seed of the draws.

    Raises:
        CtnetError: where there is one image, no detection, or no detection that is right; for a tally without
            matches.
    """
    aim = aim or Aim()
    matches, images = tally.matches(), len(tally.image_ids)
    require_draws(tally)
    together = _Steps(_joined(list(matches.classes.values())))
    if not (together.rights > 0).any():
        raise CtnetError(
            "not one detection is right, so no score is better than another; train longer, or check the "
            "classes"
        )
    # An image is drawn a few times at most: bytes keep many draws of many images in memory.
    weights = [batch.clip(max=255).astype(np.uint8) for batch in drawn_images(images, draws, seed)]
    pooled = _chosen(together, aim, weights)
    points = {}
    for name, matched in matches.classes.items():
        steps = _Steps(matched)
        if matched.objects.sum() < FEW_OBJECTS or not (steps.rights > 0).any():
            points[name] = _measured(steps, pooled, weights, own=False)
        else:
            points[name] = _measured(steps, _chosen(steps, aim, weights), weights)
    return OperatingPoints(
        goal=aim.goal,
        wanted=aim.wanted,
        matched=matches.how,
        split=split,
        images=images,
        classes=points,
        everything=_measured(together, pooled, weights),
        draws=draws,
        seed=seed,
    )


def warnings_of(points: OperatingPoints) -> list[str]:
    """What is uncertain about thresholds, a sentence each."""
    found = []
    if points.images < FEW_IMAGES:
        found.append(
            f"{points.images} images: with fewer than {FEW_IMAGES}, thresholds are rough and their intervals "
            "too narrow"
        )
    few = [f"{name} ({point.objects})" for name, point in points.classes.items() if not point.own]
    if few:
        found.append(
            f"{len(few)} of {len(points.classes)} classes have fewer than {FEW_OBJECTS} objects, or none is "
            f"found, and get the threshold of all classes ({points.everything.score:g}): {_some(few)}"
        )
    missed = [name for name, point in points.classes.items() if not point.reached]
    if missed:
        found.append(
            f"no threshold reaches a {points.goal} of {points.wanted:g} for {_some(missed)}; the nearest one "
            "is taken"
        )
    return found


class PointsTally(Tally):
    """Precision, recall and F1 at given thresholds, for intervals and comparisons like any other metrics.

    Metrics: ``precision``, ``recall`` and ``F1`` of all classes together, ``mF1``, the mean of F1 over the
    classes with objects, and ``precision/<class>``, ``recall/<class>``, ``F1/<class>``.

    Args:
        tally: of an evaluation.
        thresholds: by class; detections above it are kept.
    """

    def __init__(self, tally: Tally, thresholds: Mapping[str, float]) -> None:
        super().__init__(tally.image_ids.tolist(), tally.objects, tally.detections)
        self._sums = {}
        images = len(self.image_ids)
        for name, matched in tally.matches().classes.items():
            kept = matched.score > thresholds[name]
            right, wrong = (
                np.bincount(matched.image[kept], column[kept], minlength=images)
                for column in (matched.right, matched.wrong)
            )
            self._sums[name] = np.stack([right, wrong, matched.objects], axis=1)

    def metrics(self, weights: np.ndarray) -> Drawn:
        drawn = weights.astype(np.float64)
        sums = {name: drawn @ each for name, each in self._sums.items()}
        together = _rates(sum(sums.values(), np.zeros((len(weights), 3))))
        of_class = {name: _rates(each) for name, each in sums.items()}
        means = np.stack([rates["F1"] for rates in of_class.values()])
        known = ~np.isnan(means)
        with np.errstate(invalid="ignore"):
            together["mF1"] = np.where(known, means, 0).sum(axis=0) / known.sum(axis=0)
        found = dict(together)
        for rate in ("precision", "recall", "F1"):
            found |= {f"{rate}/{name}": rates[rate] for name, rates in of_class.items()}
        return found

    def for_all_images(self) -> dict[str, float]:
        """The metrics of the evaluation itself, without those that are undefined."""
        metrics = self.metrics(np.ones((1, len(self.image_ids)), np.int32))
        return {name: float(values[0]) for name, values in metrics.items() if np.isfinite(values[0])}


def _rates(sums: np.ndarray) -> dict[str, np.ndarray]:
    """(D,) each from (D, 3) numbers of right ones, wrong ones and objects; NaN where undefined."""
    right, wrong, objects = sums.T
    with np.errstate(invalid="ignore", divide="ignore"):
        f1 = np.where(objects > 0, 2 * right / (right + wrong + objects), np.nan)
        return {"precision": right / (right + wrong), "recall": right / objects, "F1": f1}


class _Steps:
    """The detections of a class by distinct scores: between two of these, thresholds do not differ."""

    def __init__(self, matched: Matched) -> None:
        self.matched = matched
        new = np.flatnonzero(np.diff(matched.score, prepend=np.inf))
        self.score = matched.score[new]
        #: The last detection of each score.
        self.ends = np.append(new[1:], len(matched.score)) - 1 if len(new) else new
        self.rights, self.wrongs = (np.cumsum(each)[self.ends] for each in (matched.right, matched.wrong))

    def curve(self) -> ThresholdCurve:
        objects = int(self.matched.objects.sum())
        sums = np.stack([self.rights, self.wrongs, np.full(len(self.rights), objects)], axis=1)
        rates = _rates(sums.astype(np.float64))
        return ThresholdCurve(self.score, rates["precision"], rates["recall"], rates["F1"], objects)

    def drawn(self, weights: list[np.ndarray]) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Of batches of draws (D, I): right and wrong ones up to each step (D, K) each, objects (D,)."""
        at_once = max(1, _VALUES // max(len(self.matched.score), 1))
        for batch in weights:
            for start in range(0, len(batch), at_once):
                some = batch[start : start + at_once]
                own = np.take(some, self.matched.image, axis=1).astype(np.int32)
                right, wrong = (
                    np.cumsum(own * each.astype(np.int32), axis=1, dtype=np.int32)[:, self.ends]
                    for each in (self.matched.right, self.matched.wrong)
                )
                yield right, wrong, some @ self.matched.objects


@dataclass(frozen=True)
class _Choice:
    """A threshold, whether it reaches what was wanted, and the thresholds of draws (B,), NaN if undefined."""

    score: float
    reached: bool
    drawn: np.ndarray


def _chosen(steps: _Steps, aim: Aim, weights: list[np.ndarray]) -> _Choice:
    objects = np.array([steps.matched.objects.sum()])
    bounds, reached = _bounds(steps.score, steps.rights[None], steps.wrongs[None], objects, aim)
    drawn = [np.zeros(0)]
    for sums in steps.drawn(weights):
        drawn.append(_bounds(steps.score, *sums, aim)[0].mean(axis=1))
    low, high = bounds[0].tolist()
    return _Choice(_between(low, high), bool(reached[0]), np.concatenate(drawn))


def _bounds(
    score: np.ndarray, right: np.ndarray, wrong: np.ndarray, objects: np.ndarray, aim: Aim
) -> tuple[np.ndarray, np.ndarray]:
    """Between which scores the threshold is to lie.

    Args:
        score: (K,), descending.
        right, wrong: (D, K), up to each of them.
        objects: (D,).
        aim: what is wanted.

    Returns:
        (D, 2), NaN where a draw has no object or none is found; (D,) bool, whether what is wanted is reached.
    """
    kept = np.maximum(right + wrong, 1)
    number = np.maximum(objects, 1)[:, None]
    reached = np.ones(len(right), bool)
    if aim.goal == "f1":
        f1 = 2 * right / np.maximum(right + wrong + objects[:, None], 1)
        fits = f1 >= f1.max(axis=1, keepdims=True) - 0.5 / np.sqrt(number)
        first, last = fits.argmax(axis=1), _last(fits)
    else:
        wanted = float(aim.wanted or 0) - 1e-12
        values = right / (kept if aim.goal == "precision" else number)
        fits = values >= np.minimum(wanted, values.max(axis=1, keepdims=True))
        reached = values.max(axis=1) >= wanted
        # The lowest with enough precision finds most, the highest with enough recall is the most precise.
        first = last = _last(fits) if aim.goal == "precision" else fits.argmax(axis=1)
    below = np.append(score, 0.0)
    bounds = np.stack([below[last + 1], score[first]], axis=1)
    bounds[(right.max(axis=1) <= 0) | (objects <= 0)] = np.nan
    return bounds, reached


def _last(fits: np.ndarray) -> np.ndarray:
    """(D,) the last true column of each row."""
    return np.asarray(fits.shape[1] - 1 - fits[:, ::-1].argmax(axis=1))


def _between(low: float, high: float) -> float:
    """The middle, rounded as far as it stays between; thresholds lie below the score that is to be kept."""
    middle = (low + high) / 2
    for decimals in _DECIMALS:
        if low < round(middle, decimals) < high:
            return round(middle, decimals)
    return middle if middle < high else low


def _measured(steps: _Steps, choice: _Choice, weights: list[np.ndarray], own: bool = True) -> OperatingPoint:
    """What is reached at a threshold."""
    kept = int((steps.score > choice.score).sum())
    columns = [np.concatenate([np.zeros(1), each]) for each in (steps.rights, steps.wrongs)]
    objects = int(steps.matched.objects.sum())
    rates = _rates(np.array([[columns[0][kept], columns[1][kept], objects]], np.float64))
    values = {name.lower(): None if np.isnan(each[0]) else float(each[0]) for name, each in rates.items()}
    intervals = _intervals(steps, choice, weights, kept) if weights else None
    return OperatingPoint(
        choice.score, **values, objects=objects, own=own, reached=choice.reached, intervals=intervals
    )


def _intervals(steps: _Steps, choice: _Choice, weights: list[np.ndarray], kept: int) -> PointIntervals | None:
    """None where a draw hardly ever defines the values: no objects, or nothing kept."""
    images, matched = len(steps.matched.objects), steps.matched
    rows = slice(0, int(steps.ends[kept - 1]) + 1 if kept else 0)
    by_image = [
        np.bincount(matched.image[rows], column[rows], minlength=images)
        for column in (matched.right, matched.wrong)
    ]
    sums = np.stack([*by_image, matched.objects], axis=1)
    drawn = _rates(np.concatenate([batch.astype(np.float64) @ sums for batch in weights]))
    columns = {"score": choice.drawn, **{name.lower(): values for name, values in drawn.items()}}
    known = {name: values[np.isfinite(values)] for name, values in columns.items()}
    if not all(len(values) for values in known.values()):
        return None
    found = {}
    for name, values in known.items():
        low, high = np.quantile(values, _TAILS).clip(0, 1).tolist()
        found[name] = (low, high)
    return PointIntervals(**found)


def _joined(parts: list[Matched]) -> Matched:
    """The detections of several classes as if they were one."""
    names = ("image", "score", "right", "wrong")
    columns = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
    return Matched.of(**columns, objects=np.sum([part.objects for part in parts], axis=0))


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
