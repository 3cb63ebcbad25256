"""Validating documents: a file's values against a declared type, with a one-line error.

A schema is an annotated type: a dataclass, a ``TypedDict``, ``list[...]``; limits are written with
``annotated_types`` (``Annotated[int, Ge(1)]``). Pydantic does the validation, and is imported when first
needed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import is_dataclass, replace
from functools import cache
from typing import Any

from ctnet.base.errors import CtnetError
from ctnet.base.files import unique_keys

_SHOWN = 60  # characters of a value in an error

#: File names that are not UTF-8 hold unpaired surrogates, which pydantic does not accept in strings.
_SURROGATE = re.compile("[\ud800-\udfff]")
_PRIVATE = 0x100000  # first character of a plane for private use
_HIDDEN = range(_PRIVATE + 0xD800, _PRIVATE + 0xE000)

_EXPECTED = {
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "string_type": "a string",
    "bool_type": "true or false",
    "dict_type": "an object",
    "list_type": "a list",
    "tuple_type": "a list",
    "dataclass_type": "an object",
    "none_required": "null",
    "missing": "a value",
    "extra_forbidden": "no such key",
    "unexpected_keyword_argument": "no such key",
}


def check_json(kind: Any, value: Any, source: object, fix: str, finite: bool = True) -> Any:
    """Validate a parsed JSON document against a type, strictly: a string is not a number, true is not 1.

    Args:
        kind: the schema.
        value: the document.
        source: the file, for the error.
        fix: what the user can do, the end of the error.
        finite: refuse NaN and infinities.

    Returns:
        The document as ``kind``: lists where it says ``tuple`` are tuples, objects are its dataclasses.

    Raises:
        CtnetError: naming the file, the first path that does not fit, its value and what was expected.
    """
    try:
        text = json.dumps([value], ensure_ascii=False)
    except (RecursionError, TypeError, ValueError) as error:
        raise CtnetError(f"{source} cannot be read ({type(error).__name__}); {fix}") from error
    whole, halves = _SURROGATE.subn(lambda half: chr(_PRIVATE + ord(half[0])), text)
    found = _checked(kind, finite, whole, [value], source, fix)
    return _restored(found) if halves else found


def check_text(kind: Any, text: str | bytes, source: object, fix: str, finite: bool = True) -> Any:
    """As ``check_json``, for the text of a document."""
    try:
        value = json.loads(text, object_pairs_hook=unique_keys)
    except (RecursionError, ValueError) as error:
        raise CtnetError(f"{source} is not valid JSON; {fix}") from error
    return check_json(kind, value, source, fix, finite)


def check_values(kind: Any, value: Any, source: object, fix: str) -> Any:
    """As ``check_json``, for values that JSON does not have: tensors, integer keys, tuples."""
    return _checked(kind, False, None, [value], source, fix)


def _checked(kind: Any, finite: bool, text: str | None, value: list[Any], source: object, fix: str) -> Any:
    from pydantic import ValidationError

    adapter = _adapter(kind, finite)
    try:
        found = adapter.validate_python(value) if text is None else adapter.validate_json(text)
    except ValidationError as error:
        raise _error(error.errors(include_url=False), value, source, fix) from error
    return found[0]


@cache
def _adapter(kind: Any, finite: bool) -> Any:
    from pydantic import ConfigDict, TypeAdapter

    config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=not finite, arbitrary_types_allowed=True)
    # A dataclass cannot be given a configuration here; it inherits that of the type around it.
    return TypeAdapter(list[kind], config=config)


def _restored(value: Any) -> Any:
    """With the surrogates that private-use characters stood in for."""
    if isinstance(value, str):
        return "".join(chr(ord(c) - _PRIVATE) if ord(c) in _HIDDEN else c for c in value)
    if isinstance(value, (list, tuple)):
        return type(value)(map(_restored, value))
    if isinstance(value, dict):
        return {_restored(key): _restored(item) for key, item in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{name: _restored(item) for name, item in vars(value).items()})
    return value


def _error(errors: Sequence[Mapping[str, Any]], value: list[Any], source: object, fix: str) -> CtnetError:
    first = errors[0]
    place, found = _place(first, value)
    if first["type"] == "json_invalid":
        return CtnetError(f"{source} cannot be read ({first['ctx']['error']}); {fix}")
    alternatives = [_expected(error) for error in errors if _place(error, value)[0] == place]
    expected = " or ".join(dict.fromkeys(alternatives))
    at = f"at {'.'.join(place)}: " if place else ""
    return CtnetError(f"{source}: {at}{found}, expected {expected}; {fix}")


def _place(error: Mapping[str, Any], value: Any) -> tuple[list[str], str]:
    """The path of an error, without pydantic's names for alternatives, and the value there."""
    place: list[str] = []
    if error["type"] == "json_invalid":
        return place, ""
    for key in error["loc"]:
        try:
            value = value[key] if isinstance(value, (dict, list, tuple)) else {}[key]
        except (LookupError, TypeError):
            if error["type"] == "missing":
                place.append(_shown(key))
            break
        place.append(_shown(key))
    return place[1:], "missing" if error["type"] == "missing" else shorten(value)


def _shown(key: Any) -> str:
    text = str(key)
    return text if text.isprintable() and len(text) <= _SHOWN else shorten(text)


def _expected(error: Mapping[str, Any]) -> str:
    if error["type"] in _EXPECTED:
        return _EXPECTED[error["type"]]
    if error["type"] in ("too_long", "too_short"):
        bound = "at most {max_length}" if error["type"] == "too_long" else "at least {min_length}"
        return f"{bound.format(**error['ctx'])} entries"
    text = str(error["msg"]).removeprefix("Input should be ")
    return f"a number {text}" if error["type"].startswith(("greater", "less")) else text


def shorten(value: Any) -> str:
    """A value for an error message: its beginning on one line, with control characters escaped."""
    try:
        text = repr(value)
    except (RecursionError, ValueError):  # nested too deeply; a number of thousands of digits
        return f"a {type(value).__name__} too large to show"
    text = " ".join(text.split())
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."
