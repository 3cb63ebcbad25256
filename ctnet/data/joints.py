"""Left and right in the names of joints, from which data sets' pairs are derived."""

from __future__ import annotations

import re
from collections.abc import Sequence

_OPPOSITE = {"left": "right", "right": "left", "l": "r", "r": "l"}
_WORD = re.compile("left|right", re.IGNORECASE)
_LETTER = re.compile(r"(?<![A-Za-z])[LlRr](?![a-z])")  # L_wrist, wrist.l, LWrist


def other_side(name: str) -> str:
    """The name with left and right swapped (left_eye, eyeLeft, L_eye, LEye, eye.l), else unchanged."""
    swapped = _WORD.sub(_swapped, name)
    return swapped if swapped != name else _LETTER.sub(_swapped, name)


def left_right_pairs(names: Sequence[str]) -> list[tuple[int, int]]:
    """The (left, right) positions of names that differ only in their side, in order."""
    position = {name: number for number, name in enumerate(names)}
    pairs = []
    for number, name in enumerate(names):
        partner = position.get(other_side(name), number)
        if partner != number and _says_left(name):
            pairs.append((number, partner))
    return pairs


def names_a_side(name: str) -> bool:
    """Whether a name has left or right as a word of its own (left_eye, eyeLeft; not upright)."""
    words = re.findall("[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)
    return any(word.lower() in ("left", "right") for word in words)


def _says_left(name: str) -> bool:
    found = _WORD.search(name) or _LETTER.search(name)
    return found is not None and found[0].lower().startswith("l")


def _swapped(found: re.Match[str]) -> str:
    text = found[0]
    opposite = _OPPOSITE[text.lower()]
    return opposite.upper() if text.isupper() else opposite.title() if text.istitle() else opposite
