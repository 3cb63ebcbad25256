"""Captions on a picture, placed so that they can be read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

#: Height of the letters, pixels of the picture, as the style sheet has it; and on long pictures.
LETTER, SMALL_LETTER = 18, 12

_ADVANCE = 0.62  # width of an average letter, as a part of its height
_GAP = 4.0


@dataclass(frozen=True)
class Caption:
    """Where a text stands: the left end of its baseline, or the right one if it ``ends`` there; pixels."""

    x: float
    y: float
    ends: bool = False


def is_long(width: int, height: int) -> bool:
    """Whether a picture is so long that a page shows it over its whole width."""
    return width > 2 * height


def place_captions(
    boxes: Sequence[tuple[float, float, float, float]],
    texts: Sequence[str],
    size: tuple[int, int],
) -> list[Caption]:
    """A place for the text of each box; earlier ones choose first.

    A text stands above its box, or else below it, or inside, wherever it covers no earlier text. Where each
    place is taken it stands above all the same.

    Args:
        boxes: x, y, width and height, pixels of the picture.
        texts: their texts; "" for none.
        size: (width, height) of the picture.
    """
    letter = SMALL_LETTER if is_long(*size) else LETTER
    taken: list[tuple[float, float, float, float]] = []
    found = []
    for (x, y, width, height), text in zip(boxes, texts, strict=True):
        length = _ADVANCE * letter * len(text)
        ends = max(x, 0.0) + _GAP + length > size[0]
        at = min(x + width, size[0]) - _GAP if ends else max(x, 0.0) + _GAP
        ends = ends and at > length
        at = at if ends or at + length <= size[0] else _GAP
        left = at - length if ends else at
        baselines = (y - _GAP, y + height + letter, y + letter, y + height - _GAP)
        inside = [one for one in baselines if letter <= one <= size[1] - _GAP] or [letter]
        places = [(left, one - letter, left + length, one + _GAP) for one in inside]
        free = next((n for n, place in enumerate(places) if not _covers(place, taken)), 0)
        if text:
            taken.append(places[free])
        found.append(Caption(at, inside[free], ends))
    return found


def _covers(
    place: tuple[float, float, float, float], others: Sequence[tuple[float, float, float, float]]
) -> bool:
    left, top, right, bottom = place
    return any(left < x2 and x1 < right and top < y2 and y1 < bottom for x1, y1, x2, y2 in others)
