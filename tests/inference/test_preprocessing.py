"""How images are fitted into the network's input; ``test_detector.py`` compares with released numbers."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from ctnet.core.records import ImageInfo
from ctnet.inference.preprocessing import Preprocessor


def white_square(width: int, height: int, x: int, y: int) -> np.ndarray:
    """A black image with a white square of 12 pixels around (x, y)."""
    image = np.zeros((height, width, 3), np.uint8)
    image[y - 6 : y + 6, x - 6 : x + 6] = 255
    return image


def info(image: np.ndarray) -> ImageInfo:
    return ImageInfo(1, "a.png", image.shape[1], image.shape[0])


@pytest.mark.parametrize(
    ("preprocess", "scale"),
    [
        (Preprocessor("fix", (64, 64), 32), 1.0),
        (Preprocessor("fix", (128, 64), 32), 0.5),
        (Preprocessor("fix", (96, 32), 32, "width"), 1.0),
        (Preprocessor("keep", (1, 1), 32), 1.0),
        (Preprocessor("keep", (1, 1), 128), 1.5),
    ],
)
@pytest.mark.parametrize("size", [(100, 60), (61, 90)])
def test_the_map_says_where_a_pixel_went(
    preprocess: Preprocessor, scale: float, size: tuple[int, int]
) -> None:
    width, height = size
    x, y = width // 2 + 7, height // 2 - 5
    image = white_square(width, height, x, y)
    prepared = preprocess(image, info(image), scale)
    rows, columns = np.nonzero(prepared.input[..., 0] > 127)
    [[there_x, there_y]] = prepared.affine.points(np.array([[x - 0.5, y - 0.5]]))
    assert [columns.mean(), rows.mean()] == pytest.approx([there_x, there_y], abs=1)
    affine, input_size = preprocess.geometry(width, height, scale)
    assert input_size == prepared.input.shape[1::-1]
    np.testing.assert_array_equal(affine.matrix, prepared.affine.matrix)


@pytest.mark.parametrize(
    ("divisor", "side", "padded"),
    [(32, 31, 32), (32, 32, 64), (32, 33, 64), (128, 127, 128), (128, 300, 384)],
)
def test_keep_pads_to_the_divisor_and_a_multiple_by_one_more(divisor: int, side: int, padded: int) -> None:
    """As released."""
    image = np.full((side, 40, 3), 200, np.uint8)
    prepared = Preprocessor("keep", (1, 1), divisor)(image, info(image))
    assert prepared.input.shape[0] == padded
    assert (prepared.input == 200).all(axis=2).sum() == side * 40  # neither resized nor cut


def test_scales_of_a_fixed_input_show_the_whole_image() -> None:
    image = np.full((60, 100, 3), 255, np.uint8)
    preprocess = Preprocessor("fix", (64, 64), 32)
    for scale, side in ((0.5, 32), (1.0, 64), (1.6, 96)):
        [prepared] = preprocess.views(image, info(image), [scale])
        assert prepared.input.shape == (side, side, 3)
        x, y = prepared.affine.points(np.array([[0, 0], [99, 59]])).T
        assert x.min() >= -0.5
        assert y.min() >= -0.5
        assert max(x.max(), y.max()) <= side


def test_it_travels_to_worker_processes() -> None:
    preprocess = Preprocessor("keep", (1, 1), 32)
    assert pickle.loads(pickle.dumps(preprocess)) == preprocess
