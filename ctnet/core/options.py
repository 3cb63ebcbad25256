"""The options of a task: fields of a frozen dataclass."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from ctnet.base.errors import CtnetError
from ctnet.base.settings import convert_all, type_text

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class NoOptions:
    """The options of a task that has none."""


@dataclasses.dataclass(frozen=True)
class OptionRow:
    """One option as printed by ``ctnet tasks show``."""

    name: str
    type: str
    default: Any
    help: str


def option(default: Any, help: str, limits: tuple[float, float] = (-math.inf, math.inf)) -> Any:
    """A dataclass field with a default, a line of help, and the smallest and largest value of a number."""
    return dataclasses.field(default=default, metadata={"help": help, "limits": limits})


def parse_options(cls: type[T], values: Mapping[str, Any], owner: str) -> T:
    """Build ``cls`` from values that may be strings.

    Args:
        cls: a dataclass whose fields are bool, int, float, str or Literal of strings.
        values: option name to value; strings are converted to the field's type.
        owner: what the options belong to, for messages ("task ctdet").

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
                f"{type_text(hints[field.name])}; its author must change one of them"
            )
    parsed = convert_all(values, hints, "option", owner)
    for name, value in parsed.items():
        low, high = fields[name].metadata.get("limits", (-math.inf, math.inf))
        if hints[name] in (int, float) and not low <= value <= high:
            needed = f"lie between {low} and {high}" if math.isfinite(high) else f"be at least {low}"
            raise CtnetError(f"option {name} of {owner} is {value:g}; it must {needed}")
    return cls(**parsed)


def option_rows(cls: type) -> list[OptionRow]:
    """The options of ``cls`` for display."""
    hints = get_type_hints(cls)
    return [
        OptionRow(field.name, type_text(hints[field.name]), field.default, field.metadata.get("help", ""))
        for field in dataclasses.fields(cls)
    ]


def _fits(default: Any, hint: Any) -> bool:
    if get_origin(hint) is Literal:
        return default in get_args(hint)
    return type(default) is hint or (hint is float and type(default) is int)
