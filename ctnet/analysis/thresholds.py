"""Choosing the operating points of a detector from an evaluation, and storing them with it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ctnet.analysis.subject import DetectorSubject, Subject
from ctnet.base.errors import CtnetError
from ctnet.checkpoint.file import save_operating_points
from ctnet.core.operating import OperatingPoints
from ctnet.data.problems import Problem
from ctnet.evaluation.bootstrap import DRAWS
from ctnet.evaluation.calibration import Reliability, fit_calibration, reliability
from ctnet.evaluation.operating import (
    Aim,
    PointsTally,
    ThresholdCurve,
    operating_points,
    threshold_curves,
    warnings_of,
)
from ctnet.export.operating import write_operating_points
from ctnet.inference.detector import checkpoint_of
from ctnet.inference.runtimes import is_exported
from ctnet.measuring.reading import Settings
from ctnet.measuring.run import Evaluation
from ctnet.training.run import Run


@dataclass(frozen=True)
class ThresholdStudy:
    """The thresholds that were chosen, and what they were chosen from.

    Attributes:
        points: the operating points, with the calibration if one was fitted.
        curves: precision, recall and F1 at every threshold, by class.
        before: how often detections are right, by score.
        after: the same by calibrated score, of images that the calibration was not fitted on; None without
            one.
        warnings: what is uncertain, a sentence each.
        problems: images that could not be read; they have no detections.
    """

    points: OperatingPoints
    curves: dict[str, ThresholdCurve]
    before: Reliability
    after: Reliability | None
    warnings: tuple[str, ...]
    problems: tuple[Problem, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "operating_points": self.points.to_json(),
            "warnings": list(self.warnings),
            "curves": {name: curve.to_json() for name, curve in self.curves.items()},
            "reliability": self.before.to_json(),
            "reliability_calibrated": None if self.after is None else self.after.to_json(),
        }


def choose_thresholds(
    subject: DetectorSubject,
    settings: Settings | None = None,
    aim: Aim | None = None,
    draws: int = DRAWS,
    seed: int = 0,
    calibrate: bool = False,
) -> ThresholdStudy:
    """Evaluate a detector, and choose the score of every class above which its detections are kept.

    Args:
        subject: the detector, and images that it was not trained on.
        settings: test-time settings; thresholds are for the same ones.
        aim: what is wanted; the best F1 when None.
        draws, seed: of the intervals.
        calibrate: also fit a calibration.

    Raises:
        CtnetError: see ``operating_points`` and ``fit_calibration``.
    """
    settings = settings or Settings()
    done = subject.evaluate(settings)
    assert done.evaluator is not None
    tally = done.evaluator.tally()
    matches = tally.matches()
    points = operating_points(tally, subject.dataset.split or "val", aim, draws, seed)
    points = replace(points, test_time=settings.in_words)
    before, after = reliability(matches), None
    if calibrate:
        fitted = fit_calibration(matches, seed=seed)
        points, after = replace(points, calibration=fitted.calibration), fitted.after
    said = tuple(warnings_of(points))
    return ThresholdStudy(points, threshold_curves(matches), before, after, said, tuple(done.problems))


@dataclass(frozen=True)
class PointFigures:
    """What is reached at a detector's operating points in an evaluation, which may be of other images.

    Attributes:
        points: the operating points.
        matched: when a detection is right here.
        metrics: see ``PointsTally``.
        objects: number of objects of each class.
        tally: for intervals.
    """

    points: OperatingPoints
    matched: str
    metrics: dict[str, float]
    objects: dict[str, int]
    tally: PointsTally

    @property
    def rows(self) -> dict[str, tuple[float | None, ...]]:
        """By class: threshold, precision, recall, F1, number of objects; first all classes together."""
        rows: dict[str, tuple[float | None, ...]] = {}
        rates = ("precision", "recall", "F1")
        if len(self.objects) > 1:
            rows["all"] = (None, *(self.metrics.get(rate) for rate in rates), sum(self.objects.values()))
        for name, count in self.objects.items():
            reached = (self.metrics.get(f"{rate}/{name}") for rate in rates)
            rows[name] = (self.points.classes[name].score, *reached, count)
        return rows

    def to_json(self) -> dict[str, Any]:
        scores = {name: point.score for name, point in self.points.classes.items()}
        about = {"chosen_for": self.points.chosen_for, "matched": self.matched, "thresholds": scores}
        return {**about, "metrics": self.metrics}


def figures_at_points(subject: Subject, done: Evaluation) -> PointFigures | None:
    """What is reached at the operating points of a detector.

    Args:
        subject: what was evaluated.
        done: its evaluation.

    Returns:
        None for what is not a detector, for one without operating points, and for an evaluator of a plugin
        that keeps no matched detections.
    """
    points = subject.detector.operating_points if isinstance(subject, DetectorSubject) else None
    if points is None or done.evaluator is None:
        return None
    try:
        tally = done.evaluator.tally()
        matches = tally.matches()
    except CtnetError:
        return None
    at = PointsTally(tally, {name: point.score for name, point in points.classes.items()})
    objects = {name: int(matched.objects.sum()) for name, matched in matches.classes.items()}
    return PointFigures(points, matches.how, at.for_all_images(), objects, at)


def write_points(path: Path, points: OperatingPoints) -> Path:
    """Store operating points: in an exported file, in a checkpoint, or in a run's best.pt.

    Returns:
        The file that was written.

    Raises:
        CtnetError: when it cannot be written, and while the run is being trained, which writes the same file.
    """
    if is_exported(path):
        write_operating_points(path, points)
        return path
    file = checkpoint_of(path)
    run = Run(file.parent)
    run = run.locked() if run.config.is_file() else run
    try:
        save_operating_points(file, points)
    finally:
        run.release()
    return file
