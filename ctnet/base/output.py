"""What commands print: tables and lines for people on stderr, one JSON document on stdout."""

from __future__ import annotations

import json
import logging
import math
import sys
from collections.abc import Sequence
from typing import Any

_WARNED: set[str] = set()


def print_json(value: Any) -> None:
    """One JSON document on stdout; NaN and infinities become null."""
    print(json.dumps(_finite(value), indent=2, ensure_ascii=False))


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return value


def print_line(text: str = "") -> None:
    """A line for people."""
    print(text, file=sys.stderr)


def warn_once(text: str) -> None:
    """A warning in the log of ctnet; the same words only once a process."""
    if text not in _WARNED:
        _WARNED.add(text)
        logging.getLogger("ctnet").warning(text)


def print_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """A table for people: the first column to the left, numbers to the right, nothing cut off.

    Args:
        header: the columns' titles.
        rows: one value a column; floats are shown with the digits that matter.
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
    return str(value)
