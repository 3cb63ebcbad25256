"""What depends on the scores of detections, for a run's page: thresholds, curves, confusion, calibration."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup

from ctnet.analysis.reported import Examined
from ctnet.analysis.scored import THRESHOLDS, Ratios, Scored, thinned
from ctnet.base.errors import CtnetError
from ctnet.base.output import counted
from ctnet.core.operating import OperatingPoint, OperatingPoints
from ctnet.evaluation.calibration import ReliabilityBin, reliability
from ctnet.report.charts import Dot, Frame, Series, line_chart
from ctnet.report.page import ReportTable

#: What a page shows at most; the rest is named among what it leaves out.
MOST_CLASSES, MOST_CURVES, MOST_CONFUSED = 60, 24, 20
_CURVE_POINTS = 80
_FEW = 10  # detections of which the fraction that is right says little
_WHOLE = (0.0, 1.0)


def largest_classes(scored: Scored, classes: int, most: int) -> list[int]:
    """The classes with the most objects, in the order of their labels."""
    objects = np.bincount(scored.object_labels, minlength=classes)
    return sorted(np.argsort(-objects, kind="stable")[:most].tolist())


def chosen_step(points: OperatingPoints | None, scored: Scored, label: int | None, name: str) -> int | None:
    """The index of the threshold that was chosen for a class (or all), else that of the best F1 score.

    Args:
        points: those of the detector.
        scored: the matches.
        label, name: the class; ``label`` is None for all classes together.

    Returns:
        None where nothing is right at any score.
    """
    if points is not None:
        chosen = points.everything if label is None else points.classes.get(name)
        if chosen is not None:
            return min(max(round(100 * chosen.score), 0), len(THRESHOLDS) - 1)
    counts = scored.counts(label)
    return counts.best if counts.right.any() else None


def operating_table(points: OperatingPoints | None, names: Sequence[str]) -> tuple[ReportTable | None, str]:
    """The thresholds that were chosen, and how."""
    if points is None:
        return None, ""
    rows = [["all classes", points.everything], *((name, points.classes.get(name)) for name in names)]
    cells = []
    for name, point in rows[: MOST_CLASSES + 1]:
        if isinstance(point, OperatingPoint):
            known = [point.precision, point.recall, point.f1]
            shown = ["-" if value is None else f"{value:.3f}" for value in known]
            cells.append([name, f"{point.score:.2f}{'' if point.own else ' *'}", *shown, str(point.objects)])
    said = f"Chosen for {points.chosen_for}, and used by `ctnet predict`."
    if any("*" in str(row[1]) for row in cells):
        said += " Classes with * have few objects, or none is found: they get the score of all classes."
    return ReportTable(["class", "score", "precision", "recall", "F1", "objects"], cells), said


def curves(done: Examined, scored: Scored, left_out: list[str]) -> dict[str, Markup]:
    """A chart of precision and recall for all classes together and each of the largest."""
    charts = {}
    names, points = done.run.detector.class_names, done.run.detector.operating_points
    labels = largest_classes(scored, len(names), MOST_CURVES)
    with_objects = set(np.unique(scored.object_labels).tolist())
    if (beyond := len(with_objects) - len(labels)) > 0:
        left_out.append(f"the precision-recall curves of {beyond} classes with fewer objects")
    chosen: list[int | None] = [label for label in labels if label in with_objects]
    for label in chosen if len(names) == 1 else [None, *chosen]:
        title = "all classes" if label is None else names[label]
        counts = scored.counts(label)
        dots = []
        step = chosen_step(points, scored, label, title)
        right, wrong, _ = counts.at(step or 0)
        if step is not None and right + wrong and counts.objects:
            precision, recall = right / (right + wrong), right / counts.objects
            said = f"at {THRESHOLDS[step]:.2f}: precision {precision:.3f}, recall {recall:.3f}"
            dots.append(Dot(recall, precision, said))
        frame = Frame("recall", "precision", _WHOLE, _WHOLE, 200, 165)
        line = curve_series(title, scored.ratios(label))
        charts[title] = line_chart(f"precision and recall of {title}", [line], frame, dots)
    return charts


def curve_series(name: str, ratios: Ratios) -> Series:
    """Precision over recall, with as many points as can be seen."""
    rows = thinned(len(ratios.recall), _CURVE_POINTS) if len(ratios.recall) else []
    return Series(
        name, [float(ratios.recall[row]) for row in rows], [float(ratios.precision[row]) for row in rows]
    )


def confusion(
    scored: Scored, names: Sequence[str], step: int, left_out: list[str]
) -> tuple[list[str], list[list[int]]]:
    """Names and table of the largest classes; the others are joined."""
    table = scored.confusion(float(THRESHOLDS[step]), len(names))
    labels = largest_classes(scored, len(names), MOST_CONFUSED)
    if len(labels) == len(names):
        return [*names, "background"], table.tolist()
    rest = [label for label in range(len(names)) if label not in set(labels)]
    left_out.append(f"the confusion of {len(rest)} classes with fewer objects, which are one class there")
    groups = [[label] for label in labels] + [rest, [len(names)]]
    joined = np.array([[table[np.ix_(one, other)].sum() for other in groups] for one in groups])
    return [*(names[label] for label in labels), f"{len(rest)} others", "background"], joined.tolist()


def calibration(done: Examined) -> tuple[dict[str, Markup], list[str]]:
    """How often detections are right, by score."""
    if done.measured is None:
        return {}, []
    try:
        found = reliability(done.measured.tally.matches())
    except CtnetError as error:
        done.left_out.append(f"calibration: {error}")
        return {}, []
    bins = [one for one in found.bins if one.mean_score is not None and one.fraction_right is not None]
    if not bins:
        return {}, []
    scores = [float(one.mean_score or 0) for one in bins]
    right = [float(one.fraction_right or 0) for one in bins]
    lines = [Series("detections", scores, right), Series("scores that are probabilities", _WHOLE, _WHOLE)]
    dots = [
        Dot(x, y, f"{one.detections} detections of mean score {x:.2f}: {y:.3f} are right")
        for x, y, one in zip(scores, right, bins, strict=True)
    ]
    frame = Frame("score", "fraction that is right", _WHOLE, _WHOLE)
    said = [
        f"Scores differ from the fraction of detections that is right by {found.error:.3f} on average "
        f"(expected calibration error, {counted(found.detections, 'detection')}){_direction(bins)}."
    ]
    points = done.run.detector.operating_points
    if points is not None and points.calibration is not None:
        before, after = points.calibration.error_before, points.calibration.error_after
        said.append(
            f"A calibration is stored: on images that it was not fitted on, {before:.3f} becomes {after:.3f}."
        )
    chart = line_chart("fraction right over score", lines, frame, dots)
    return {"how often detections are right": chart}, said


def _direction(bins: Sequence[ReliabilityBin]) -> str:
    """Where scores are too high and where too low; "" where that changes more than once."""
    seen = [(one.low, one.mean_score, one.fraction_right) for one in bins if one.detections >= _FEW]
    high = [(low, mean > right) for low, mean, right in seen if mean is not None and right is not None]
    turns = [one for one, previous in zip(high[1:], high, strict=False) if one[1] != previous[1]]
    if not high or len(turns) > 1:
        return ""
    words = ("too low", "too high")
    if not turns:
        return f"; they are {words[high[0][1]]}"
    return f"; below {turns[0][0]:.1f} they are {words[high[0][1]]}, above it {words[turns[0][1]]}"
