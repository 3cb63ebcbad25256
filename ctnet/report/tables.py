"""Tables for the terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol, TextIO

from rich.cells import cell_len
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from ctnet.base.output import printable, width_of

_UNLIMITED = 10_000  # characters
_MOST_COLUMNS = 6
_BORDER = 3  # characters of a column besides its text


def print_metrics(
    metrics: Mapping[str, float],
    title: str | None = None,
    file: TextIO | None = None,
    units: Mapping[str, str] | None = None,
) -> None:
    """Print an evaluator's metrics, one row for all classes together and one per class, without truncation.

    Columns that do not fit into the terminal's width follow in a further table.

    Args:
        metrics: from ``Evaluator.compute``; ``<metric>/<class>`` belongs to one class, other names to all
            classes. Metrics of attributes (``<attribute>/...``) get a table of their own.
        title: a line above the table.
        file: where to print; stdout when None.
        units: ``Evaluator.units``.
    """
    file, units = file or sys.stdout, units or {}
    width = width_of(file) or _UNLIMITED
    console = Console(file=file, width=_UNLIMITED)
    if title:
        print(printable(title), file=file)
    of_attributes = attribute_figures(metrics)
    figures = {name: value for name, value in metrics.items() if name not in of_attributes}
    tables, further = metrics_tables(figures, width, units)
    for table in tables:
        console.print(table)
    for line in _side_by_side(further, min(width, 80)):
        print(line, file=file)
    if of_attributes:
        table = Table("attribute", Column("figure", justify="right"))
        for name, value in of_attributes.items():
            table.add_row(Text(name), with_unit(value, units.get(name, "")))
        console.print(table)


class Bounded(Protocol):
    """A value with the interval around it."""

    @property
    def value(self) -> float: ...
    @property
    def percentile(self) -> tuple[float, float]: ...
    @property
    def bca(self) -> tuple[float, float]: ...


def print_intervals(
    intervals: Mapping[str, Bounded], units: Mapping[str, str] | None = None, file: TextIO | None = None
) -> None:
    """Print the intervals of an evaluator's metrics, a row each.

    Args:
        intervals: by metric.
        units: ``Evaluator.units``.
        file: where to print; stdout when None.
    """
    units = units or {}
    columns = (Column(name, justify="right") for name in ("value", "percentile", "BCa"))
    table = Table("metric", *columns)
    for name, one in intervals.items():
        unit = units.get(name) or units.get(name.partition("/")[0], "")
        bounds = (
            f"{shown_value(low, unit)} to {shown_value(high, unit)}"
            for low, high in (one.percentile, one.bca)
        )
        table.add_row(Text(name), with_unit(one.value, unit), *bounds)
    Console(file=file or sys.stdout, width=_UNLIMITED).print(table)


def print_points(rows: Mapping[str, Sequence[float | None]], file: TextIO | None = None) -> None:
    """Print what is reached at the threshold of each class.

    Args:
        rows: by class: threshold, precision, recall, F1, number of objects; None where undefined.
        file: where to print; stdout when None.
    """
    names = ("above", "precision", "recall", "F1", "objects")
    table = Table("class", *(Column(name, justify="right") for name in names))
    for name, (*figures, objects) in rows.items():
        cells = ("" if value is None else f"{value:.3f}" for value in figures)
        table.add_row(Text(name), *cells, f"{objects:.0f}")
    Console(file=file or sys.stdout, width=_UNLIMITED).print(table)


def attribute_figures(metrics: Mapping[str, float]) -> dict[str, float]:
    """The metrics of attributes among those of an evaluator.

    They come after the metrics of classes, whose first word names a metric of all classes or of the first.
    """
    words = {name for name in metrics if "/" not in name}
    first = next((name.partition("/")[2] for name in metrics if "/" in name), "")
    words |= {name.partition("/")[0] for name in metrics if name.partition("/")[2] == first}
    return {name: value for name, value in metrics.items() if name.partition("/")[0] not in words}


def metrics_tables(
    metrics: Mapping[str, float], width: int = _UNLIMITED, units: Mapping[str, str] | None = None
) -> tuple[list[Table], list[str]]:
    """An evaluator's metrics: one row for all classes together, then one per class.

    Args:
        metrics: from ``Evaluator.compute``; ``<metric>/<class>`` belongs to one class, other names to all.
        width: largest width of a table, characters.
        units: the units of some metrics, see ``Evaluator.units``.

    Returns:
        The tables (more than one if the columns do not fit side by side), and the remaining metrics of all
        classes as text. The first six metrics, and all those of single classes, have a column.
    """
    units = units or {}
    overall = {name: value for name, value in metrics.items() if "/" not in name}
    rows: dict[str, dict[str, float]] = {}
    for name, value in metrics.items():
        figure, slash, class_name = name.partition("/")
        if slash:
            rows.setdefault(class_name, {})[figure] = value
    of_classes = dict.fromkeys(figure for figures in rows.values() for figure in figures)
    columns = list(overall)[:_MOST_COLUMNS]
    columns += [figure for figure in of_classes if figure not in columns]
    further = [
        f"{name} {with_unit(value, units.get(name, ''))}"
        for name, value in overall.items()
        if name not in columns
    ]
    first = max(map(cell_len, ("class", *rows)))
    parts = _parts(columns, width - first - _BORDER - 1, units)
    return [_table(overall, rows, part, units) for part in parts], further


def _parts(columns: Sequence[str], room: int, units: Mapping[str, str]) -> Iterator[list[str]]:
    """Groups of columns that fit side by side."""
    part: list[str] = []
    left = room
    for column in columns:
        needed = max(len(column), len(units.get(column, "")), 5) + _BORDER
        if part and needed > left:
            yield part
            part, left = [], room
        part.append(column)
        left -= needed
    yield part


def _table(
    overall: Mapping[str, float],
    rows: Mapping[str, Mapping[str, float]],
    columns: Sequence[str],
    units: Mapping[str, str],
) -> Table:
    table = Table("class", *(Column(_titled(column, units), justify="right") for column in columns))
    # A class without any of these metrics has no row.
    named = {name: figures for name, figures in rows.items() if any(column in figures for column in columns)}
    if any(column in overall for column in columns):
        table.add_row("all", *_cells(overall, columns, units), style="bold", end_section=bool(named))
    for name, figures in named.items():
        table.add_row(Text(name), *_cells(figures, columns, units))
    return table


def _cells(figures: Mapping[str, float], columns: Sequence[str], units: Mapping[str, str]) -> list[str]:
    return [
        shown_value(figures[column], units.get(column, "")) if column in figures else "" for column in columns
    ]


def _titled(name: str, units: Mapping[str, str]) -> str:
    return f"{name}\n{units[name]}" if name in units else name


def with_unit(value: float, unit: str) -> str:
    return f"{shown_value(value, unit)} {unit}".rstrip()


def shown_value(value: float, unit: str) -> str:
    """The value with three decimals, or with one if it has a unit."""
    if not unit:
        return f"{value:.3f}"
    return f"{100 * value if unit == '%' else value:.1f}"


def _side_by_side(parts: Sequence[str], width: int) -> Iterator[str]:
    """Lines of short texts, about the same number on each line."""
    if not parts:
        return
    cell = max(map(len, parts)) + 2
    lines = -(-len(parts) // max(1, width // cell))
    each = -(-len(parts) // lines)
    for start in range(0, len(parts), each):
        yield "".join(part.ljust(cell) for part in parts[start : start + each]).rstrip()
