"""The report as one HTML file: its content as plain values, and the page made of them.

The page asks for nothing else: style, script, charts and pictures are in it. Every text is escaped by the
template, and the numbers of the script are JSON in which no character can end the element.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup, escape

from ctnet.report.captions import Caption, is_long
from ctnet.report.tables import shown_value

#: Largest page, bytes.
LARGEST = 5_000_000

#: The room for pictures in it, as base64 text; and for those of plugins.
PICTURES, PLUGIN_PICTURES = 3_200_000, 500_000

#: The template, the style and the script of the report.
PAGE_FILES = Path(__file__).parent / "page_files"


@dataclass(frozen=True)
class Figure:
    """A metric with its interval, if it has one."""

    name: str
    value: float
    low: float | None = None
    high: float | None = None
    unit: str = ""

    @property
    def said(self) -> str:
        """The value."""
        return f"{shown_value(self.value, self.unit)} {self.unit}".rstrip()

    @property
    def between(self) -> str:
        """The interval; "" without one."""
        if self.low is None or self.high is None:
            return ""
        return f"{shown_value(self.low, self.unit)} to {shown_value(self.high, self.unit)}"


@dataclass(frozen=True)
class Tallied:
    """Counts at every score of the slider.

    Attributes:
        name: the name of the class, or of all.
        right, wrong: detections with at least that score, by the slider's step.
        objects: number of objects.
        figures: metrics of the class.
    """

    name: str
    right: Sequence[int]
    wrong: Sequence[int]
    objects: int
    figures: Mapping[str, Figure] = field(default_factory=dict)

    def at(self, step: int) -> dict[str, Any]:
        """The counts and ratios at a step, as the page's script computes them."""
        right, wrong = self.right[step], self.wrong[step]
        return {
            "right": right,
            "wrong": wrong,
            "missed": self.objects - right,
            "precision": ratio(right, right + wrong),
            "recall": ratio(right, self.objects),
        }


@dataclass(frozen=True)
class Bar:
    """A row of a table with a bar.

    Attributes:
        name: what it is about.
        texts: the further cells.
        share: length of the bar, in [0, 1].
    """

    name: str
    texts: tuple[str, ...]
    share: float


@dataclass(frozen=True)
class Mark:
    """An object or a detection on a picture.

    Attributes:
        box: x, y, width, height in pixels of the picture.
        text: its caption.
        caption: where that stands.
        kind: its look: "object", "right", or the type of error.
        step: for detections the last step of the slider that shows it; for objects the last one at which it
            is found, -1 for never.
        overlay: what the task draws for it: a picture as a data URI, and its box.
    """

    box: tuple[float, float, float, float]
    text: str
    caption: Caption
    kind: str
    step: int
    overlay: tuple[str, tuple[int, int, int, int]] | None = None


@dataclass(frozen=True)
class Shown:
    """An image with what was annotated and what was detected.

    Attributes:
        name: its file.
        why: why it is shown, a phrase.
        width, height: of the picture, pixels.
        picture: a data URI; "" where it cannot be read, and ``why_not`` says why.
        heatmap: a transparent picture to lay over it, a data URI; "" for none.
        annotated, detected: what is drawn on each side.
    """

    name: str
    why: str
    width: int
    height: int
    picture: str
    heatmap: str
    annotated: Sequence[Mark]
    detected: Sequence[Mark]
    why_not: str = ""

    @property
    def long(self) -> bool:
        """Whether it gets the whole width."""
        return is_long(self.width, self.height)

    @property
    def size(self) -> int:
        """Characters of its pictures."""
        overlays = (mark.overlay for mark in (*self.annotated, *self.detected) if mark.overlay)
        return len(self.picture) + len(self.heatmap) + sum(len(text) for text, _ in overlays)


@dataclass(frozen=True)
class Gallery:
    """Images that are wrong in one way."""

    title: str
    images: Sequence[Shown]


@dataclass(frozen=True)
class ReportTable:
    """A table of a plugin's section; cells are shown as text."""

    header: Sequence[str]
    rows: Sequence[Sequence[object]]


@dataclass(frozen=True)
class ReportSection:
    """A section that a plugin adds to the report of a run; all texts are escaped.

    Attributes:
        title: its heading.
        text: paragraphs.
        tables: tables.
        pictures: (H, W, 3) uint8 RGB by caption.
    """

    title: str
    text: Sequence[str] = ()
    tables: Sequence[ReportTable] = ()
    pictures: Mapping[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True)
class Drawn:
    """A plugin's section with its pictures as data URIs."""

    title: str
    text: Sequence[str]
    tables: Sequence[ReportTable]
    pictures: Mapping[str, str]


@dataclass(frozen=True)
class RunPage:
    """What the page says of one run; empty parts are left out.

    Attributes:
        name: the run.
        summary: a sentence.
        about: what was trained on what, by name.
        charts: loss, metrics and rate over epochs, by title.
        epochs: the same as numbers: a header and rows.
        figures: metrics of all classes.
        figures_said: a line about the intervals.
        step: where the slider starts.
        counts: those of all classes together, then those of single ones.
        class_figures: the names of the figures of classes.
        curves: precision-recall charts by class.
        operating: the operating points, and how they were chosen.
        confusion: names and the table of ``Scored.confusion``, the background last; None without.
        errors, oracle: rows of the breakdown and of the heads replaced by ground truth, and what they say.
        groups: AP by size and by crowding, by title.
        calibration: charts and lines about it.
        times: time per stage.
        galleries: the worst images.
        most_drawn: detections that are drawn on each at most.
        sections: the sections of plugins.
        left_out: what the page does not show, and why.
    """

    name: str
    summary: str
    about: Mapping[str, str]
    charts: Mapping[str, Markup] = field(default_factory=dict)
    epochs: ReportTable | None = None
    figures: Sequence[Figure] = ()
    figures_said: Sequence[str] = ()
    step: int = 30
    counts: Sequence[Tallied] = ()
    class_figures: Sequence[str] = ()
    curves: Mapping[str, Markup] = field(default_factory=dict)
    operating: ReportTable | None = None
    operating_said: str = ""
    confusion: tuple[Sequence[str], Sequence[Sequence[int]]] | None = None
    errors: Sequence[Bar] = ()
    errors_said: str = ""
    oracle: Sequence[Bar] = ()
    oracle_said: Sequence[str] = ()
    groups: Mapping[str, Sequence[Bar]] = field(default_factory=dict)
    calibration: Mapping[str, Markup] = field(default_factory=dict)
    calibration_said: Sequence[str] = ()
    times: Sequence[Bar] = ()
    times_said: str = ""
    galleries: Sequence[Gallery] = ()
    most_drawn: int = 0
    sections: Sequence[Drawn] = ()
    left_out: Sequence[str] = ()


@dataclass(frozen=True)
class SideBySide:
    """Several runs compared.

    Attributes:
        header, rows: metrics, a column per run.
        charts: lines of all runs, by title.
        verdicts: what ``ctnet compare`` says, a sentence each.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    charts: Mapping[str, Markup]
    verdicts: Sequence[str]


@dataclass(frozen=True)
class Page:
    """The whole report."""

    title: str
    made: str
    runs: Sequence[RunPage]
    side_by_side: SideBySide | None = None


def render_page(page: Page) -> str:
    """The report as HTML."""
    template = page_environment(PAGE_FILES).get_template("report.html")
    step = next((run.step for run in page.runs if run.counts), 30)
    counts = [[[list(one.right), list(one.wrong), one.objects] for one in run.counts] for run in page.runs]
    text: str = template.render(page=page, step=step, data=script_json({"counts": counts}))
    return text


def script_json(value: Any) -> Markup:
    """JSON for a script element: no text in it can end the element or begin a comment."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=True)
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def ratio(part: int, whole: int) -> str:
    """A fraction with three decimals; a dash where there is nothing to divide by."""
    return f"{part / whole:.3f}" if whole else "-"


def with_code(text: str) -> Markup:
    """A text, escaped, in which `words` between backticks are code."""
    parts = text.split("`")
    if len(parts) % 2 == 0:  # one of them has no partner
        return escape(text)
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if number % 2 else escape(part)
        for number, part in enumerate(parts)
    )


@cache
def page_environment(folder: Path) -> Any:
    """Templates of pages: every text is escaped, and a name without a value is an error.

    Args:
        folder: where they are; its .css and .js files are the global ``files`` by name.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    made = Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["code"] = with_code
    own = [path for path in folder.iterdir() if path.suffix in (".css", ".js")]
    made.globals["files"] = {path.name: Markup(path.read_text("utf-8")) for path in own}
    return made
