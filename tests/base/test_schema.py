from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import pytest
import torch
from annotated_types import Ge, MinLen
from torch import Tensor
from typing_extensions import NotRequired, TypedDict

from ctnet.base.errors import CtnetError
from ctnet.base.schema import check_json, check_text, check_values, shorten


@dataclass(frozen=True)
class Crop:
    sides: tuple[int, int]
    shift: Literal["border"] | float = 0.0


@dataclass(frozen=True)
class Settings:
    name: str
    count: Annotated[int, Ge(1)]
    crops: list[Crop] = field(default_factory=list)


CROP, NAN = {"sides": [1, 2]}, float("nan")
SOUND = {"name": "a", "count": 2, "crops": [{"sides": [3, 4], "shift": 1}]}


def refusal(kind: Any, value: Any, **more: Any) -> str:
    with pytest.raises(CtnetError) as caught:
        check_json(kind, value, "f.json", "write it again", **more)
    message = str(caught.value)
    assert message.isprintable()
    assert message.startswith("f.json")
    assert message.endswith("; write it again")
    return message.removeprefix("f.json").removesuffix("; write it again")


def test_lists_and_objects_become_what_the_type_says() -> None:
    assert check_json(Settings, SOUND, "f", "") == Settings("a", 2, [Crop((3, 4), 1.0)])
    assert check_json(Settings, {"name": "a", "count": 1}, "f", "") == Settings("a", 1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"count": "2"}, ": at count: '2', expected a whole number"),
        ({"count": True}, ": at count: True, expected a whole number"),
        ({"count": 2.5}, ": at count: 2.5, expected a whole number"),
        ({"count": 0}, ": at count: 0, expected a number greater than or equal to 1"),
        ({"name": 3}, ": at name: 3, expected a string"),
        ({"crops": {}}, ": at crops: {}, expected a list"),
        ({"crops": [3]}, ": at crops.0: 3, expected an object"),
        ({"crops": [{}]}, ": at crops.0.sides: missing, expected a value"),
        ({"crops": [{"sides": [1, 2, 3]}]}, ": at crops.0.sides: [1, 2, 3], expected at most 2 entries"),
        ({"crops": [{**CROP, "shift": "up"}]}, ": at crops.0.shift: 'up', expected 'border' or a number"),
        ({"crops": [CROP | {"shift": NAN}]}, ": at crops.0.shift: nan, expected 'border' or a finite number"),
        ({"more": 1}, ": at more: 1, expected no such key"),
        ({"a\x1b[2J\n": 1}, r": at 'a\x1b[2J\n': 1, expected no such key"),
        ({"name": ["x" * 100]}, f": at name: ['{'x' * 55}..., expected a string"),
    ],
)  # fmt: skip
def test_the_first_place_that_does_not_fit_is_named(change: Any, message: str) -> None:
    assert refusal(Settings, SOUND | change) == message


@pytest.mark.parametrize("value", [None, [], 3, "x"])
def test_a_document_of_another_kind_has_no_place(value: Any) -> None:
    assert refusal(Settings, value) == f": {value!r}, expected an object"


def test_what_python_cannot_write_as_json_is_one_line_as_well() -> None:
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    assert refusal(list[Any], deep) == " cannot be read (RecursionError)"
    assert refusal(list[Any], [10**5000]) == " cannot be read (ValueError)"


def test_infinities_pass_where_they_are_asked_for() -> None:
    assert refusal(list[float], [float("inf")]) == ": at 0: inf, expected a finite number"
    assert check_json(list[float], [float("inf")], "f", "", finite=False) == [float("inf")]


@pytest.mark.parametrize("text", ["caf\udce9", "\ud800", "\udc00\ud800", "\\ud800"])
def test_unpaired_surrogates_survive(text: str) -> None:
    """File names that are not UTF-8 have them."""
    value = {"name": text, "count": 1, "crops": []}
    assert check_json(Settings, value, "f", "") == Settings(text, 1)


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "9" * 5000, '[{"a": 1, "a": 1}]'])
def test_a_text_that_is_not_json(text: str) -> None:
    with pytest.raises(CtnetError, match="f is not valid JSON; write it again"):
        check_text(list[int], text, "f", "write it again")


class Held(TypedDict):
    weights: dict[str, Tensor]
    state: dict[int, float]
    more: NotRequired[Annotated[list[int], MinLen(1)]]


def test_values_that_json_does_not_have() -> None:
    held = {"weights": {"a": torch.zeros(1)}, "state": {3: 0.5}}
    assert check_values(Held, held, "f.pt", "") == held
    with pytest.raises(
        CtnetError, match=r"f.pt: at weights.a: 3, expected an instance of Tensor; train again"
    ):
        check_values(Held, held | {"weights": {"a": 3}}, "f.pt", "train again")
    with pytest.raises(CtnetError, match=r"at more: \[\], expected at least 1 entries"):
        check_values(Held, held | {"more": []}, "f.pt", "")


def test_values_are_shown_on_one_short_line() -> None:
    assert shorten("a\nb") == r"'a\nb'"
    assert len(shorten("x" * 1000)) == 60
    assert shorten(10**5000) == "a int too large to show"
