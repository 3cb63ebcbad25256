"""What a run reaches and what its mistakes cost, for its page: figures, counts and bars."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ctnet.analysis.breakdown import Breakdown
from ctnet.analysis.oracles import Oracle
from ctnet.analysis.report_scores import MOST_CLASSES, largest_classes
from ctnet.analysis.reported import Examined
from ctnet.analysis.scored import Group, Scored
from ctnet.base.output import counted
from ctnet.evaluation.bootstrap import LEVEL, Interval, intervals, warnings
from ctnet.inference.timing import StageTimes
from ctnet.report.page import Bar, Figure, Tallied

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


def _share(value: float, most: float) -> float:
    return max(value, 0.0) / most if most > 0 else 0.0
