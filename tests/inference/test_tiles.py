import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctnet.base.errors import CtnetError
from ctnet.core.records import ImageInfo
from ctnet.inference.preprocessing import Preprocessor
from ctnet.inference.tiles import Span, Tile, Tiling, tiling_of

DIVISOR = 32


@given(st.integers(1, 40), st.integers(1, 12), st.integers(0, 5))
def test_the_own_parts_cover_the_canvas_once(length: int, side: int, halo: int) -> None:
    side = DIVISOR * max(side, 2 * halo + 1)
    spans = Tiling(side, DIVISOR * halo).spans(DIVISOR * length)
    assert [span.first for span in spans] == [0, *(span.last for span in spans[:-1])]
    assert spans[-1].last == DIVISOR * length
    for span in spans:
        assert span.start % DIVISOR == span.first % DIVISOR == span.last % DIVISOR == 0
        assert span.first < span.last
        assert span.stop - span.start == min(side, DIVISOR * length)
        # Beyond its part it shows the whole halo, or the canvas ends.
        assert span.first - span.start >= DIVISOR * halo or span.start == span.first == 0
        assert span.stop - span.last >= DIVISOR * halo or span.stop == span.last == DIVISOR * length


def test_a_tiling_in_numbers() -> None:
    assert Tiling(128, 32).spans(256) == [
        Span(0, 128, 0, 96),
        Span(64, 192, 96, 160),
        Span(128, 256, 160, 256),
    ]
    assert len(Tiling(128, 32).tiles(256, 128)) == 3


@given(st.integers(1, 150), st.integers(1, 150), st.sampled_from([0.5, 1.0, 1.4]), st.integers(0, 4))
def test_tiles_are_cut_out_of_the_padded_image(width: int, height: int, scale: float, seed: int) -> None:
    image = np.random.default_rng(seed).integers(1, 256, (height, width, 3), np.uint8)
    info = ImageInfo(0, "", width, height)
    preprocess = Preprocessor("keep", (64, 64), DIVISOR)
    whole = preprocess(image, info, scale)
    canvas = preprocess.canvas(image, info, scale)
    assert np.array_equal(canvas.affine.matrix, whole.affine.matrix)
    assert canvas.size == whole.input.shape[1::-1]
    for tile in Tiling(64, 0).tiles(*canvas.size):
        rows, columns = slice(tile.y.start, tile.y.stop), slice(tile.x.start, tile.x.stop)
        assert np.array_equal(canvas.cut(tile), whole.input[rows, columns])


def test_a_tile_beside_the_image_is_black() -> None:
    image = np.full((10, 10, 3), 200, np.uint8)
    canvas = Preprocessor("keep", (64, 64), DIVISOR).canvas(image, ImageInfo(0, "", 10, 10))
    beside = Span(320, 384, 320, 384)
    assert not canvas.cut(Tile(beside, beside)).any()


@pytest.mark.parametrize(
    ("side", "overlap", "message"),
    [
        (1000, 128, "--tiles 1000 does not fit net: sides are multiples of 32; the next is 1024"),
        (0, 128, "--tiles 0 does not fit net: sides are multiples of 32; the next is 32"),
        (1024, 100, "--overlap 100 does not fit net: overlaps are multiples of 64; the next is 128"),
        (1024, -64, "--overlap -64 does not fit net: overlaps are multiples of 64; the next is 0"),
        (128, 128, "have no part of their own; use --tiles 160 or more, or a smaller --overlap"),
    ],
)
def test_numbers_that_do_not_fit_are_refused(side: int, overlap: int, message: str) -> None:
    with pytest.raises(CtnetError, match=message):
        tiling_of(side, overlap, DIVISOR, "net")
    assert tiling_of(1024, 128, DIVISOR, "net") == Tiling(1024, 64)
