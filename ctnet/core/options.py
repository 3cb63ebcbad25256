"""Typed settings by name: fields of a frozen dataclass, set from values, TOML or ``NAME=VALUE`` texts."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from types import UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from ctnet.base.errors import CtnetError, unknown_name

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class NoOptions:
    """The options of a task that has none."""


@dataclasses.dataclass(frozen=True)
class OptionRow:
    """One option as ``ctnet tasks show`` prints it."""

    name: str
    type: str
    default: Any
    help: str


def option(default: Any, help: str, limits: tuple[float, float] = (-math.inf, math.inf)) -> Any:
    """A dataclass field with a default, a line of help, and the least and largest value of a number."""
    return dataclasses.field(default=default, metadata={"help": help, "limits": limits})


def parse_options(cls: type[T], values: Mapping[str, Any], owner: str) -> T:
    """Build ``cls`` from values that may be strings.

    Args:
        cls: a dataclass whose fields are bool, int, float, str or Literal of strings.
        values: option name to value; strings are converted to the field's type.
        owner: what has these options, for messages ("task ctdet").

    Raises:
        CtnetError: for an unknown option, a value of the wrong type or beyond the limits, naming what is
            allowed, and a default of the wrong type.
    """
    hints = get_type_hints(cls)
    fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]  # it is a dataclass
    for field in fields.values():
        if not _fits(field.default, hints[field.name]):
            raise CtnetError(
                f"option {field.name} of {owner} has the default {field.default!r}, which is not "
                f"{type_text(hints[field.name])}; its author must change the one or the other"
            )
    parsed = convert_all(values, hints, "option", owner)
    for name, value in parsed.items():
        low, high = fields[name].metadata.get("limits", (-math.inf, math.inf))
        if hints[name] in (int, float) and not low <= value <= high:
            needed = f"lie between {low} and {high}" if math.isfinite(high) else f"be at least {low}"
            raise CtnetError(f"option {name} of {owner} is {value:g}; it must {needed}")
    return cls(**parsed)


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


def option_rows(cls: type) -> list[OptionRow]:
    """The options of ``cls`` for display."""
    hints = get_type_hints(cls)
    return [
        OptionRow(field.name, type_text(hints[field.name]), field.default, field.metadata.get("help", ""))
        for field in dataclasses.fields(cls)
    ]


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
    for kind in _alternatives(hint):
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
        str: "a text",
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
        if not isinstance(converted, float) or math.isfinite(converted):
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


def _fits(default: Any, hint: Any) -> bool:
    if get_origin(hint) is Literal:
        return default in get_args(hint)
    return type(default) is hint or (hint is float and type(default) is int)
