"""What was trained on what, and how it went over the epochs, for a run's page."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from ctnet.analysis.reported import Examined
from ctnet.analysis.scored import thinned
from ctnet.base.output import counted
from ctnet.report.charts import Frame, Series, line_chart
from ctnet.report.page import ReportTable

#: What a page shows at most.
MOST_EPOCHS, MOST_LINES = 60, 8


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


def training_charts(rows: Sequence[Mapping[str, float]]) -> dict[str, Markup]:
    """Loss, metrics and learning rate over epochs."""
    frames = {
        "loss": Frame("epoch", log=True, whole=True),
        "metrics": Frame("epoch", y_range=(0.0, 1.0), whole=True),
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
        title: [series_over_epochs(rows, name) for name in some][:MOST_LINES]
        for title, some in chosen.items()
    }
    return {
        title: lines
        for title, lines in charts.items()
        if any(math.isfinite(value) for line in lines for value in line.y)
    }


def epochs_table(rows: Sequence[Mapping[str, float]]) -> ReportTable | None:
    """The same as numbers, at most ``MOST_EPOCHS`` rows."""
    if not rows:
        return None
    names = list(dict.fromkeys(name for row in rows for name in row))
    shown = [rows[index] for index in thinned(len(rows), MOST_EPOCHS)]
    cells = [[f"{row[name]:.4g}" if name in row else "" for name in names] for row in shown]
    return ReportTable([name.replace("_", " ") for name in names], cells)


def series_over_epochs(rows: Sequence[Mapping[str, float]], name: str) -> Series:
    """A column of ``metrics.csv`` as a line; NaN where an epoch has no value."""
    epochs = [row.get("epoch", number) for number, row in enumerate(rows, start=1)]
    return Series(name.replace("_", " "), epochs, [row.get(name, math.nan) for row in rows])


def _is_share(rows: Sequence[Mapping[str, float]], name: str) -> bool:
    inside: Callable[[float], bool] = lambda value: 0 <= value <= 1  # noqa: E731
    return all(inside(row[name]) for row in rows if name in row)


def _some(names: Sequence[str], most: int) -> str:
    more = f" and {len(names) - most} others" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _value(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return " to ".join(f"{part:g}" if isinstance(part, float) else str(part) for part in value)
    return f"{value:g}" if isinstance(value, float) else str(value)
