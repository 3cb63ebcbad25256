from __future__ import annotations

import re
from io import StringIO

from rich.console import Console

from ctnet.report.tables import metrics_table, print_metrics


def printed(metrics: dict[str, float]) -> list[str]:
    console = Console(width=80, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(metrics_table(metrics))
    return console.export_text().splitlines()


def test_all_classes_first_then_each() -> None:
    names = ("AP", "AP50", "AP75", "APS", "APM", "APL", "AR1", "AR10")
    metrics = {name: number / 10 for number, name in enumerate(names)}
    lines = printed({**metrics, "AP/bee": 0.25, "AP50/bee": 0.5, "AP/[red]/ant": 0.125})
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines if "│" in line]
    assert rows[0] == ["all", "0.000", "0.100", "0.200", "0.300", "0.400", "0.500"]
    assert rows[1] == ["bee", "0.250", "0.500", "", "", "", ""]
    assert rows[2][:2] == ["[red]/ant", "0.125"]  # names are not markup
    assert "AR1 0.600  AR10 0.700" in lines[-1]


def test_figures_that_only_classes_have() -> None:
    lines = printed({"mAP": 0.5, "AP/bee": 0.25})
    assert lines[1].replace("┃", " ").split()[1:] == ["mAP", "AP"]
    assert lines[-2].replace("│", " ").split() == ["bee", "0.250"]


def test_wide_tables_are_printed_whole() -> None:
    names = [f"orientation_error_{number}" for number in range(6)]
    stream = StringIO()
    print_metrics(dict.fromkeys(names, 0.5) | {f"{names[0]}/Pedestrian/moderate/R40": 0.25}, "wide", stream)
    text = stream.getvalue()
    assert "…" not in text
    assert all(name in text for name in (*names, "Pedestrian/moderate/R40"))


def test_figures_of_attributes_have_a_table_of_their_own() -> None:
    metrics = {"mAP": 0.5, "AP/ant": 0.4, "AP/bee": 0.6, "kind/accuracy": 0.75, "kind/AP/small": 0.25}
    stream = StringIO()
    print_metrics(metrics, file=stream)
    first, second = stream.getvalue().split("attribute")
    assert "kind" not in first
    assert "bee" in first
    assert re.search(r"kind/accuracy\s+│\s+0\.750", second)
    assert re.search(r"kind/AP/small\s+│\s+0\.250", second)
