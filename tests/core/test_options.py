from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Literal

import pytest

from ctnet.base.errors import CtnetError
from ctnet.core.options import NoOptions, OptionRow, option, option_rows, parse_options


@dataclass(frozen=True)
class Some:
    kind: Literal["red", "green"] = option("red", "which colour")
    number: int = option(3, "how many")
    factor: float = option(0.5, "how much")
    on: bool = option(False, "whether")
    text: str = option("", "what")


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, Some()),
        ({"kind": "green", "number": "7"}, Some(kind="green", number=7)),
        ({"number": -2, "factor": 3}, Some(number=-2, factor=3.0)),
        ({"factor": "1e-3"}, Some(factor=0.001)),
        ({"on": "yes"}, Some(on=True)),
        ({"on": "Off"}, Some(on=False)),
        ({"on": True}, Some(on=True)),
        ({"on": "1"}, Some(on=True)),
        ({"text": "a=b"}, Some(text="a=b")),
    ],
)
def test_values_are_converted(values, expected) -> None:
    parsed = parse_options(Some, values, "task x")
    assert parsed == expected
    assert [type(value) for value in vars(parsed).values()] == [str, int, float, bool, str]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"kind": "blue"}, "option kind of task x is 'blue'; it must be red|green"),
        ({"number": "3.5"}, "option number of task x is '3.5'; it must be a whole number"),
        ({"number": 3.7}, "option number of task x is 3.7; it must be a whole number"),
        ({"number": True}, "option number of task x is True; it must be a whole number"),
        ({"number": None}, "option number of task x is None; it must be a whole number"),
        ({"factor": "heavy"}, "option factor of task x is 'heavy'; it must be a number"),
        ({"factor": "nan"}, "option factor of task x is 'nan'; it must be a number"),
        ({"factor": float("inf")}, "option factor of task x is inf; it must be a number"),
        ({"factor": ""}, "option factor of task x is ''; it must be a number"),
        ({"on": "maybe"}, "option on of task x is 'maybe'; it must be true|false"),
        ({"on": 2}, "option on of task x is 2; it must be true|false"),
        ({"nummer": 1}, "there is no option of task x called 'nummer'; did you mean number?"),
        ({"zzz": 1}, "called 'zzz'; known: factor, kind, number, on, text"),
    ],
)
def test_wrong_values_say_what_is_allowed(values, message) -> None:
    with pytest.raises(CtnetError, match=re.escape(message)):
        parse_options(Some, values, "task x")


def test_a_float_survives_exactly() -> None:
    for value in (0.1, 1 / 3, 1e-300, 123456789.123456789):
        assert parse_options(Some, {"factor": value}, "x").factor == value


def test_a_task_without_options() -> None:
    assert parse_options(NoOptions, {}, "x") == NoOptions()
    assert option_rows(NoOptions) == []
    with pytest.raises(CtnetError, match="no option of x called 'a'; known: none"):
        parse_options(NoOptions, {"a": 1}, "x")


def test_rows_for_display() -> None:
    assert option_rows(Some) == [
        OptionRow("kind", "red|green", "red", "which colour"),
        OptionRow("number", "a whole number", 3, "how many"),
        OptionRow("factor", "a number", 0.5, "how much"),
        OptionRow("on", "true|false", False, "whether"),
        OptionRow("text", "a string", "", "what"),
    ]


@dataclass(frozen=True)
class Limited:
    share: float = option(0.5, "a share", limits=(0, 1))
    count: int = option(3, "how many", limits=(1, math.inf))


def test_limits_are_kept() -> None:
    assert parse_options(Limited, {"share": "1", "count": 1}, "task x") == Limited(1.0, 1)
    with pytest.raises(CtnetError, match=r"option share of task x is 1\.5; it must lie between 0 and 1"):
        parse_options(Limited, {"share": "1.5"}, "task x")
    with pytest.raises(CtnetError, match="option count of task x is 0; it must be at least 1"):
        parse_options(Limited, {"count": 0}, "task x")
