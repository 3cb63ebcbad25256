"""Captions cover neither each other nor the edge of the picture."""

from __future__ import annotations

import numpy as np
import pytest

from ctnet.report.captions import LETTER, SMALL_LETTER, Caption, is_long, place_captions
from ctnet.report.page import PAGE_FILES

SIZE = (384, 384)
Box = tuple[float, float, float, float]


def covered(caption: Caption, text: str) -> Box:
    """The rectangle of a text, letters as narrow as they may be."""
    length = 0.6 * LETTER * len(text)
    left = caption.x - length if caption.ends else caption.x
    return left, caption.y - LETTER, left + length, caption.y


def overlap(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def test_a_caption_stands_above_its_box() -> None:
    (one,) = place_captions([(100, 100, 50, 50)], ["ring"], SIZE)
    assert (one.x, one.y, one.ends) == (104, 96, False)


def test_captions_of_one_place_are_apart() -> None:
    texts = ["ring 0.42", "ball 0.40", "cross 0.31", "square 0.30"]
    found = place_captions([(150, 150, 60, 60)] * 4, texts, SIZE)
    places = [covered(one, text) for one, text in zip(found, texts, strict=True)]
    assert not any(overlap(a, b) for n, a in enumerate(places) for b in places[:n])
    assert found[0] == place_captions([(150, 150, 60, 60)], texts[:1], SIZE)[0], "the best score stays"


@pytest.mark.parametrize("seed", range(4))
def test_captions_stay_on_the_picture(seed: int) -> None:
    rng = np.random.default_rng(seed)
    boxes = [(*rng.uniform(-40, 380, 2), *rng.uniform(5, 300, 2)) for _ in range(30)]
    for one in place_captions(boxes, ["triangle 0.31"] * 30, SIZE):
        left, top, right, bottom = covered(one, "triangle 0.31")
        assert left >= -1
        assert top >= -1
        assert right <= SIZE[0] + 1
        assert bottom <= SIZE[1] + 1


def test_a_text_longer_than_the_picture_begins_at_its_left() -> None:
    (one,) = place_captions([(200, 100, 50, 50)], ["x" * 80], SIZE)
    assert (one.x, one.ends) == (4, False)


def test_letters_are_those_of_the_style_sheet() -> None:
    style = (PAGE_FILES / "report.css").read_text("utf-8")
    assert f".caption {{ font-size: {LETTER}px;" in style
    assert f".long .caption {{ font-size: {SMALL_LETTER}px;" in style
    assert is_long(480, 160)
    assert not is_long(480, 300)
