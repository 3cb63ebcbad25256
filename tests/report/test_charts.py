from __future__ import annotations

import math
import re

import pytest

from ctnet.report.charts import Dot, Frame, Series, line_chart, tick_texts, ticks


def numbers(path: str) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in re.findall(r"[ML]([\d.]+) ([\d.]+)", path)]


def test_points_lie_where_their_values_are() -> None:
    frame = Frame(x_range=(0, 10), y_range=(0, 1), width=460, height=240)
    drawn = line_chart("t", [Series("a", [0, 5, 10], [0, 0.5, 1])], frame)
    (path,) = re.findall(r'class="line series-0" d="([^"]+)"', drawn)
    (x0, y0), (x1, y1), (x2, y2) = numbers(path)
    assert (x1 - x0, y1 - y0) == pytest.approx((x2 - x1, y2 - y1))
    assert x2 > x0
    assert y2 < y0, "upwards"


def test_names_are_escaped_everywhere() -> None:
    evil = '"><script>alert(1)</script>'
    lines = [Series(evil, [0, 1], [0, 1]), Series("b", [0, 1], [1, 0])]
    drawn = line_chart(evil, lines, Frame(evil, evil), [Dot(0.5, 0.5, evil)])
    assert "<script" not in drawn
    assert drawn.count("&lt;script&gt;") == 6, "title, two axes, line, legend and dot"


def test_what_is_missing_is_passed_over() -> None:
    gap = Series("gap", [1, 2, 3], [1.0, math.nan, 2.0])
    none = Series("none", [1, 2, 3], [math.nan] * 3)
    drawn = line_chart("t", [gap, none], Frame())
    assert "nan" not in drawn
    assert drawn.count('class="line') == 1
    assert "single" in line_chart("t", [Series("one", [1], [2.0])], Frame())
    assert "<svg" in line_chart("t", [none], Frame())


def test_a_logarithmic_axis_has_powers_of_ten() -> None:
    drawn = line_chart("t", [Series("loss", [1, 2, 3], [300.0, 20.0, 0.5])], Frame(log=True))
    assert [text for text in ("0.1", "1", "10", "100", "1000") if f">{text}</text>" in drawn][1:] == [
        "1",
        "10",
        "100",
        "1000",
    ]


@pytest.mark.parametrize(
    ("low", "high", "most", "values"),
    [
        (0, 1, 5, [0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (1, 10, 5, [2, 4, 6, 8, 10]),
        (0, 2e-3, 4, [0, 5e-4, 1e-3, 1.5e-3, 2e-3]),
    ],
)
def test_ticks_are_round(low: float, high: float, most: int, values: list[float]) -> None:
    assert ticks(low, high, most) == pytest.approx(values)


def test_epochs_are_whole_numbers() -> None:
    assert ticks(1, 3, 5, 1.0) == [1, 2, 3]
    drawn = line_chart("t", [Series("a", [1, 2], [0, 1])], Frame(x_range=(1, 2), y_range=(0, 1), whole=True))
    assert ">1.5</text>" not in drawn


@pytest.mark.parametrize(
    ("values", "texts"),
    [
        ([0, 0.2, 0.4], ["0", "0.2", "0.4"]),
        ([0, 5e-4, 1e-3, 1.5e-3], ["0", "0.0005", "0.001", "0.0015"]),
        ([0, 5e-5, 1e-4, 1.5e-4], ["0", "5e-5", "1e-4", "1.5e-4"]),
        ([-100, 0, 100], ["-100", "0", "100"]),
        ([0, 2e5], ["0", "2e5"]),
        ([0.0], ["0"]),
    ],
)
def test_ticks_of_an_axis_are_written_alike(values: list[float], texts: list[str]) -> None:
    assert tick_texts(values) == texts
