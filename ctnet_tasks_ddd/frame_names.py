"""Telling a frame's file from other text files beside it: own data sets call frames as they like."""

from __future__ import annotations

import re
from collections.abc import Callable

from ctnet_tasks_ddd.objects import LABEL_COLUMNS

_CALIBRATION = re.compile(r"(P\d|R0_rect|R_rect|Tr_\w+):\s")
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?|[-+]?(nan|inf)", re.IGNORECASE)


def is_frame(stem: str, read: Callable[[], bytes]) -> bool:
    """Whether a text file is a frame's: it is called as the benchmark's are, or holds objects or calibration.

    A file with nothing in it is a frame without objects. Notes, lists and the benchmark's own tables of
    figures, which lie beside results, are not.

    Args:
        stem: the file's name without suffix.
        read: gives its first bytes.
    """
    if stem.isdigit():
        return True
    lines = (line.strip() for line in read().decode("utf-8", "replace").splitlines())
    first = next((line for line in lines if line), None)
    if first is None or _CALIBRATION.match(first):
        return True
    kind, *numbers = first.split()
    enough = len(numbers) >= LABEL_COLUMNS - 1
    return enough and not _NUMBER.fullmatch(kind) and all(map(_NUMBER.fullmatch, numbers))
