"""Numbers that users write: parsing them, and how large they may be."""

from __future__ import annotations

from ctnet.base.errors import CtnetError

#: Largest side of an image and largest coordinate of a box, pixels.
LARGEST_COORDINATE = float(2**31)

_DIGITS = 18  # of the largest integers that are read


def whole_number(text: str) -> int | None:
    """The integer written with the digits 0 to 9; None for any other string.

    ``str.isdigit`` is true of characters that ``int`` cannot read ("²").
    """
    return int(text) if text.isascii() and text.isdigit() and len(text) <= _DIGITS else None


def check_seed(seed: int) -> None:
    """Refuse a seed that random number generators do not accept.

    Raises:
        CtnetError: for a seed below 0 or from 2^64 on.
    """
    if not 0 <= seed < 2**64:
        raise CtnetError(f"--seed is {seed}; it must be a whole number from 0 to 2^64 - 1")
