"""What commands print: tables and lines for people on stderr, one JSON document on stdout."""

from __future__ import annotations

import json
import logging
import math
import re
import sys
from collections.abc import Sequence
from typing import Any

from ctnet.base.files import to_json

_WARNED: set[str] = set()

#: Control characters, line ends of every kind, changes of direction, unpaired surrogates.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    """A string as one line that is safe to print to a terminal: control characters are shown as escapes.

    Names in data sets and folders may hold anything, sequences that clear the screen included. A byte of a
    file name that is not UTF-8 is shown as an escape (``\\xe9``).
    """
    return _UNPRINTABLE.sub(_escaped, text)


def _escaped(match: re.Match[str]) -> str:
    code = ord(match[0])
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    return match[0].encode("unicode_escape").decode("ascii")


def print_json(value: Any) -> None:
    """One JSON document on stdout; NaN and infinities become null."""
    text = to_json(_finite(value), indent=2)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        text = json.dumps(json.loads(text), indent=2)
    print(text)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return value


def print_line(text: str = "") -> None:
    """A line for people; empty lines before it may be part of the text."""
    line = text.lstrip("\n")
    print("\n" * (len(text) - len(line)) + printable(line), file=sys.stderr)


def warn_once(text: str) -> None:
    """Log a warning; the same text only once per process."""
    if text not in _WARNED:
        _WARNED.add(text)
        logging.getLogger("ctnet").warning(printable(text))


def print_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """A table for people: first column left-aligned, numbers right-aligned, nothing cut off.

    Args:
        header: the columns' titles.
        rows: one value per column; floats are shown with their significant digits.
    """
    texts = [[_text(value) for value in row] for row in rows]
    widths = [max(len(row[column]) for row in [list(header), *texts]) for column in range(len(header))]
    numeric = [
        bool(rows) and all(isinstance(row[column], (int, float)) or row[column] == "" for row in rows)
        for column in range(len(header))
    ]
    for row in [list(header), ["-" * width for width in widths], *texts]:
        cells = [
            text.rjust(width) if right else text.ljust(width)
            for text, width, right in zip(row, widths, numeric, strict=True)
        ]
        print_line("  ".join(cells).rstrip())


def _text(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return printable(str(value))
