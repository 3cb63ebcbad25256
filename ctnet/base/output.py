"""What commands print: results on stdout (tables and lines, or one JSON document), the rest on stderr."""

from __future__ import annotations

import json
import logging
import math
import os
import re
import sys
import textwrap
from collections.abc import Sequence
from typing import Any, TextIO

from ctnet.base.files import to_json
from ctnet.base.numbers import whole_number

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
    text = to_json(finite(value), indent=2)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        text = json.dumps(json.loads(text), indent=2)
    print(text)


def finite(value: Any) -> Any:
    """A value as JSON can hold it: NaN and infinities become None, keys text."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    return value


def print_line(text: str = "") -> None:
    """A line of results, on stdout; empty lines before it may be part of the text."""
    _print_wrapped(text, sys.stdout)


def print_note(text: str) -> None:
    """A line about the work, on stderr: warnings, what was skipped, what goes beside ``print_json``."""
    _print_wrapped(text, sys.stderr)


def _print_wrapped(text: str, stream: TextIO) -> None:
    line = text.lstrip("\n")
    print("\n" * (len(text) - len(line)) + wrapped(printable(line), width_of(stream)), file=stream)


def width_of(stream: TextIO) -> int | None:
    """Columns of a terminal (COLUMNS, where it is set, goes before its own); None for a file or a pipe."""
    if not stream.isatty():
        return None
    if columns := whole_number(os.environ.get("COLUMNS", "")):
        return columns
    try:
        return os.get_terminal_size(stream.fileno()).columns or None
    except (OSError, ValueError):  # it has no size, or is not a file
        return None


#: A command in a sentence, which is there to be copied.
_COMMAND = re.compile("`[^`]*`")


def wrapped(text: str, width: int | None) -> str:
    """A line broken at its words, the rest indented; commands in backticks and long paths stay whole."""
    if width is None or len(text) <= width:
        return text
    whole = _COMMAND.sub(lambda match: match[0].replace(" ", "\0"), text)
    lines = textwrap.wrap(
        whole, width, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
    )
    return "\n".join(lines).replace("\0", " ")


def fitting(parts: Sequence[str], width: int | None) -> str:
    """Parts side by side, the first ones, as many as fit into the width; all of them when it is None."""
    line = parts[0]
    for part in parts[1:]:
        if width is not None and len(line) + 2 + len(part) > width:
            break
        line += f"  {part}"
    return line if width is None else line[:width]


def counted(number: int, noun: str) -> str:
    """ "1 image", "2 images", "3 categories"."""
    several = f"{noun[:-1]}ies" if noun.endswith("ry") else f"{noun}s"
    return f"{number} {noun if number == 1 else several}"


def clock(seconds: float) -> str:
    """Hours, minutes and seconds, 1:02:03."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}"


def warn_once(text: str) -> None:
    """Log a warning; the same text only once per process."""
    if text not in _WARNED:
        _WARNED.add(text)
        logging.getLogger("ctnet").warning(printable(text))


def print_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """A table for people, on stdout: numbers to the right, the rest to the left, nothing cut off.

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
        print("  ".join(cells).rstrip())


def _text(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return printable(str(value))
