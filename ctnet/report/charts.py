"""Charts as inline SVG: no library, colours and fonts from the page's style sheet, every text escaped."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

#: How many colours the style sheet has (``.series-0`` ...); further lines begin again.
COLOURS = 8

_LEFT, _RIGHT, _TOP, _BOTTOM = 54, 14, 10, 34


@dataclass(frozen=True)
class Series:
    """A line of a chart: values of y are NaN where there is none."""

    name: str
    x: Sequence[float]
    y: Sequence[float]


@dataclass(frozen=True)
class Dot:
    """A point to look at, with the text that a pointer on it shows."""

    x: float
    y: float
    text: str


@dataclass(frozen=True)
class Frame:
    """Size and axes of a chart.

    Attributes:
        x_name, y_name: titles of the axes; "" for none.
        x_range, y_range: what the axes show; from the values when None.
        width, height: of the chart, pixels; it shrinks with the page.
        log: whether the y axis is logarithmic.
        whole: whether x has whole numbers only, as epochs do.
    """

    x_name: str = ""
    y_name: str = ""
    x_range: tuple[float, float] | None = None
    y_range: tuple[float, float] | None = None
    width: int = 460
    height: int = 240
    log: bool = False
    whole: bool = False


def line_chart(title: str, lines: Sequence[Series], frame: Frame, dots: Sequence[Dot] = ()) -> Markup:
    """A chart of lines, with the names of the lines below it if there are several.

    Args:
        title: what a screen reader says.
        lines: at least one; those without any finite value are left out.
        frame: size and axes.
        dots: points on top.
    """
    lines = [line for line in lines if any(map(math.isfinite, line.y))]
    x_range = frame.x_range or _range([value for line in lines for value in line.x])
    y_values = [value for line in lines for value in line.y if math.isfinite(value)]
    log = frame.log and min(y_values, default=0) > 0
    y_range = frame.y_range or (_decades(y_values) if log else _range(y_values, from_zero=True))
    place = _Place(frame, x_range, y_range, log)
    drawn = [*place.axes(), *(place.line(line, number) for number, line in enumerate(lines))]
    drawn += [place.dot(dot) for dot in dots]
    svg = Markup('<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        frame.width, frame.height, title, Markup("").join(drawn)
    )
    return svg + _legend(lines) if len(lines) > 1 else svg


def _legend(lines: Sequence[Series]) -> Markup:
    entries = [
        Markup('<li><span class="swatch series-{}"></span>{}</li>').format(number % COLOURS, line.name)
        for number, line in enumerate(lines)
    ]
    return Markup('<ul class="legend">{}</ul>').format(Markup("").join(entries))


class _Place:
    """Where values lie on the chart."""

    def __init__(
        self, frame: Frame, x_range: tuple[float, float], y_range: tuple[float, float], log: bool
    ) -> None:
        self.frame, self.x_range, self.y_range, self.log = frame, x_range, y_range, log
        self.right, self.bottom = frame.width - _RIGHT, frame.height - _BOTTOM

    def x(self, value: float) -> float:
        low, high = self.x_range
        return _LEFT + (value - low) / (high - low) * (self.right - _LEFT)

    def y(self, value: float) -> float:
        low, high = self.y_range
        if self.log:
            low, high, value = math.log10(low), math.log10(high), math.log10(value)
        share = min(max((value - low) / (high - low), 0.0), 1.0)
        return self.bottom - share * (self.bottom - _TOP)

    def axes(self) -> list[Markup]:
        low, high = self.y_range
        y_ticks = _powers(low, high) if self.log else ticks(low, high, max(2, self.frame.height // 48))
        parts = []
        for value, text in zip(y_ticks, tick_texts(y_ticks), strict=True):
            y = self.y(value)
            parts.append(
                Markup('<path class="grid" d="M{} {:.1f}H{}"/>').format(_LEFT, y, self.right)
                + _text(_LEFT - 6, y + 4, text, "end")
            )
        x_ticks = ticks(*self.x_range, max(2, self.frame.width // 80), 1.0 if self.frame.whole else 0.0)
        for value, text in zip(x_ticks, tick_texts(x_ticks), strict=True):
            parts.append(_text(self.x(value), self.bottom + 15, text, "middle"))
        middle = (self.right + _LEFT) / 2
        parts.append(_text(middle, self.frame.height - 4, self.frame.x_name, "middle"))
        if self.frame.y_name:
            centre = (self.bottom + _TOP) / 2
            turned = Markup(
                '<text transform="translate(11 {:.0f}) rotate(-90)" text-anchor="middle">{}</text>'
            )
            parts.append(turned.format(centre, self.frame.y_name))
        return parts

    def line(self, line: Series, number: int) -> Markup:
        path, pen = [], "M"
        points = 0
        for x, y in zip(line.x, line.y, strict=True):
            if not math.isfinite(y) or (self.log and y <= 0):
                continue  # an epoch without evaluation: the line goes on to the next one
            path.append(f"{pen}{self.x(x):.1f} {self.y(y):.1f}")
            pen, points = "L", points + 1
        kind = f"line series-{number % COLOURS}"
        if points == 1:  # a line of one point would not be seen
            path.append("h.1")
            kind += " single"
        return Markup('<path class="{}" d="{}"><title>{}</title></path>').format(
            kind, "".join(path), line.name
        )

    def dot(self, dot: Dot) -> Markup:
        return Markup('<circle class="dot" cx="{:.1f}" cy="{:.1f}" r="4"><title>{}</title></circle>').format(
            self.x(dot.x), self.y(dot.y), dot.text
        )


def _text(x: float, y: float, text: str, anchor: str) -> Markup:
    return Markup('<text x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>').format(x, y, anchor, escape(text))


def ticks(low: float, high: float, most: int, least_step: float = 0.0) -> list[float]:
    """Round values between two others, at most so many and a few, no closer than the least step."""
    step = 10 ** math.floor(math.log10((high - low) / most))
    for factor in (1, 2, 5, 10):
        if (high - low) / (step * factor) <= most:
            step *= factor
            break
    step = max(step, least_step)
    first = math.ceil(low / step - 1e-9)
    return [number * step for number in range(first, math.floor(high / step + 1e-9) + 1)]


def tick_texts(values: Sequence[float]) -> list[str]:
    """The values of an axis in few letters: all of them with a power of ten, or none."""
    sizes = [abs(value) for value in values if value]
    if not sizes or (1e-3 <= max(sizes) < 1e5 and min(sizes) >= 1e-4):
        return [f"{value:.6f}".rstrip("0").rstrip(".") for value in values]
    return [_power(value) if value else "0" for value in values]


def _power(value: float) -> str:
    digits, power = f"{value:.1e}".split("e")
    return f"{float(digits):g}e{int(power)}"


def _range(values: Sequence[float], from_zero: bool = False) -> tuple[float, float]:
    low, high = min(values, default=0.0), max(values, default=1.0)
    if from_zero and low > 0:
        low = 0.0
    if high - low < 1e-12:
        return low - 0.5, high + 0.5
    return low, high


def _decades(values: Sequence[float]) -> tuple[float, float]:
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    return 10.0**low, 10.0 ** max(high, low + 1)


def _powers(low: float, high: float) -> list[float]:
    first, last = round(math.log10(low)), round(math.log10(high))
    step = max(1, (last - first) // 4)
    return [10.0**power for power in range(first, last + 1, step)]
