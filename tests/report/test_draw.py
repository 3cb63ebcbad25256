from __future__ import annotations

import cv2
import numpy as np
import pytest

from ctnet.report import draw
from ctnet.report.draw import caption, class_colour, draw_boxes, drawable, free_place, grid, side_by_side

NAMES = ["disc", "square"]


def plain(height: int, width: int, value: int = 90) -> np.ndarray:
    return np.full((height, width, 3), value, np.uint8)


@pytest.mark.parametrize("shape", [(48, 60), (128, 128), (480, 640), (1500, 2000)])
def test_boxes_show_and_the_input_stays(shape: tuple[int, int]) -> None:
    height, width = shape
    image = plain(height, width)
    boxes = np.array([[0.3 * width, 0.4 * height, 0.8 * width, 0.9 * height]])
    drawn = draw_boxes(image, boxes, np.array([1]), np.array([0.5]), NAMES)
    assert drawn.shape == image.shape
    assert drawn.dtype == np.uint8
    assert (image == 90).all()
    line = drawn[round(0.9 * height) - 1, round(0.6 * width)]
    np.testing.assert_array_equal(line, class_colour(1))
    assert (drawn[round(0.8 * height), round(0.6 * width)] == 90).all()  # nothing inside the box


def test_without_boxes_it_is_a_copy() -> None:
    image = plain(40, 50)
    drawn = draw_boxes(image, np.zeros((0, 4)), np.zeros(0, int), np.zeros(0), NAMES)
    np.testing.assert_array_equal(drawn, image)
    assert not np.shares_memory(drawn, image)


def test_a_mirrored_view_can_be_drawn_on() -> None:
    image = plain(40, 50)[:, ::-1]
    assert draw_boxes(image, np.array([[5, 5, 30, 30]]), np.array([0]), None, NAMES).shape == image.shape


@pytest.mark.parametrize(
    "box", [(-50, -50, 10, 10), (90, 70, 300, 300), (0, 0, 100, 80), (50, 79, 50, 79), (-9, 20, -3, 30)]
)
def test_captions_stay_inside_the_image(box: tuple[int, int, int, int]) -> None:
    canvas = plain(80, 100)
    x1, y1, x2, y2 = free_place(canvas, "square 50%", np.array(box), [])
    assert 0 <= x1 < x2 <= 100
    assert 0 <= y1 < y2 <= 80
    draw_boxes(canvas, np.array([box]), np.array([1]), np.array([0.5]), NAMES)


def test_captions_of_one_place_make_room_for_each_other() -> None:
    canvas = plain(300, 300)
    box = np.array([100, 100, 200, 200])
    places: list[draw.Place] = []
    for _ in range(3):
        places.append(free_place(canvas, "disc", box, places))
    assert sum(draw._common_area(a, b) for a in places for b in places if a is not b) == 0


def test_the_best_score_is_on_top() -> None:
    box = np.array([[10, 30, 60, 70]] * 2)
    for scores, top in ((np.array([0.2, 0.9]), 1), (np.array([0.9, 0.2]), 0)):
        drawn = draw_boxes(plain(100, 100), box, np.array([0, 1]), scores, NAMES)
        np.testing.assert_array_equal(drawn[69, 40], class_colour(top))


def test_colours_are_fixed_and_differ() -> None:
    assert class_colour(0) == pytest.approx((64, 163, 255), abs=2)
    colours = np.array([class_colour(label) for label in range(12)])
    distance = np.abs(colours[:, None] - colours).sum(2) + 999 * np.eye(12, dtype=int)
    assert distance.min() > 60


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cat", "cat"),
        ("Möbel", "Mobel"),
        ("Straße", "Strasse"),
        ("żółw", "zolw"),
        ("犬", ""),
        ("собака 2", ""),
    ],
)
def test_names_are_written_in_ascii(text: str, expected: str) -> None:
    assert drawable(text) == expected


def test_captions() -> None:
    assert caption(1, ["a", "déjà vu"], 0.876) == "deja vu 88%"
    assert caption(1, ["a", "犬"]) == "class 1"


def test_grid_places_images_row_by_row() -> None:
    images = [plain(20, 30, value) for value in (0, 50, 100)]
    sheet = grid(images, 2)
    gap = draw._GAP
    assert sheet.shape == (2 * 20 + 3 * gap, 2 * 30 + 3 * gap, 3)
    assert (sheet[gap : gap + 20, gap : gap + 30] == 0).all()
    assert (sheet[gap : gap + 20, 2 * gap + 30 : 2 * gap + 60] == 50).all()
    assert (sheet[2 * gap + 20 : 2 * gap + 40, gap : gap + 30] == 100).all()
    assert (sheet[-gap - 20 :, -gap - 30 :] == 250).all()


def test_side_by_side_makes_heights_equal_and_titles_fit() -> None:
    images = [plain(60, 80), plain(30, 20), plain(120, 160)]
    row = side_by_side(images, ["what was found by the model", "", "truth"])
    gap = draw._GAP
    assert row.shape[1] == 3 * 80 + 4 * gap  # the narrow one sits in a cell of the same width
    assert row.shape[0] > 60 + 2 * gap
    strip = row[: row.shape[0] - 60 - gap, gap : gap + 80]
    assert (strip < 128).any()  # the title
    assert (row[:, :gap] == 250).all()


def test_lines_and_letters_grow_with_the_image() -> None:
    widths = [draw.line_width(plain(size, size)) for size in (64, 480, 2000)]
    scales = [draw.font_scale(plain(size, size)) for size in (64, 480, 2000)]
    assert widths == sorted(set(widths))
    assert scales == sorted(set(scales))
    assert cv2.getTextSize("x", draw._FONT, scales[0], 1)[0][1] >= 3
