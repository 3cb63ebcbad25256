"""Numbers that users write: what a text says, and how large a number may be."""

from __future__ import annotations

from ctnet.base.errors import CtnetError

#: No picture has a side, and no box a coordinate, beyond this, pixels.
LARGEST_COORDINATE = float(2**31)

_DIGITS = 18  # of the largest whole numbers that are read


def whole_number(text: str) -> int | None:
    """The whole number that a text of the digits 0 to 9 says; None for any other text.

    ``str.isdigit`` is true of characters that ``int`` cannot read ("²").
    """
    return int(text) if text.isascii() and text.isdigit() and len(text) <= _DIGITS else None


def check_seed(seed: int) -> None:
    """Refuse a seed that generators of random numbers do not take.

    Raises:
        CtnetError: for a seed below 0 or from 2^64 on.
    """
    if not 0 <= seed < 2**64:
        raise CtnetError(f"--seed is {seed}; it must be a whole number from 0 to 2^64 - 1")
