from __future__ import annotations

import io
import re
import sys

import pytest

from ctnet.base import progress
from ctnet.base.progress import track


@pytest.fixture
def clock(monkeypatch):
    """A clock that a test moves."""

    class Clock:
        now = 100.0

    monkeypatch.setattr(progress.time, "monotonic", lambda: Clock.now)
    return Clock


def slowly(items, clock, seconds):
    for item in items:
        clock.now += seconds
        yield item


def test_items_come_through(capsys) -> None:
    assert list(track("abc", "spelling")) == ["a", "b", "c"]
    assert list(track(iter("abc"), "spelling")) == ["a", "b", "c"]
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""


def test_plain_lines_now_and_then(capsys, clock) -> None:
    list(track(slowly(range(10), clock, 4.0), "reading", total=10, unit="files"))
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == [
        "0:00:24 left  0.2 files/s  4/10  reading",
        "0:00:08 left  0.2 files/s  8/10  reading",
    ]


def test_an_unknown_total_is_left_out(capsys, clock) -> None:
    list(track(slowly(range(4), clock, 5.0), "reading"))
    assert capsys.readouterr().err == "0.2 images/s  3  reading\n"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_bar_on_a_terminal_survives_names_with_brackets(monkeypatch, clock) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    assert list(track(slowly(range(3), clock, 2.0), "detecting in a[/b]", total=3)) == [0, 1, 2]
    assert "detecting in a[/b]" in sys.stderr.getvalue()
    assert "3/3" in sys.stderr.getvalue()


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_a_bar_fits_with_the_time_left_first(monkeypatch, clock, columns: int) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", str(columns))
    list(track(slowly(range(3000), clock, 2.0), "detecting in " + "a long folder " * 20, total=3000))
    shown = [
        re.sub("\x1b\\[[0-9;?]*[a-zA-Z]", "", line) for line in re.split("[\r\n]", sys.stderr.getvalue())
    ]
    shown = [line for line in shown if line.strip()]
    assert shown
    assert max(map(len, shown)) <= columns
    assert re.match(r"\d+:\d\d:\d\d left  0\.5 images/s +\d+/3000 .* detecti[a-z ]*…", shown[-1])


def test_no_bar_for_short_work(monkeypatch, clock) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal())
    assert list(track(slowly(range(3), clock, 0.5), "short")) == [0, 1, 2]
    assert "short" not in sys.stderr.getvalue()


def test_an_error_in_the_work_comes_through() -> None:
    def failing():
        yield 1
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        list(track(failing(), "x"))
