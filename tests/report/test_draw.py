from __future__ import annotations

import cv2
import numpy as np
import pytest

from ctnet.core.records import Detections
from ctnet.report import draw
from ctnet.report.draw import (
    Colour,
    as_pixels,
    caption,
    class_colour,
    draw_detections,
    draw_dot,
    draw_lines,
    drawable,
    free_place,
    grid,
    side_by_side,
    without_captions,
)

NAMES = ["disc", "square"]


def plain(height: int, width: int, value: int = 90) -> np.ndarray:
    return np.full((height, width, 3), value, np.uint8)


@pytest.mark.parametrize("shape", [(48, 60), (128, 128), (480, 640), (1500, 2000)])
def test_boxes_show_and_the_input_stays(shape: tuple[int, int]) -> None:
    height, width = shape
    image = plain(height, width)
    boxes = np.array([[0.3 * width, 0.4 * height, 0.8 * width, 0.9 * height]])
    drawn = draw_detections(image, Detections(boxes, np.array([0.5]), np.array([1])), NAMES)
    assert drawn.shape == image.shape
    assert drawn.dtype == np.uint8
    assert (image == 90).all()
    line = drawn[round(0.9 * height) - 1, round(0.6 * width)]
    np.testing.assert_array_equal(line, class_colour(1))
    assert (drawn[round(0.8 * height), round(0.6 * width)] == 90).all()  # nothing inside the box


def test_without_boxes_it_is_a_copy() -> None:
    image = plain(40, 50)
    drawn = draw_detections(image, Detections.empty(), NAMES)
    np.testing.assert_array_equal(drawn, image)
    assert not np.shares_memory(drawn, image)


def test_captions_can_be_left_out() -> None:
    found = Detections(np.array([[20, 30, 50, 60]]), np.array([0.5]), np.array([1]))
    with without_captions():
        bare = draw_detections(plain(90, 90), found, NAMES)
    drawn = draw_detections(plain(90, 90), found, NAMES)
    assert (bare[:28] == 90).all(), "nothing above the box"
    assert (drawn[:28] != 90).any()
    np.testing.assert_array_equal(bare[30:62], drawn[30:62])


def test_a_mirrored_view_can_be_drawn_on() -> None:
    image = plain(40, 50)[:, ::-1]
    found = Detections(np.array([[5, 5, 30, 30]]), np.ones(1), np.array([0]))
    assert draw_detections(image, found, NAMES).shape == image.shape


@pytest.mark.parametrize(
    "box", [(-50, -50, 10, 10), (90, 70, 300, 300), (0, 0, 100, 80), (50, 79, 50, 79), (-9, 20, -3, 30)]
)
def test_captions_stay_inside_the_image(box: tuple[int, int, int, int]) -> None:
    canvas = plain(80, 100)
    x1, y1, x2, y2 = free_place(canvas, "square 50%", np.array(box), [])
    assert 0 <= x1 < x2 <= 100
    assert 0 <= y1 < y2 <= 80
    draw_detections(canvas, Detections(np.array([box]), np.array([0.5]), np.array([1])), NAMES)


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
        drawn = draw_detections(plain(100, 100), Detections(box, scores, np.array([0, 1])), NAMES)
        np.testing.assert_array_equal(drawn[69, 40], class_colour(top))


def test_another_outline_takes_the_place_of_boxes_and_another_order_that_of_scores() -> None:
    box, rows = np.array([[10, 30, 60, 70]] * 3), []

    def outline(canvas: np.ndarray, row: int, colour: Colour) -> None:
        rows.append(row)
        canvas[50, 35] = colour

    found = Detections(box, np.array([0.9, 0.5, 0.2]), np.array([0, 1, 0]))
    drawn = draw_detections(plain(100, 100), found, NAMES, outline, nearest_first=[1, 0, 2])
    assert rows == [2, 0, 1]
    np.testing.assert_array_equal(drawn[50, 35], class_colour(1))
    assert (drawn[69, 40] == 90).all()  # no box


def test_scores_are_not_written_on_annotations() -> None:
    boxes, labels = np.array([[10, 30, 40, 70], [60, 30, 90, 70]]), np.array([0, 1])
    truth = draw_detections(plain(100, 160), Detections(boxes, np.array([1.0, 1.0]), labels), NAMES)
    found = draw_detections(plain(100, 160), Detections(boxes, np.array([1.0, 0.99]), labels), NAMES)
    assert (truth != found).any()


def test_lines_have_a_rim_on_large_pictures_alone() -> None:
    for side, rimmed in ((100, False), (240, True)):
        canvas = plain(side, side)
        draw_lines(canvas, [np.array([[10.0, 50], [90, 50]])], (255, 255, 255))
        assert (canvas[50, 50] > 230).all()
        assert (canvas < 90).any() == rimmed


def test_dots_and_lines_far_outside_and_of_unknown_points_harm_nothing() -> None:
    canvas = plain(60, 80)
    wild = np.array([[1e12, -1e12], [np.nan, 5]])
    draw_dot(canvas, wild[0], 3, (255, 0, 0))
    draw_lines(canvas, [wild], (255, 0, 0))
    assert np.abs(as_pixels(wild, canvas)).max() == 320
    np.testing.assert_array_equal(as_pixels(np.array([1.26, 7.0]), canvas, 4), [20, 112])


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
    assert row.shape[1] == 3 * 80 + 4 * gap  # the narrow one is in a cell of the same width
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
