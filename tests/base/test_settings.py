"""Tests of typed settings: numbers of any size are read or refused in one line."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any

import pytest
from annotated_types import Ge, Le

from ctnet.base.errors import CtnetError
from ctnet.base.settings import check_bounds, convert

Share = Annotated[float, Ge(0), Le(1)]


@dataclass(frozen=True)
class Plain:
    share: Share = 0.5
    pair: tuple[Share, Share] = (0.0, 1.0)
    free: float = 0.0

    def __post_init__(self) -> None:
        check_bounds(self, "the example")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"share": 1.5}, "field share of the example is 1.5; it must be at least 0 and at most 1"),
        ({"share": math.nan}, "field share of the example is nan; it must be at least 0 and at most 1"),
        ({"pair": (0.0, -1.0)}, "field pair of the example is -1; it must be at least 0 and at most 1"),
        ({"share": 10**400}, "field share of the example is a number of hundreds of digits; it must be"),
        ({"share": -(10**5000)}, "field share of the example is a number of hundreds of digits; it must be"),
        ({"free": 10**400}, "field free of the example is a number of hundreds of digits; it must be finite"),
        ({"free": -math.inf}, "field free of the example is -inf; it must be finite"),
    ],
)
def test_values_beyond_their_bounds(values: dict[str, Any], message: str) -> None:
    with pytest.raises(CtnetError, match=message):
        Plain(**values)


def test_values_at_their_bounds() -> None:
    assert Plain(share=1, pair=(1.0, 0.0), free=10**300).pair == (1.0, 0.0)


@pytest.mark.parametrize(
    ("value", "hint"), [(10**400, int), ("9" * 400, int), (2**64, int), ("1e400", float)]
)
def test_numbers_that_no_field_can_hold(value: Any, hint: type) -> None:
    with pytest.raises(CtnetError, match=r"option n of task x is .*; it must be a"):
        convert(value, hint, "option n of task x")


def test_the_largest_whole_number() -> None:
    assert convert(str(2**64 - 1), int, "seed") == 2**64 - 1
