"""Typed settings by name: fields of a frozen dataclass, set from values, TOML or ``NAME=VALUE`` texts."""

from __future__ import annotations

import math
import operator
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from annotated_types import BaseMetadata, Ge, GroupedMetadata, Gt, Le, Lt

from ctnet.base.errors import CtnetError, unknown_name


def convert_all(values: Mapping[str, Any], hints: Mapping[str, Any], kind: str, owner: str) -> dict[str, Any]:
    """Values by name, each converted to its field's type.

    Args:
        values: by the field's name.
        hints: the type of every field.
        kind: what a field is called in messages ("option").
        owner: what has these fields, for messages ("task ctdet").

    Raises:
        CtnetError: for an unknown field, naming the nearest ones, and as ``convert``.
    """
    for name in values:
        if name not in hints:
            raise unknown_name(f"{kind} of {owner}", name, hints)
    return {name: convert(value, hints[name], f"{kind} {name} of {owner}") for name, value in values.items()}


def convert(value: Any, hint: Any, what: str) -> Any:
    """A value, or its text, as a type asks for it.

    Args:
        value: "0.5", 0.5, "90,120", [90, 120], ...
        hint: bool, int, float, str, a ``Literal`` of strings, ``tuple[int, ...]`` ("90,120"),
            ``tuple[int, int]`` ("512x384"; "512" for both), ``tuple[float, float]`` ("0.6..1.3"), or a union
            of these and None ("none").
        what: what is set, for the message.

    Raises:
        CtnetError: for any other value, naming what is allowed.
    """
    # "none" is None where that is possible, not a text.
    for kind in sorted(_alternatives(hint), key=lambda kind: kind is not type(None)):
        try:
            return _as(value, kind)
        except ValueError:
            continue
    raise CtnetError(f"{what} is {value!r}; it must be {type_text(hint)}")


def type_text(hint: Any) -> str:
    """A type in words, for help and messages."""
    if get_origin(hint) is Literal:
        return "|".join(str(choice) for choice in get_args(hint))
    if len(kinds := _alternatives(hint)) > 1:
        return " or ".join(map(type_text, kinds))
    words = {
        bool: "true|false",
        int: "a whole number",
        float: "a number",
        str: "a string",
        type(None): "none",
        tuple[int, ...]: "whole numbers separated by commas",
        tuple[int, int]: "a whole number or WIDTHxHEIGHT",
        tuple[float, float]: "LOWEST..HIGHEST",
    }
    return words.get(hint, str(hint))


def _alternatives(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)


def _as(value: Any, kind: Any) -> Any:
    """One value as a type without alternatives.

    Raises:
        ValueError: when it is none.
    """
    if get_origin(kind) is tuple:
        return _as_tuple(value, kind)
    if get_origin(kind) is Literal:
        if value in get_args(kind):
            return value
    elif kind is type(None):
        if value in (None, "none"):
            return None
    elif kind is bool:
        word = str(value).lower()
        if word in ("true", "yes", "on", "1", "false", "no", "off", "0"):
            return word in ("true", "yes", "on", "1")
    else:
        converted = kind(str(value))  # by way of the text, so that int refuses 3.7 and True
        if isinstance(converted, str) or abs(converted) < (math.inf if kind is float else 2**64):
            return converted
    raise ValueError


def _as_tuple(value: Any, kind: Any) -> tuple[Any, ...]:
    item, rest = get_args(kind)
    if isinstance(value, (str, int)) and not isinstance(value, bool):
        text = str(value).strip()
        if rest is ...:
            value = text.split(",") if text else []
        elif item is int:
            value = text.lower().split("x") if "x" in text.lower() else [text, text]
        else:
            value = text.split("..")
    if not isinstance(value, (list, tuple)) or (rest is not ... and len(value) != 2):
        raise ValueError
    return tuple(_as(part, item) for part in value)


def _constraints(hint: Any) -> Iterator[Any]:
    """The bounds that an annotated type states, of its parts as well."""
    for part in get_args(hint):
        if isinstance(part, GroupedMetadata):
            yield from part
        elif isinstance(part, BaseMetadata):
            yield part
        else:
            yield from _constraints(part)


def check_bounds(record: Any, owner: str) -> None:
    """Hold the numbers of a dataclass to the bounds that their types state (``Annotated[int, Ge(1)]``).

    Args:
        record: a dataclass.
        owner: what has these fields, for messages ("the recipe").

    Raises:
        CtnetError: naming the first number out of its bounds.
    """
    for name, hint in get_type_hints(type(record), include_extras=True).items():
        value, bounds = getattr(record, name), list(_constraints(hint))
        for number in value if isinstance(value, tuple) else (value,):
            if isinstance(number, (int, float)) and not _is_within(number, bounds):
                huge = isinstance(number, int) and abs(number) > _LARGEST
                shown = "a number of hundreds of digits" if huge else f"{number:g}"
                raise CtnetError(f"field {name} of {owner} is {shown}; it must be {_in_words(bounds)}")


#: Whole numbers beyond this cannot become floats.
_LARGEST = sys.float_info.max

#: Kind of bound -> its attribute, how a number is held against it, and how that is said.
_BOUNDS: Mapping[type, tuple[str, Callable[[float, float], bool], str]] = {
    Gt: ("gt", operator.gt, "above"),
    Ge: ("ge", operator.ge, "at least"),
    Lt: ("lt", operator.lt, "below"),
    Le: ("le", operator.le, "at most"),
}


def _is_within(number: float, bounds: Sequence[Any]) -> bool:
    kinds = ((bound, *_BOUNDS[type(bound)]) for bound in bounds)
    return abs(number) <= _LARGEST and all(  # false of NaN as well
        holds(number, getattr(bound, name)) for bound, name, holds, _ in kinds
    )


def _in_words(bounds: Sequence[Any]) -> str:
    kinds = ((bound, *_BOUNDS[type(bound)]) for bound in bounds)
    return " and ".join(f"{word} {getattr(bound, name):g}" for bound, name, _, word in kinds) or "finite"
