"""The parts of a run's page, each from what was computed: words, tables, charts."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from ctnet.analysis.breakdown import Breakdown
from ctnet.analysis.oracles import Oracle
from ctnet.analysis.reported import Examined
from ctnet.analysis.scored import THRESHOLDS, Group, Ratios, Scored, thinned
from ctnet.base.errors import CtnetError
from ctnet.base.output import counted
from ctnet.core.operating import OperatingPoint, OperatingPoints
from ctnet.evaluation.bootstrap import LEVEL, Interval, intervals, warnings
from ctnet.evaluation.calibration import ReliabilityBin, reliability
from ctnet.inference.timing import StageTimes
from ctnet.report.charts import Dot, Frame, Series, line_chart
from ctnet.report.page import Bar, Figure, ReportTable, Tallied

#: What a page shows at most; the rest is named among what it leaves out.
MOST_CLASSES, MOST_CURVES, MOST_CONFUSED, MOST_EPOCHS, MOST_LINES = 60, 24, 20, 60, 8
_CURVE_POINTS = 80
_FEW = 10  # detections of which the fraction that is right says little
_WHOLE = (0.0, 1.0)

_ERRORS = {
    "classification": "right place, wrong class",
    "localisation": "right class, badly placed",
    "both": "wrong class and badly placed",
    "duplicate": "found a second time",
    "background": "nothing there",
    "missed": "object not found",
}
_STAGES = {
    "load": "reading files",
    "pre": "resizing",
    "network": "network",
    "decode": "decoding",
    "post": "to image pixels",
}


def about(done: Examined) -> dict[str, str]:
    """What was trained on what, by name."""
    detector, config = done.run.detector, done.config
    description = detector.description
    width, height = description.size
    found = {
        "task": detector.task.name,
        "backbone": description.backbone,
        "input": f"{width}x{height}",
        "classes": _some(detector.class_names, 8),
    }
    if done.run.subject is not None:
        found["evaluated on"] = str(done.run.subject.dataset.coco.path)
    if config is None:
        return {**found, "file": str(done.run.path)}
    recipe = config.recipe
    found |= {
        "data": config.data,
        "splits": f"trained on {config.train_split}, evaluated on {config.val_split or 'none'}",
        "recipe": config.recipe_name,
        "epochs": f"{len(done.rows)} of {recipe.epochs}" if done.rows else str(recipe.epochs),
        "batch": f"{recipe.batch_size}" + (f" x {recipe.accumulate}" if recipe.accumulate > 1 else ""),
        "learning rate": f"{config.learning_rate:.3g}, {recipe.schedule} schedule, {recipe.optimizer}",
        "augmentation": ", ".join(
            f"{name} {_value(value)}" for name, value in vars(recipe.augmentation).items() if value
        ),
        "started from": config.init or ("ImageNet weights" if config.pretrained else "random weights"),
        "seed": str(config.seed),
        "versions": ", ".join(f"{name} {version}" for name, version in config.versions.items()),
    }
    if config.overfit:
        found["overfit"] = f"trained and evaluated on the same {counted(config.overfit, 'image')}"
    usual = {field.name: field.default for field in dataclasses.fields(detector.task.Options)}
    changed = {name: value for name, value in config.options.items() if value != usual.get(name)}
    if changed:
        found["options"] = ", ".join(f"{name}={_value(value)}" for name, value in changed.items())
    return found


def summary(done: Examined) -> str:
    """The run in a sentence."""
    detector, run = done.run.detector, done.run
    what = f"{detector.task.name} with {detector.description.backbone}"
    if done.rows:
        what += f" after {counted(len(done.rows), 'epoch')}"
    if run.done is None or run.subject is None:
        return f"{what}; not evaluated."
    main = run.done.main_metric
    value = run.done.metrics.get(main)
    reached = f"{main} {value:.3f}" if value is not None else f"no {main}"
    on = f"{counted(len(run.subject.dataset), 'image')} of {Path(run.subject.dataset.coco.path).name}"
    return f"{what}: {reached} on {on}."


def training_charts(rows: Sequence[Mapping[str, float]]) -> dict[str, Markup]:
    """Loss, metrics and learning rate over epochs."""
    frames = {
        "loss": Frame("epoch", log=True, whole=True),
        "metrics": Frame("epoch", y_range=_WHOLE, whole=True),
    }
    return {
        title: line_chart(f"{title} over epochs", lines, frames.get(title, Frame("epoch", whole=True)))
        for title, lines in training_series(rows).items()
    }


def training_series(rows: Sequence[Mapping[str, float]]) -> dict[str, list[Series]]:
    """The same as lines, by the title of their chart."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    losses = [name for name in names if name.endswith("loss")]
    metrics = [
        name for name in names if name not in (*losses, "epoch", "learning_rate") and _is_share(rows, name)
    ]
    chosen = {"loss": losses, "metrics": metrics, "learning rate": ["learning_rate"]}
    charts = {
        title: [_over_epochs(rows, name) for name in some][:MOST_LINES] for title, some in chosen.items()
    }
    return {
        title: lines
        for title, lines in charts.items()
        if any(math.isfinite(value) for line in lines for value in line.y)
    }


def compared_charts(names: Sequence[str], done: Sequence[Examined]) -> dict[str, Markup]:
    """The main metric and the loss of several runs over epochs."""
    charts = {}
    main = next((each.run.done.main_metric for each in done if each.run.done is not None), "")
    for title, column, frame in (
        (main, main, Frame("epoch", y_range=_WHOLE, whole=True)),
        ("loss", "loss", Frame("epoch", log=True, whole=True)),
    ):
        lines = [
            Series(name, line.x, line.y)
            for name, each in zip(names, done, strict=True)
            if any(column in row for row in each.rows)
            for line in [_over_epochs(each.rows, column)]
        ]
        if lines:
            charts[title] = line_chart(f"{title} of the runs over epochs", lines[:MOST_LINES], frame)
    return charts


def epochs_table(rows: Sequence[Mapping[str, float]]) -> ReportTable | None:
    """The same as numbers, at most ``MOST_EPOCHS`` rows."""
    if not rows:
        return None
    names = list(dict.fromkeys(name for row in rows for name in row))
    shown = [rows[index] for index in thinned(len(rows), MOST_EPOCHS)]
    cells = [[f"{row[name]:.4g}" if name in row else "" for name in names] for row in shown]
    return ReportTable([name.replace("_", " ") for name in names], cells)


def figures(done: Examined) -> tuple[list[Figure], list[str]]:
    """Metrics of all classes with their intervals, and what is to be said about these."""
    evaluation = done.run.done
    assert evaluation is not None
    assert evaluation.evaluator is not None
    bounds, said = _intervals(done)
    shown = [name for name in evaluation.metrics if "/" not in name]
    units = evaluation.evaluator.units
    found = [_figure(name, evaluation.metrics[name], bounds, units) for name in shown]
    return found, said


def _intervals(done: Examined) -> tuple[dict[str, Interval], list[str]]:
    if done.measured is None:
        return {}, []
    drawn = done.measured.drawn
    count, images = len(next(iter(drawn.drawn.values()), [])), len(done.measured.tally.image_ids)
    said = f"Below each figure is its {LEVEL:.0%} interval, from {count} draws of these {images} images."
    return intervals(drawn), [said, *warnings(done.measured.tally)]


def tallied(done: Examined) -> tuple[list[Tallied], list[str]]:
    """Counts of all classes together and of the largest ones, and the names of figures of classes."""
    evaluation, scored = done.run.done, done.scored
    assert evaluation is not None
    assert evaluation.evaluator is not None
    assert scored is not None
    bounds, _ = _intervals(done)
    units = evaluation.evaluator.units
    names = done.run.detector.class_names
    of_classes: dict[str, dict[str, Figure]] = {}
    for name, value in evaluation.metrics.items():
        figure, slash, label = name.partition("/")
        if slash and label in names:
            of_classes.setdefault(label, {})[figure] = _figure(name, value, bounds, units, figure)
    columns = list(dict.fromkeys(name for row in of_classes.values() for name in row))[:3]
    labels = largest_classes(scored, len(names), MOST_CLASSES)
    if (beyond := len(names) - len(labels)) > 0:
        done.left_out.append(
            f"the rows of {beyond} classes with fewer objects; `ctnet eval {done.run.path} --json` has all "
            "figures"
        )
    rows = [] if len(names) == 1 else [_tally(scored, "all", None, {})]
    rows += [_tally(scored, names[label], label, of_classes.get(names[label], {})) for label in labels]
    return rows, columns


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
            own = "" if point.own else "few objects: that of all classes"
            cells.append([name, f"{point.score:.2f}", *shown, str(point.objects), own])
    header = ["class", "score", "precision", "recall", "F1", "objects", "note"]
    if not any(row[-1] for row in cells):
        header, cells = header[:-1], [row[:-1] for row in cells]
    return ReportTable(header, cells), f"Chosen for {points.chosen_for}, and used by `ctnet predict`."


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


def errors(done: Breakdown) -> tuple[list[Bar], str]:
    """The breakdown in words."""
    most = max((error.cost for error in done.errors.values()), default=0.0)
    bars = [
        Bar(_ERRORS[name], (str(error.count), f"+{max(error.cost, 0):.3f}"), _share(error.cost, most))
        for name, error in done.errors.items()
    ]
    name, worst = max(done.errors.items(), key=lambda item: item[1].cost)
    said = (
        f"AP50 is {done.ap:.3f}: {done.right} of {counted(done.objects, 'object')} are found by detections "
        "of any score, which the table counts. "
    )
    if worst.cost <= 0:
        return bars, said + "Nothing is left to gain."
    return bars, said + (
        f"What costs most is “{_ERRORS[name]}”: without it, AP50 would be {done.ap + worst.cost:.3f}."
    )


def oracle(done: Oracle, images: int) -> tuple[list[Bar], list[str]]:
    """What each head would gain if it were perfect, in words."""
    main = done.main_metric
    before = done.rows[0].metrics.get(main, 0.0)
    rows = sorted(done.rows[1:], key=lambda row: -row.gain)
    most = max((row.gain for row in rows), default=0.0)
    bars = [
        Bar(
            " and ".join(row.heads).replace("_", " "),
            (f"{before:.3f}", f"{before + row.gain:.3f}", f"{row.gain:+.3f}"),
            _share(row.gain, most),
        )
        for row in rows
    ]
    helping = [row for row in rows if row.gain >= 0.005]
    sentences = [
        f"the true {' and '.join(row.heads).replace('_', ' ')} would add {row.gain:.2f} {main}"
        for row in helping[:3]
    ]
    said = "; ".join(sentences) or f"no single head, made perfect, would add to {main}"
    return bars, [
        f"{said[0].upper()}{said[1:]}. (Each head's map is replaced by the one that the annotations give, on "
        f"{counted(images, 'image')}.)"
    ]


def group_bars(groups: Sequence[Group]) -> list[Bar]:
    """AP of groups of objects or images."""
    return [Bar(group.name, (str(group.objects), f"{group.ap:.3f}"), group.ap) for group in groups]


def time_bars(times: StageTimes, device: Any) -> tuple[list[Bar], str]:
    """Time per stage."""
    spent = times.milliseconds()
    most = max(spent.values(), default=0.0)
    bars = [Bar(_STAGES[name], (f"{value:.1f}",), _share(value, most)) for name, value in spent.items()]
    return bars, f"{times.images_per_second:.1f} images per second on {device}, while this report was made."


def _tally(scored: Scored, name: str, label: int | None, of_class: Mapping[str, Figure]) -> Tallied:
    counts = scored.counts(label)
    return Tallied(name, counts.right.tolist(), counts.wrong.tolist(), counts.objects, of_class)


def _figure(
    name: str,
    value: float,
    bounds: Mapping[str, Interval],
    units: Mapping[str, str],
    shown: str | None = None,
) -> Figure:
    unit = units.get(name) or units.get(name.partition("/")[0], "")
    low, high = bounds[name].bca if name in bounds else (None, None)
    return Figure(shown or name, value, low, high, unit)


def _over_epochs(rows: Sequence[Mapping[str, float]], name: str) -> Series:
    epochs = [row.get("epoch", number) for number, row in enumerate(rows, start=1)]
    return Series(name.replace("_", " "), epochs, [row.get(name, math.nan) for row in rows])


def _is_share(rows: Sequence[Mapping[str, float]], name: str) -> bool:
    inside: Callable[[float], bool] = lambda value: 0 <= value <= 1  # noqa: E731
    return all(inside(row[name]) for row in rows if name in row)


def _share(value: float, most: float) -> float:
    return max(value, 0.0) / most if most > 0 else 0.0


def _some(names: Sequence[str], most: int) -> str:
    more = f" and {len(names) - most} others" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _value(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return " to ".join(f"{part:g}" if isinstance(part, float) else str(part) for part in value)
    return f"{value:g}" if isinstance(value, float) else str(value)
