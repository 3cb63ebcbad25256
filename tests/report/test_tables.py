from __future__ import annotations

import io
import re
from io import StringIO

import pytest

from ctnet.report.tables import print_metrics


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def printed(metrics: dict[str, float], **options: object) -> list[str]:
    stream = StringIO()
    print_metrics(metrics, file=stream, **options)
    return stream.getvalue().splitlines()


def on_terminal(monkeypatch: pytest.MonkeyPatch, columns: int, *arguments: object) -> list[str]:
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "dumb")
    stream = Terminal()
    print_metrics(*arguments, file=stream)
    return stream.getvalue().splitlines()


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in re.split("[│┃]", line)[1:-1]]


def test_all_classes_first_then_each() -> None:
    names = ("AP", "AP50", "AP75", "APS", "APM", "APL", "AR1", "AR10")
    metrics = {name: number / 10 for number, name in enumerate(names)}
    lines = printed({**metrics, "AP/bee": 0.25, "AP50/bee": 0.5, "AP/[red]/ant": 0.125})
    rows = [cells(line) for line in lines if "│" in line]
    assert rows[0] == ["all", "0.000", "0.100", "0.200", "0.300", "0.400", "0.500"]
    assert rows[1] == ["bee", "0.250", "0.500", "", "", "", ""]
    assert rows[2][:2] == ["[red]/ant", "0.125"]  # names are not markup
    assert lines[-1].split() == ["AR1", "0.600", "AR10", "0.700"]


def test_figures_that_only_classes_have() -> None:
    lines = printed({"mAP": 0.5, "AP/bee": 0.25})
    assert cells(lines[1])[1:] == ["mAP", "AP"]
    assert cells(lines[-2]) == ["bee", "", "0.250"]


def test_a_figure_that_the_first_class_lacks_has_a_column() -> None:
    lines = printed({"AP": 0.5, "error": 0.1, "AP/bee": 0.25, "AP/ant": 0.75, "error/ant": 0.1})
    assert cells(lines[1]) == ["class", "AP", "error"]
    assert cells(lines[-2]) == ["ant", "0.750", "0.100"]


def test_wide_tables_are_printed_whole_into_a_file() -> None:
    names = [f"orientation_error_{number}" for number in range(6)]
    text = "\n".join(
        printed(dict.fromkeys(names, 0.5) | {f"{names[0]}/Pedestrian/moderate/R40": 0.25}, title="wide")
    )
    assert text.startswith("wide\n")
    assert "…" not in text
    assert text.count("class") == 1
    assert all(name in text for name in (*names, "Pedestrian/moderate/R40"))


def test_columns_beyond_the_width_follow_in_another_table_without_empty_rows(monkeypatch) -> None:
    names = [f"figure_{number}" for number in range(6)]
    metrics = dict.fromkeys(names, 0.5) | {"figure_0/ant": 0.25, "figure_5/bee": 0.75}
    lines = on_terminal(monkeypatch, 60, metrics, "title")
    assert max(map(len, lines)) <= 60
    heads = [cells(line) for line in lines if "class" in line]
    assert heads == [["class", *names[:4]], ["class", *names[4:]]]
    first, second = "\n".join(lines).split("class")[1:]
    assert "ant" in first
    assert "bee" not in first
    assert "ant" not in second
    assert "bee" in second


@pytest.mark.parametrize("count", range(8, 20))
def test_figures_below_the_table_are_not_left_alone(monkeypatch, count: int) -> None:
    metrics = {f"AR{number}": 0.5 for number in range(count)}
    lines = on_terminal(monkeypatch, 60, metrics)[5:]
    each = [len(line.split()) // 2 for line in lines]
    assert sum(each) == count - 6
    assert max(each) - min(each) <= len(each) - 1
    assert 1 not in each


def test_units() -> None:
    metrics = {"AP": 0.5, "depth_error": 0.0834, "turn": 12.34, "turn/ant": 9.96}
    lines = printed(metrics, units={"depth_error": "%", "turn": "degrees"})
    assert cells(lines[1]) == ["", "", "depth_error", "turn"]
    assert cells(lines[2]) == ["class", "AP", "%", "degrees"]
    assert cells(lines[4]) == ["all", "0.500", "8.3", "12.3"]
    assert cells(lines[-2]) == ["ant", "", "", "10.0"]


def test_figures_of_attributes_have_a_table_of_their_own() -> None:
    metrics = {"mAP": 0.5, "AP/ant": 0.4, "AP/bee": 0.6, "kind/accuracy": 0.75, "kind/AP/small": 0.25}
    metrics["weight/error"] = 3.25
    first, second = "\n".join(printed(metrics, units={"weight/error": "kg"})).split("attribute")
    assert "kind" not in first
    assert "bee" in first
    assert re.search(r"kind/accuracy\s+│\s+0\.750", second)
    assert re.search(r"kind/AP/small\s+│\s+0\.250", second)
    assert re.search(r"weight/error\s+│\s+3\.2 kg", second)
