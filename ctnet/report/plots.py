"""Plots as PNG files, with matplotlib, which the extra ``plots`` brings."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ctnet.base.errors import CtnetError
from ctnet.base.files import atomic_write
from ctnet.data.dataset import Dataset
from ctnet.report.charts import Series

#: How to get it, a line.
MISSING = "plots need matplotlib: pip install 'ctnet-toolkit[plots]'"

_MOST_CLASSES = 30
_MOST_POINTS = 20_000  # of a scatter plot
_DPI = 110


def has_matplotlib() -> bool:
    """Whether plots can be drawn."""
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError:
        return False
    return True


def require_matplotlib() -> None:
    """Refuse to plot without matplotlib.

    Raises:
        CtnetError: saying how to get it.
    """
    if not has_matplotlib():
        raise CtnetError(MISSING)


def plot_lines(path: Path, charts: Mapping[str, Sequence[Series]], logarithmic: Sequence[str] = ()) -> None:
    """Charts of lines side by side.

    Args:
        path: the file.
        charts: lines by title; at least one chart.
        logarithmic: titles of the charts with a logarithmic y axis.

    Raises:
        CtnetError: when the file cannot be written.
    """
    figure, axes = _figure(len(charts))
    for axis, (title, lines) in zip(axes, charts.items(), strict=True):
        for line in lines:
            shown = [(x, y) for x, y in zip(line.x, line.y, strict=True) if math.isfinite(y)]
            axis.plot(*zip(*shown, strict=True) if shown else ([], []), label=_plain(line.name))
        if title in logarithmic:
            axis.set_yscale("log")
        axis.set_title(_plain(title))
        axis.grid(alpha=0.3)
        if len(lines) > 1:
            axis.legend(fontsize=7)
    _write(path, figure)


def plot_precision_recall(path: Path, lines: Sequence[Series]) -> None:
    """Precision over recall, a line per class.

    Raises:
        CtnetError: when the file cannot be written.
    """
    figure, (axis,) = _figure(1)
    for line in lines:
        axis.plot(line.x, line.y, label=_plain(line.name))
    axis.set(xlim=(0, 1), ylim=(0, 1.01), xlabel="recall", ylabel="precision")
    axis.grid(alpha=0.3)
    axis.legend(fontsize=7)
    _write(path, figure)


def plot_confusion(path: Path, names: Sequence[str], table: Sequence[Sequence[int]]) -> None:
    """Annotated (rows) and detected (columns) classes, coloured by the fraction of the row.

    Args:
        path: the file.
        names: the names of rows and columns; the last is the background.
        table: the counts.

    Raises:
        CtnetError: when the file cannot be written.
    """
    figure, (axis,) = _figure(1, 4 + 0.25 * len(names))
    values = np.asarray(table, float)
    axis.imshow(values / np.maximum(values.sum(axis=1, keepdims=True), 1), cmap="Blues", vmin=0, vmax=1)
    for (row, column), value in np.ndenumerate(np.asarray(table)):
        if value:
            axis.text(column, row, str(value), ha="center", va="center", fontsize=7, color="darkred")
    plain = [_plain(name) for name in names]
    axis.set_xticks(range(len(names)), [*plain[:-1], "missed"], rotation=90, fontsize=7)
    axis.set_yticks(range(len(names)), plain, fontsize=7)
    axis.set(xlabel="detected", ylabel="annotated")
    _write(path, figure)


def plot_labels(path: Path, dataset: Dataset) -> None:
    """The objects of a data set: how many of each class and image, where their boxes are, and how large.

    Raises:
        CtnetError: when the file cannot be written.
    """
    coco = dataset.coco
    single = np.flatnonzero(dataset.usable & ~coco.crowd)
    figure, axes = _figure(4)
    ids, counts = np.unique(coco.category_ids[single], return_counts=True)
    order = np.argsort(-counts, kind="stable")[:_MOST_CLASSES]
    names = {int(entry["id"]): str(entry["name"]) for entry in dataset.categories}
    axes[0].barh([_plain(names[int(ids[row])]) for row in order][::-1], counts[order][::-1])
    more = f", the {_MOST_CLASSES} largest of {len(ids)}" if len(ids) > _MOST_CLASSES else ""
    axes[0].set_title(f"objects by class{more}")
    axes[0].tick_params(axis="y", labelsize=7)
    per_image = np.bincount(coco.image_index[single], minlength=len(coco))[dataset.rows]
    axes[1].hist(per_image, bins=min(50, int(per_image.max(initial=0)) + 1))
    axes[1].set_title("objects per image")
    some = single[:: max(1, -(-len(single) // _MOST_POINTS))]
    sides = np.stack([coco.widths, coco.heights], axis=1)[coco.image_index[some]].astype(float)
    boxes = coco.boxes[some]
    centres = (boxes[:, :2] + boxes[:, 2:] / 2) / sides
    sizes = boxes[:, 2:] / sides
    for axis, title, points in ((axes[2], "centres", centres), (axes[3], "sizes", sizes)):
        axis.scatter(points[:, 0], points[:, 1], s=3, alpha=0.3)
        axis.set(xlim=(0, 1), ylim=(0, 1), title=f"{title}, as a fraction of the image", aspect="equal")
    axes[2].invert_yaxis()
    _write(path, figure)


def _figure(count: int, side: float = 4.5) -> tuple[Any, Any]:
    """A figure with so many axes in a row."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(side * count, side), layout="constrained", dpi=_DPI)
    return figure, figure.subplots(1, count, squeeze=False)[0]


def _write(path: Path, figure: Any) -> None:
    content = io.BytesIO()
    figure.savefig(content, format="png")
    with atomic_write(path) as stream:
        stream.write(content.getvalue())


def _plain(text: str) -> str:
    """Text in which matplotlib sees no formula."""
    return text.replace("$", r"\$")
