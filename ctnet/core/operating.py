"""Operating points: the score of each class above which detections are kept, as stored beside the weights.

Everything here is a document: it is checked when it is read, and written as it is. How the scores are chosen
is the subject of ``ctnet.evaluation.operating``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Annotated, Any, Literal

import numpy as np
from annotated_types import Ge, Le

from ctnet.base.errors import CtnetError
from ctnet.base.schema import check_text, shorten

#: What a threshold is chosen for: the best F1, or the best of the other two that has a wanted one of them.
Goal = Literal["f1", "precision", "recall"]

Fraction = Annotated[float, Ge(0), Le(1)]
Number = Annotated[int, Ge(0)]
Bounds = tuple[Fraction, Fraction]

#: Classes that are listed in a line about thresholds.
_LISTED = 6


@dataclass(frozen=True)
class PointIntervals:
    """95 % intervals from drawing images again: of the threshold, and of what the chosen one reaches."""

    score: Bounds
    precision: Bounds
    recall: Bounds
    f1: Bounds


@dataclass(frozen=True)
class OperatingPoint:
    """A score threshold, and what was measured there.

    Attributes:
        score: detections above this score are kept.
        precision: the fraction of the kept detections that are right; None where none is kept.
        recall: the fraction of the objects that are found; None where there are no objects.
        f1: the harmonic mean of the two; None likewise.
        objects: number of objects.
        own: whether the score was chosen for this class; else it is that of all classes together.
        reached: whether the wanted precision or recall is reached.
        intervals: None where there is none.
    """

    score: Fraction
    precision: Fraction | None
    recall: Fraction | None
    f1: Fraction | None
    objects: Number
    own: bool = True
    reached: bool = True
    intervals: PointIntervals | None = None


@dataclass(frozen=True)
class CalibrationCurve:
    """Raw score -> probability that the detection is right, linear between points and constant beyond them.

    Attributes:
        scores: ascending.
        probabilities: as many, not descending.
    """

    scores: tuple[Fraction, ...]
    probabilities: tuple[Fraction, ...]

    def __call__(self, scores: np.ndarray) -> np.ndarray:
        """(N,) scores -> (N,) float64 probabilities."""
        return np.interp(np.asarray(scores, np.float64), self.scores, self.probabilities)

    @property
    def ascends(self) -> bool:
        """Whether it is what the class says: a document that was edited may not be."""
        return (
            len(self.scores) == len(self.probabilities) > 0
            and all(low < high for low, high in pairwise(self.scores))
            and all(low <= high for low, high in pairwise(self.probabilities))
        )


@dataclass(frozen=True)
class Calibration:
    """How scores become probabilities.

    Attributes:
        classes: by class; classes with few objects have the curve of all classes together.
        everything: the curve of all classes together.
        error_before, error_after: expected calibration error of the scores, and of the probabilities that are
            given to images which they were not fitted on.
        folds: into how many groups images were divided for that.
    """

    classes: dict[str, CalibrationCurve]
    everything: CalibrationCurve
    error_before: Fraction
    error_after: Fraction
    folds: Number


@dataclass(frozen=True)
class OperatingPoints:
    """The operating points of a detector: the document beside its weights.

    Attributes:
        goal: what the scores were chosen for.
        wanted: the wanted precision or recall; None for the best F1.
        matched: when a detection was right: "IoU 0.5".
        split: the split of the data on which they were chosen.
        images: number of its images.
        classes: by class, in the order of the labels.
        everything: one threshold for all classes together.
        draws, seed: of the intervals; no draws, no intervals.
        test_time: the test-time settings in words, see ``DetectionSettings.in_words``; "" for the usual ones.
        calibration: None unless it was asked for. Thresholds are of raw scores in any case.
    """

    goal: Goal
    wanted: Fraction | None
    matched: str
    split: str
    images: Number
    classes: dict[str, OperatingPoint]
    everything: OperatingPoint
    draws: Number = 0
    seed: int = 0
    test_time: str = ""
    calibration: Calibration | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def thresholds(self, class_names: Sequence[str]) -> np.ndarray:
        """(C,) float64: the score of each label."""
        return np.array([self.classes[name].score for name in class_names], np.float64)

    @property
    def chosen_for(self) -> str:
        """ "best F1 on val", "precision 0.9 on val"."""
        what = "best F1" if self.wanted is None else f"{self.goal} {self.wanted:g}"
        return f"{what} on {self.split}"

    @property
    def said(self) -> str:
        """The line that says which thresholds are used."""
        scores = {name: point.score for name, point in self.classes.items()}
        listed = [f"{name} {score:.2f}" for name, score in scores.items()]
        if len(listed) > _LISTED:
            low, high = min(scores.values()), max(scores.values())
            listed = [f"{low:.2f} to {high:.2f} for {len(listed)} classes"]
        return f"thresholds of the operating points: {self.chosen_for}, {', '.join(listed)}"


def read_operating_points(text: str, class_names: Sequence[str], source: object, fix: str) -> OperatingPoints:
    """Read the text of a document.

    Args:
        text: JSON.
        class_names: name of each label of the detector that they belong to.
        source: the file that holds them, for messages.
        fix: what the user can do, the end of a message.

    Raises:
        CtnetError: naming the first value that does not fit; see ``require_consistent``.
    """
    points: OperatingPoints = check_text(OperatingPoints, text, f"the operating points in {source}", fix)
    require_consistent(points, class_names, source, fix)
    return points


def require_consistent(points: OperatingPoints, class_names: Sequence[str], source: object, fix: str) -> None:
    """Refuse points of other classes, and curves of calibration that do not ascend.

    Args:
        points: of the declared types.
        class_names, source, fix: see ``read_operating_points``.

    Raises:
        CtnetError: naming the class.
    """
    where = f"the operating points in {source}"
    curves = {} if points.calibration is None else points.calibration.classes
    for found in (points.classes, curves or points.classes):
        if missing := [name for name in class_names if name not in found]:
            raise CtnetError(f"{where} are of other classes: {shorten(missing[0])} is missing; {fix}")
        if unknown := [name for name in found if name not in class_names]:
            raise CtnetError(f"{where} are of other classes: {shorten(unknown[0])} is unknown; {fix}")
    everything = {} if points.calibration is None else {"all classes": points.calibration.everything}
    for name, curve in {**everything, **curves}.items():
        if not curve.ascends:
            raise CtnetError(f"{where} have a calibration of {shorten(name)} that does not ascend; {fix}")
