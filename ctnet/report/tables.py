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
    """Print an evaluator's figures, a row for all classes and one for each, with nothing shortened.

    Args:
        metrics: from ``Evaluator.compute``; ``<figure>/<class>`` belongs to a class, any other to all. What
            follows a word that is not a figure's (``<attribute>/...``) makes a table of its own.
        title: above the table.
        file: where to; stderr when None.
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
    """Of an evaluator's figures those of attributes.

    They follow the figures of classes, whose first word is a figure of all classes, or of the first class.
    """
    words = {name for name in metrics if "/" not in name}
    first = next((name.partition("/")[2] for name in metrics if "/" in name), "")
    words |= {name.partition("/")[0] for name in metrics if name.partition("/")[2] == first}
    return {name: value for name, value in metrics.items() if name.partition("/")[0] not in words}


def metrics_table(metrics: Mapping[str, float], title: str | None = None) -> Table:
    """An evaluator's figures: a row for all classes together, then one for each class.

    Args:
        metrics: from ``Evaluator.compute``; ``<figure>/<class>`` belongs to a class, any other to all. Six
            figures fit beside each other; the further ones follow below the table.
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
