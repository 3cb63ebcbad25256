"""Calibration: from scores to the probability that a detection is right, and how far scores are from it.

A calibration is fitted by isotonic regression: the probability is a function of the score that does not
descend, and the one with the smallest squared error. It is judged on images that it was not fitted on.

Source: Ayer et al., 1955 (pool adjacent violators); Zadrozny and Elkan, KDD 2002 (isotonic calibration); the
expected calibration error and reliability diagrams: Guo et al., ICML 2017.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ctnet.base.errors import CtnetError
from ctnet.core.operating import Calibration, CalibrationCurve
from ctnet.core.tally import Matched, Matches
from ctnet.evaluation.bootstrap import FEW_OBJECTS

#: Detections with lower scores are left out of errors and figures: there are a hundred per image, nearly all
#: of them wrong, and they would make every error small.
LEAST_SCORE = 0.05
BINS = 10
FOLDS = 5


@dataclass(frozen=True)
class ReliabilityBin:
    """Detections with scores (or probabilities) in a range.

    Attributes:
        low, high: the range; high is not in it, except for 1.
        detections: how many there are.
        mean_score: their mean; None without detections.
        fraction_right: the fraction of them that is right; None without detections.
    """

    low: float
    high: float
    detections: int
    mean_score: float | None
    fraction_right: float | None


@dataclass(frozen=True)
class Reliability:
    """How often detections are right, by score.

    Attributes:
        bins: ascending, of equal width, from 0 to 1.
        error: expected calibration error: the mean over detections of the distance between the mean score and
            the fraction that is right of their bin.
        detections: how many there are in all.
    """

    bins: tuple[ReliabilityBin, ...]
    error: float
    detections: int

    def to_json(self) -> dict[str, Any]:
        return {
            "expected_calibration_error": self.error,
            "detections": self.detections,
            "least_score": LEAST_SCORE,
            "bins": [vars(one) for one in self.bins],
        }


@dataclass(frozen=True)
class Calibrated:
    """A calibration, and the reliability of scores without it and with it.

    Attributes:
        calibration: fitted on all images.
        before: of the raw scores.
        after: of the probabilities that were given to each image by a calibration fitted on the others.
    """

    calibration: Calibration
    before: Reliability
    after: Reliability

    def to_json(self) -> dict[str, Any]:
        return {"before": self.before.to_json(), "after": self.after.to_json()}


def reliability(matches: Matches, calibration: Calibration | None = None) -> Reliability:
    """How often the detections of all classes are right, by score.

    Args:
        matches: from ``Tally.matches``.
        calibration: whose probabilities are binned instead of the scores; it should not have been fitted on
            these images.
    """
    curves = None if calibration is None else calibration.classes
    parts = []
    for name, matched in matches.classes.items():
        score, right = _counted(matched)
        parts.append((score, score if curves is None else curves[name](score), right))
    return _reliability(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def fit_calibration(matches: Matches, folds: int = FOLDS, seed: int = 0) -> Calibrated:
    """Fit a calibration, and measure what it is worth on images that it was not fitted on.

    A class with fewer than 30 objects, or of which nothing is found, gets the curve of all classes together.

    Args:
        matches: from ``Tally.matches``.
        folds: into how many groups of images they are divided; each is calibrated by the others.
        seed: seed of the division.

    Raises:
        CtnetError: for fewer images than folds, and where no detection is right.
    """
    images = len(next(iter(matches.classes.values())).objects)
    if images < folds:
        raise CtnetError(
            f"a calibration is checked on {folds} groups of images, and there are {images} images; use "
            "a larger split"
        )
    everything, curves = _fitted(matches, np.ones(images, bool))
    group = np.random.default_rng(seed).permutation(images) % folds
    parts = []
    for fold in range(folds):
        _, learnt = _fitted(matches, group != fold)
        for name, matched in matches.classes.items():
            score, right, image = _counted_with_image(matched)
            mine = group[image] == fold
            parts.append((score[mine], learnt[name](score[mine]), right[mine]))
    score, probability, right = (np.concatenate(column) for column in zip(*parts, strict=True))
    before, after = _reliability(score, score, right), _reliability(score, probability, right)
    calibration = Calibration(curves, everything, before.error, after.error, folds)
    return Calibrated(calibration, before, after)


def isotonic(score: np.ndarray, right: np.ndarray) -> CalibrationCurve:
    """Fit the curve that does not descend and has the smallest squared error.

    Args:
        score: (N,) in [0, 1], in any order, N at least 1.
        right: (N,) 0 or 1.
    """
    values, place = np.unique(score, return_inverse=True)
    weights = np.bincount(place).astype(np.float64)
    means = np.bincount(place, right) / weights
    # Blocks of neighbouring scores: weight, mean, mean score. A mean below the one before joins its block.
    blocks: list[list[float]] = []
    for weight, mean, value in zip(weights.tolist(), means.tolist(), values.tolist(), strict=True):
        blocks.append([weight, mean, value])
        while len(blocks) > 1 and blocks[-2][1] >= blocks[-1][1]:
            last, before = blocks.pop(), blocks.pop()
            both = before[0] + last[0]
            blocks.append(
                [
                    both,
                    *(
                        (before[0] * a + last[0] * b) / both
                        for a, b in zip(before[1:], last[1:], strict=True)
                    ),
                ]
            )
    scores, probabilities = (tuple(block[row] for block in blocks) for row in (2, 1))
    return CalibrationCurve(scores, probabilities)


def _fitted(matches: Matches, chosen: np.ndarray) -> tuple[CalibrationCurve, dict[str, CalibrationCurve]]:
    """The curves of all classes together and of each, from some images: (I,) bool."""
    parts = {}
    for name, matched in matches.classes.items():
        score, right, image = _counted_with_image(matched)
        mine = chosen[image]
        parts[name] = score[mine], right[mine], int(matched.objects[chosen].sum())
    score, right = (np.concatenate([part[row] for part in parts.values()]) for row in range(2))
    if not right.any():
        raise CtnetError("not one detection is right, so there is nothing to calibrate; train longer")
    everything = isotonic(score, right)
    curves = {
        name: isotonic(score, right) if right.any() and objects >= FEW_OBJECTS else everything
        for name, (score, right, objects) in parts.items()
    }
    return everything, curves


def _counted(matched: Matched) -> tuple[np.ndarray, np.ndarray]:
    """Scores and whether they are right, 0 or 1, of the detections that count."""
    return _counted_with_image(matched)[:2]


def _counted_with_image(matched: Matched) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    counts = (matched.right > 0) | (matched.wrong > 0)
    return matched.score[counts], (matched.right[counts] > 0).astype(np.float64), matched.image[counts]


def _reliability(score: np.ndarray, value: np.ndarray, right: np.ndarray) -> Reliability:
    """Bins of values, of the detections whose score is not too low."""
    seen = score >= LEAST_SCORE
    value, right = value[seen], right[seen]
    place = np.minimum((value * BINS).astype(np.int64), BINS - 1)
    counts = np.bincount(place, minlength=BINS)
    sums = np.bincount(place, value, minlength=BINS), np.bincount(place, right, minlength=BINS)
    bins, distance = [], 0.0
    for row, count in enumerate(counts.tolist()):
        mean, fraction = (float(each[row]) / count if count else None for each in sums)
        bins.append(ReliabilityBin(row / BINS, (row + 1) / BINS, count, mean, fraction))
        distance += abs(float(sums[0][row] - sums[1][row]))
    return Reliability(tuple(bins), distance / max(int(counts.sum()), 1), int(counts.sum()))
