from __future__ import annotations

import base64

import cv2
import numpy as np

from ctnet.report.embedding import as_jpeg, fitting_scale, heat_picture, laid_over, overlay_of


def decoded(uri: str) -> np.ndarray:
    content = np.frombuffer(base64.b64decode(uri.partition(",")[2]), np.uint8)
    return cv2.imdecode(content, cv2.IMREAD_UNCHANGED)


def test_a_picture_keeps_its_colours() -> None:
    image = np.full((20, 30, 3), (200, 50, 10), np.uint8)
    back = decoded(as_jpeg(image))[:, :, ::-1]
    assert np.abs(back.astype(int) - image).max() < 6


def test_large_pictures_shrink_and_small_ones_grow() -> None:
    assert fitting_scale(4800, 100) == 0.1
    assert fitting_scale(240, 100) == 2.0
    assert fitting_scale(10, 10) == 3.0


def test_a_heatmap_is_transparent_where_nothing_is() -> None:
    heat = np.zeros((64, 64), np.float32)
    heat[32, 32] = 1
    picture = decoded(heat_picture(heat, (64, 64)))
    assert picture[0, 0].tolist() == [0, 0, 0, 0]
    assert picture[32, 32].tolist() == [0, 255, 255, 217], "blue, green, red, opacity: yellow"
    image = np.full((64, 64, 3), 40, np.uint8)
    over = laid_over(image, heat)
    assert (over[0, 0] == 40).all()
    assert over[32, 32].tolist() == [223, 223, 6]


def drawn_on(picture: np.ndarray) -> np.ndarray:
    """A picture with an opaque and a half transparent rectangle, as a task draws."""
    drawn = picture.copy()
    drawn[10:14, 20:30] = (255, 0, 7)
    drawn[14:16, 20:30] = np.round(0.6 * drawn[14:16, 20:30] + 0.4 * np.array([0, 100, 200]))
    return drawn


def test_an_overlay_is_what_was_drawn() -> None:
    black, white = (np.full((40, 50, 3), paper, np.uint8) for paper in (0, 255))
    uri, (x, y, width, height) = overlay_of(drawn_on(black), drawn_on(white))
    assert (x, y, width, height) == (20, 10, 10, 6)
    overlay = decoded(uri)
    assert (overlay[:4] == (7, 0, 255, 255)).all()
    np.testing.assert_allclose(overlay[4:], np.broadcast_to((200, 100, 0, 102), (2, 10, 4)), atol=2)
    assert overlay_of(black, white) is None


def test_an_overlay_on_a_picture_is_the_drawing_on_it() -> None:
    black, white = (np.full((40, 50, 3), paper, np.uint8) for paper in (0, 255))
    uri, (x, y, width, height) = overlay_of(drawn_on(black), drawn_on(white))
    picture = np.random.default_rng(0).integers(0, 256, (40, 50, 3)).astype(np.uint8)
    overlay = decoded(uri)[:, :, [2, 1, 0, 3]].astype(float)
    opacity = overlay[:, :, 3:] / 255
    part = np.s_[y : y + height, x : x + width]
    laid = picture.astype(float)
    laid[part] = (1 - opacity) * laid[part] + opacity * overlay[:, :, :3]
    assert np.abs(laid - drawn_on(picture)).max() <= 2
