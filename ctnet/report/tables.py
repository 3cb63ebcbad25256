"""Tables for the terminal."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TextIO

from rich.console import Console
from rich.measure import Measurement
from rich.table import Column, Table
from rich.text import Text

_MOST_COLUMNS = 6
_UNLIMITED = 10_000  # characters


def print_metrics(metrics: Mapping[str, float], title: str | None = None, file: TextIO | None = None) -> None:
    """Print an evaluator's metrics, a row for all classes and one for each, without abbreviation.

    Args:
        metrics: from ``Evaluator.compute``; ``<metric>/<class>`` belongs to a class, any other to all. Names
        that do not start with a metric (``<attribute>/...``) get a table of their own.
        title: above the table.
        file: the stream to print to; stderr when None.
    """
    console = Console(file=file or sys.stderr)
    of_attributes = attribute_figures(metrics)
    tables = [metrics_table({name: metrics[name] for name in metrics if name not in of_attributes}, title)]
    if of_attributes:
        tables.append(Table("attribute", Column("figure", justify="right")))
        for name, value in of_attributes.items():
            tables[-1].add_row(Text(name), f"{value:.3f}")
    unlimited = console.options.update(max_width=_UNLIMITED)
    for table in tables:
        console.width = max(console.width, Measurement.get(console, unlimited, table).maximum)
        console.print(table)


def attribute_figures(metrics: Mapping[str, float]) -> dict[str, float]:
    """The attributes' metrics among an evaluator's.

    They follow the metrics of classes, whose first word is a metric of all classes, or of the first class.
    """
    words = {name for name in metrics if "/" not in name}
    first = next((name.partition("/")[2] for name in metrics if "/" in name), "")
    words |= {name.partition("/")[0] for name in metrics if name.partition("/")[2] == first}
    return {name: value for name, value in metrics.items() if name.partition("/")[0] not in words}


def metrics_table(metrics: Mapping[str, float], title: str | None = None) -> Table:
    """A table of an evaluator's metrics: a row for all classes together, then one for each class.

    Args:
        metrics: from ``Evaluator.compute``; ``<metric>/<class>`` belongs to a class, any other to all. Six
        metrics fit next to each other; others follow below the table.
        title: above the table.
    """
    rows: dict[str, dict[str, float]] = {}
    overall = {name: value for name, value in metrics.items() if "/" not in name}
    for name, value in metrics.items():
        if "/" in name:
            figure, class_name = name.split("/", 1)
            rows.setdefault(class_name, {})[figure] = value
    columns = list(overall)[:_MOST_COLUMNS]
    columns += [figure for figure in next(iter(rows.values()), {}) if figure not in columns]
    further = [f"{name} {value:.3f}" for name, value in overall.items() if name not in columns]
    table = Table(title=title, caption="  ".join(further) or None)
    table.add_column("class")
    for column in columns:
        table.add_column(column, justify="right")
    table.add_row("all", *_cells(overall, columns), style="bold", end_section=bool(rows))
    for class_name, figures in rows.items():
        table.add_row(Text(class_name), *_cells(figures, columns))
    return table


def _cells(figures: Mapping[str, float], columns: list[str]) -> list[str]:
    return [f"{figures[column]:.3f}" if column in figures else "" for column in columns]
