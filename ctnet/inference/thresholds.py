"""Which detections people see: those above the score of their class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from ctnet.core.operating import Calibration, OperatingPoints
from ctnet.core.records import Detections
from ctnet.inference.settings import SCORE

Found = TypeVar("Found", bound=Detections)


@dataclass(frozen=True, eq=False)
class Thresholds:
    """The score above which detections of each class are kept.

    Attributes:
        scores: (C,) float64, by label.
        said: a line that says which they are, and where they come from.
    """

    scores: np.ndarray
    said: str

    @classmethod
    def of(
        cls, score: float | None, points: OperatingPoints | None, class_names: Sequence[str]
    ) -> Thresholds:
        """Those in effect.

        Args:
            score: what the user gave, for all classes; goes before everything else.
            points: the detector's operating points, if it has any.
            class_names: name of each label.
        """
        if score is None and points is not None:
            return cls(points.thresholds(class_names), points.said)
        why = "" if score is not None else ", since the detector has no operating points"
        score = SCORE if score is None else score
        return cls(np.full(len(class_names), score), f"threshold: {score:g} for all classes{why}")

    @property
    def lowest(self) -> float:
        """No detection with this score or less is kept; exact for scores of type float32."""
        return float(np.nextafter(np.float32(self.scores.min()), np.float32(0)))

    def kept(self, found: Found) -> Found:
        """The detections above the threshold of their class."""
        return found[np.asarray(found.scores, np.float64) > self.scores[np.asarray(found.labels)]]


def other_settings(points: OperatingPoints | None, now: str) -> str:
    """A message where thresholds were chosen with other test-time settings; empty where they fit.

    Args:
        points: the detector's operating points.
        now: the settings in words, see ``DetectionSettings.in_words``.
    """
    if points is None or points.test_time == now:
        return ""
    before, now = (text or "the usual settings" for text in (points.test_time, now))
    return (
        f"the thresholds were chosen for {before}, not for {now}, which changes scores; choose others with "
        "`ctnet analyze thresholds`, or give --score"
    )


def calibrated(found: Found, calibration: Calibration, class_names: Sequence[str]) -> Found:
    """Detections with the probability that they are right as their score, highest first.

    Args:
        found: with raw scores.
        calibration: of these classes.
        class_names: name of each label.
    """
    labels = np.asarray(found.labels)
    scores = np.array(found.scores)
    for label, name in enumerate(class_names):
        mine = labels == label
        scores[mine] = calibration.classes[name](scores[mine])
    return found.replace(scores=scores)[np.argsort(-scores, kind="stable")]
