"""Several runs side by side on one page: metrics, curves, and what a comparison says."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from ctnet.analysis.comparison import Choices, check_same, compare_measured
from ctnet.analysis.report_figures import figures
from ctnet.analysis.report_scores import curve_series
from ctnet.analysis.report_training import MOST_LINES, series_over_epochs
from ctnet.analysis.reported import Examined, ReportChoices
from ctnet.base.errors import CtnetError
from ctnet.report.charts import Frame, Series, line_chart
from ctnet.report.page import Figure, SideBySide


def side_by_side(names: Sequence[str], done: Sequence[Examined], choices: ReportChoices) -> SideBySide:
    """Metrics and curves of several runs, and what ``ctnet compare`` says of each against the first."""
    found = [
        {one.name: one for one in figures(each)[0]} if each.run.done is not None else {} for each in done
    ]
    metrics = list(dict.fromkeys(name for each in found for name in each))
    rows = [[name, *(_cell(each.get(name)) for each in found)] for name in metrics]
    verdicts = [
        _verdict(names[0], done[0], name, other, choices)
        for name, other in zip(names[1:], done[1:], strict=True)
    ]
    charts = {**_precision_and_recall(names, done), **_over_epochs(names, done)}
    return SideBySide(["metric", *names], rows, charts, verdicts)


def _cell(figure: Figure | None) -> str:
    """A figure with its interval, which a narrow column puts on a line of its own."""
    if figure is None:
        return ""
    between = figure.between.replace(" ", "\N{NO-BREAK SPACE}")
    return f"{figure.said} ({between})" if between else figure.said


def _precision_and_recall(names: Sequence[str], done: Sequence[Examined]) -> dict[str, Markup]:
    """A curve of each run that detected anything."""
    lines = [
        curve_series(name, each.scored.ratios())
        for name, each in zip(names, done, strict=True)
        if each.scored is not None and len(each.scored.scores)
    ][:MOST_LINES]
    if not lines:
        return {}
    frame = Frame("recall", "precision", (0.0, 1.0), (0.0, 1.0))
    chart = line_chart("precision and recall of the runs", lines, frame)
    return {"precision and recall, all classes": chart}


def _over_epochs(names: Sequence[str], done: Sequence[Examined]) -> dict[str, Markup]:
    """The main metric and the loss of several runs over epochs."""
    charts = {}
    main = next((each.run.done.main_metric for each in done if each.run.done is not None), "")
    for title, column, frame in (
        (main, main, Frame("epoch", y_range=(0.0, 1.0), whole=True)),
        ("loss", "loss", Frame("epoch", log=True, whole=True)),
    ):
        lines = [
            Series(name, line.x, line.y)
            for name, each in zip(names, done, strict=True)
            if any(column in row for row in each.rows)
            for line in [series_over_epochs(each.rows, column)]
        ]
        if lines:
            charts[title] = line_chart(f"{title} of the runs over epochs", lines[:MOST_LINES], frame)
    return charts


def _verdict(name: str, first: Examined, other_name: str, other: Examined, choices: ReportChoices) -> str:
    """What is said of B = other against A = first."""
    both = f"A = {name}, B = {other_name}: "
    one, two = first.run.subject, other.run.subject
    if one is None or two is None:
        return f"{both}not compared, since one of them is not evaluated."
    if first.measured is None or other.measured is None:
        return f"{both}not compared, since one of them has no intervals (see what is left out)."
    try:
        check_same(first.run.path, one, other.run.path, two)
    except CtnetError as error:
        return f"{both}not compared. {error}."
    chosen = Choices(choices.settings, choices.workers, choices.amp, choices.draws)
    found = compare_measured(
        [first.run.path, other.run.path], False, [first.measured, other.measured], one, chosen
    )
    return f"{both}{found.said}."
