"""Parsing of options, shared by several commands."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import typer

from ctnet.base.errors import CtnetError
from ctnet.base.numbers import whole_number

#: Fields of a recipe that have an option of their own.
_OWN_OPTIONS = {"epochs": "--epochs", "learning_rate": "--lr"}


def parse_size(text: str | None, option: str = "size") -> tuple[int, int] | None:
    """ "512" -> (512, 512); "1280x384" -> (1280, 384).

    Args:
        text: as given.
        option: with which it was given, for the message.

    Raises:
        CtnetError: for anything else.
    """
    if text is None:
        return None
    sides = [whole_number(part) or 0 for part in text.lower().split("x")]
    if len(sides) in (1, 2) and min(sides) > 0:
        return sides[0], sides[-1]
    raise CtnetError(f"--{option} is {text!r}; write one number (512) or WIDTHxHEIGHT (1280x384)")


def require_finite(**values: float | None) -> None:
    """Refuse NaN and infinities, which an option's range does not exclude.

    Args:
        values: by the option's name with underscores; None where it was left out.

    Raises:
        CtnetError: naming the option.
    """
    for name, value in values.items():
        if value is not None and not math.isfinite(value):
            raise CtnetError(f"--{name.replace('_', '-')} is {value}; it must be a finite number")


#: Milliseconds of the units that a time may be written in.
_MILLISECONDS = {"ms": 1.0, "s": 1000.0}


def parse_budget(context: typer.Context, text: str | None) -> float | None:
    """ "30ms" -> 30.0, "0.5s" -> 500.0: milliseconds.

    Args:
        context: the command's context; without a budget it may have no ``threads``.
        text: as given.

    Raises:
        CtnetError: for anything else, and for --threads without --budget.
    """
    if text is None:
        refuse_given(context, ["threads"], "--budget")
        return None
    number = text.strip().lower().rstrip("ms")
    unit = text.strip().lower()[len(number) :]
    try:
        milliseconds = float(number) * _MILLISECONDS[unit]
    except (ValueError, KeyError):
        milliseconds = math.nan
    if not 0 < milliseconds < math.inf:
        raise CtnetError(f"--budget is {text!r}; write a time per image, such as 30ms or 0.5s")
    return milliseconds


def parse_names(text: str, option: str) -> tuple[str, ...]:
    """ "a,b" -> ("a", "b"); "none" -> ().

    Args:
        text: as given.
        option: with which it was given, for the message.

    Raises:
        CtnetError: for an empty name, and for "none" beside others.
    """
    names = tuple(name.strip() for name in text.split(","))
    if "" in names or ("none" in names and len(names) > 1):
        raise CtnetError(f"{option} is {text!r}; give names separated by commas, or none")
    return () if names == ("none",) else names


def parse_assignments(texts: Sequence[str], option: str) -> dict[str, str]:
    """["a=1", "b=x"] -> {"a": "1", "b": "x"}.

    Args:
        texts: as given.
        option: the option that they were given with, for messages ("-O").

    Raises:
        CtnetError: for a string without "=".
    """
    pairs = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise CtnetError(f"{option} {text!r} is not NAME=VALUE")
        pairs[name] = value
    return pairs


def recipe_fields(texts: Sequence[str], given: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a recipe that were set with ``-R`` or their own option.

    Args:
        texts: FIELD=VALUE each.
        given: field -> value of its own option, None where it was left out. ``--lr`` sets the learning rate
            in effect, not the field, so it is only checked against ``-R``.

    Raises:
        CtnetError: for a string without "=", and a field that was set both ways.
    """
    fields: dict[str, Any] = dict(parse_assignments(texts, "-R"))
    for name, value in given.items():
        if value is not None and name in fields:
            raise CtnetError(f"{_OWN_OPTIONS[name]} and -R {name}= say the same; leave one of them out")
    own = {name: value for name, value in given.items() if value is not None and name != "learning_rate"}
    return fields | own


def refuse_other_settings(context: typer.Context, instead: str, allowed: Sequence[str]) -> None:
    """Refuse options that another one makes meaningless, instead of silently ignoring them.

    Args:
        context: the command's context.
        instead: the option (its parameter's name) that was given.
        allowed: parameters that can be combined with it.

    Raises:
        CtnetError: naming the first other one on the command line.
    """
    for name in context.params:
        source = context.get_parameter_source(name)
        if name not in (instead, *allowed) and source is not None and source.name == "COMMANDLINE":
            written = "a run" if name == "run" else f"--{name.replace('_', '-')}"
            if name == "field":  # a field of a recipe, however it was written
                written = f"-R {context.params[name][0]}"
            other = ", or start a new run with --init RUN" if instead == "resume" else ""
            raise CtnetError(f"{written} cannot be combined with --{instead}; leave one of them out{other}")


def refuse_given(context: typer.Context, names: Sequence[str], without: str) -> None:
    """Refuse options that mean nothing without another one.

    Args:
        context: the command's context.
        names: the options (their parameters' names).
        without: the option that was left out, as it is written.

    Raises:
        CtnetError: naming the first that was given.
    """
    for name in names:
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            raise CtnetError(f"--{name.replace('_', '-')} is for {without}; add that, or leave it out")
