"""Drawing on images. Functions return a new image unless they say that they change theirs."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

import cv2
import numpy as np

from ctnet.core.records import Detections

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_FONT_HEIGHT = 21.0  # pixels of a capital letter at scale 1
_GAP = 6
_PAPER = (250, 250, 250)
_INK = (30, 30, 30)

_RIM = (20, 20, 20)
_SHIFT = 4  # OpenCV's points in sixteenths of a pixel
_RIMMED = 200  # pixels: the rims of lines would fill smaller images

#: Where a caption goes: x1, y1, x2, y2 in pixels.
Place = tuple[int, int, int, int]

#: RGB, 0 to 255.
Colour = tuple[int, int, int]

#: Draws one object of ``draw_detections`` onto the canvas: takes the canvas, the object's row, its colour.
Outline = Callable[[np.ndarray, int, Colour], None]

_captioned: ContextVar[bool] = ContextVar("captioned", default=True)


@contextmanager
def without_captions() -> Iterator[None]:
    """``draw_detections`` writes no names and scores in here: for pages, which have their own."""
    before = _captioned.set(False)
    try:
        yield
    finally:
        _captioned.reset(before)


def draw_detections(
    image: np.ndarray,
    detections: Detections,
    class_names: Sequence[str],
    outline: Outline | None = None,
    nearest_first: Sequence[int] | None = None,
) -> np.ndarray:
    """Draw objects in the colours of their classes, with names and scores; the highest score is on top.

    Args:
        image: (H, W, 3) uint8, RGB.
        detections: the detections of this image, in its pixels; the score is written after the name as a
            percentage, unless all are 1, as for annotations.
        class_names: name of each label.
        outline: draws one object: takes the canvas, the object's row and its colour; by default draws its
            box.
        nearest_first: the rows in drawing order, topmost first; by default the highest score first.

    Returns:
        A new (H, W, 3) uint8 image.
    """
    canvas = np.array(image, order="C")
    scores, boxes = np.asarray(detections.scores), np.asarray(detections.boxes)
    order = np.argsort(-scores, kind="stable") if nearest_first is None else np.asarray(nearest_first)
    of_truth = bool((scores == 1).all())
    colours = [class_colour(int(label)) for label in detections.labels]
    texts: dict[int, str] = {}
    places: dict[int, Place] = {}
    for row in order.tolist() if _captioned.get() else ():
        score = None if of_truth else float(scores[row])
        texts[row] = caption(int(detections.labels[row]), class_names, score)
        places[row] = free_place(canvas, texts[row], boxes[row], list(places.values()))
    for row in order[::-1].tolist():
        if outline is None:
            draw_rectangle(canvas, boxes[row], colours[row])
        else:
            outline(canvas, row, colours[row])
    for row in reversed(texts):  # after all objects, so that no line crosses a name
        draw_caption(canvas, texts[row], places[row], colours[row])
    return canvas


def class_colour(label: int) -> Colour:
    """The RGB colour of a class: bright, constant, and distinct from those of neighbouring labels."""
    hue = (0.58 + label * (math.sqrt(5) - 1) / 2) % 1  # the golden ratio spaces any number of hues evenly
    value = (1.0, 0.85, 0.95)[label % 3]
    saturation = (0.75, 0.9, 0.55)[label // 3 % 3]
    hsv = np.array([[[hue * 360, saturation, value]]], np.float32)
    red, green, blue = (cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)[0, 0] * 255).round().astype(int).tolist()
    return red, green, blue


def caption(label: int, class_names: Sequence[str], score: float | None = None) -> str:
    """The caption of a box: the class in drawable letters, and the score in percent."""
    name = drawable(class_names[label]) or f"class {label}"
    return name if score is None else f"{name} {100 * score:.0f}%"


def drawable(text: str) -> str:
    """The text in ASCII, without accents; empty where too little of it would remain.

    OpenCV's fonts have no other letters and would print question marks.
    """
    plain = text.translate(_PLAIN)
    plain = unicodedata.normalize("NFKD", plain).encode("ascii", "ignore").decode().strip()
    letters = sum(not unicodedata.combining(character) for character in unicodedata.normalize("NFKC", text))
    return plain if 2 * len(plain) >= letters else ""


# Letters that are not accented forms and would be dropped.
_PLAIN = str.maketrans(
    {"ß": "ss", "æ": "ae", "Æ": "Ae", "œ": "oe", "Œ": "Oe", "ø": "o", "Ø": "O", "ł": "l", "Ł": "L"}
)


def line_width(image: np.ndarray) -> int:
    """Line width for the size of an image, pixels."""
    width: int = max(1, round(min(image.shape[:2]) / 240))
    return width


def font_scale(image: np.ndarray) -> float:
    """Font scale for the size of an image: small yet readable."""
    height = np.clip(min(image.shape[:2]) / 45, 7, 40)
    return float(height / _FONT_HEIGHT)


def draw_rectangle(canvas: np.ndarray, box: np.ndarray, colour: Colour) -> None:
    """Draw a box's outline onto the canvas, with a dark rim so that it shows on any background.

    Args:
        canvas: (H, W, 3) uint8; changed.
        box: (4,) xyxy, image pixels.
        colour: RGB.
    """
    height, width = canvas.shape[:2]
    thickness = line_width(canvas)
    x1, y1, x2, y2 = np.clip(np.round(box), 0, [width, height, width, height]).astype(int).tolist()
    corners = (x1, y1), (max(x2 - 1, x1), max(y2 - 1, y1))
    if min(height, width) >= _RIMMED:
        cv2.rectangle(canvas, *corners, _darker(colour), thickness + 2)
    cv2.rectangle(canvas, *corners, colour, thickness)


def draw_lines(canvas: np.ndarray, lines: Iterable[np.ndarray], colour: Colour) -> None:
    """Draw lines at sub-pixel precision, with a dark rim so that they show on any background.

    Args:
        canvas: (H, W, 3) uint8; changed.
        lines: (P, 2) each, points (x, y) in image pixels that are joined in order; P may differ.
        colour: RGB.
    """
    width = line_width(canvas)
    points = [as_pixels(line, canvas, _SHIFT) for line in lines]
    if min(canvas.shape[:2]) >= _RIMMED:
        cv2.polylines(canvas, points, False, _darker(colour), width + 2, cv2.LINE_AA, _SHIFT)
    cv2.polylines(canvas, points, False, colour, width, cv2.LINE_AA, _SHIFT)


def draw_dot(canvas: np.ndarray, point: np.ndarray, radius: int, colour: Colour) -> None:
    """Draw a disc with a dark rim.

    Args:
        canvas: (H, W, 3) uint8; changed.
        point: (2,), (x, y) in image pixels.
        radius: pixels, without the rim.
        colour: RGB.
    """
    centre = as_pixels(point, canvas).tolist()
    for size, ink in ((radius + 1, _RIM), (radius, colour)):
        cv2.circle(canvas, centre, size, ink, cv2.FILLED, cv2.LINE_AA)


def as_pixels(points: np.ndarray, image: np.ndarray, shift: int = 0) -> np.ndarray:
    """Points for OpenCV, clamped near the image so that an extreme prediction cannot overflow.

    Args:
        points: (..., 2), (x, y) in image pixels; NaN becomes 0.
        image: (H, W, 3).
        shift: fractional bits: 4 for sixteenths of a pixel.

    Returns:
        (..., 2) int32.
    """
    limit = 4 * max(image.shape)
    near = np.clip(np.nan_to_num(points), -limit, limit)
    return np.asarray(np.round(near * 2**shift), np.int32)


def _darker(colour: Colour) -> Colour:
    red, green, blue = (channel // 4 for channel in colour)
    return red, green, blue


def free_place(canvas: np.ndarray, text: str, box: np.ndarray, taken: Sequence[Place]) -> Place:
    """The place for a box's caption that overlaps other captions least: above the box, below it or inside.

    Args:
        canvas: (H, W, 3), the image to draw on; the place is inside it, if the image is large enough.
        text: the caption.
        box: (4,) xyxy, image pixels.
        taken: places of the other captions.
    """
    width, height = _caption_size(canvas, text)
    x1, y1, x2, y2 = np.round(box).astype(int).tolist()
    line = line_width(canvas)
    wanted = ((x1 - line, y1 - height), (x1 - line, y2), (x2 + line - width, y1 - height), (x1, y1))
    places = []
    for x, y in wanted:
        x = min(max(x, 0), max(canvas.shape[1] - width, 0))
        y = min(max(y, 0), max(canvas.shape[0] - height, 0))
        places.append((x, y, x + width, y + height))
    return min(places, key=lambda place: sum(_common_area(place, other) for other in taken))


def draw_caption(canvas: np.ndarray, text: str, place: Place, colour: Colour) -> None:
    """Write text on a coloured background.

    Args:
        canvas: (H, W, 3) uint8; changed.
        text: ASCII.
        place: from ``free_place``.
        colour: RGB of the background; the letters are black or white, whichever is readable.
    """
    x1, y1, x2, y2 = place
    cv2.rectangle(canvas, (x1, y1), (x2 - 1, y2 - 1), colour, cv2.FILLED)
    ink = (0, 0, 0) if np.dot(colour, (0.299, 0.587, 0.114)) > 128 else (255, 255, 255)
    scale = font_scale(canvas)
    pad = _caption_pad(canvas)
    baseline = y1 + pad + round(_FONT_HEIGHT * scale)
    cv2.putText(canvas, text, (x1 + pad, baseline), _FONT, scale, ink, _stroke(scale), cv2.LINE_AA)


def _caption_size(canvas: np.ndarray, text: str) -> tuple[int, int]:
    """Width and height of a caption's background, with a third of a letter's height for descenders."""
    scale, pad = font_scale(canvas), _caption_pad(canvas)
    width = cv2.getTextSize(text, _FONT, scale, _stroke(scale))[0][0]
    return width + 2 * pad, round(_FONT_HEIGHT * scale * 1.33) + 2 * pad


def _caption_pad(canvas: np.ndarray) -> int:
    return max(1, round(_FONT_HEIGHT * font_scale(canvas) * 0.2))


def _stroke(scale: float) -> int:
    """Thickness of letters, pixels."""
    return max(1, round(scale * 1.6))


def _common_area(first: Place, second: Place) -> int:
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    return max(width, 0) * max(height, 0)


def side_by_side(images: Sequence[np.ndarray], titles: Sequence[str]) -> np.ndarray:
    """Put images in a row, each under its title.

    Args:
        images: (H, W, 3) uint8 RGB each, of any size; resized to the height of the first.
        titles: one for each image.
    """
    height = images[0].shape[0]
    return grid(
        [_titled(_resized(image, height), title) for image, title in zip(images, titles, strict=True)]
    )


def grid(images: Sequence[np.ndarray], columns: int | None = None) -> np.ndarray:
    """A contact sheet: images in rows, each centred in a cell of the largest one's size.

    Args:
        images: (H, W, 3) uint8 RGB each, at least one.
        columns: images per row; all in one row when None.
    """
    columns = min(columns or len(images), len(images))
    rows = math.ceil(len(images) / columns)
    cell = np.max([image.shape[:2] for image in images], axis=0)
    height, width = np.array([rows, columns]) * (cell + _GAP) + _GAP
    sheet = np.full((height, width, 3), _PAPER, np.uint8)
    for number, image in enumerate(images):
        corner = np.array(divmod(number, columns)) * (cell + _GAP) + _GAP
        top, left = corner + (cell - image.shape[:2]) // 2
        sheet[top : top + image.shape[0], left : left + image.shape[1]] = image
    return sheet


def _resized(image: np.ndarray, height: int) -> np.ndarray:
    if image.shape[0] == height:
        return image
    width = max(1, round(image.shape[1] * height / image.shape[0]))
    shrink = height < image.shape[0]
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if shrink else cv2.INTER_LINEAR)


def _titled(image: np.ndarray, title: str) -> np.ndarray:
    """The image below a strip with its title, which shrinks to fit."""
    scale = font_scale(image)
    text = drawable(title)
    width = cv2.getTextSize(text, _FONT, scale, 1)[0][0]
    scale *= min(1.0, (image.shape[1] - 4) / max(width, 1))
    strip_height = round(_FONT_HEIGHT * font_scale(image) * 2.2)
    strip = np.full((strip_height, image.shape[1], 3), _PAPER, np.uint8)
    baseline = round((strip_height + _FONT_HEIGHT * scale) / 2)
    cv2.putText(strip, text, (2, baseline), _FONT, scale, _INK, _stroke(scale), cv2.LINE_AA)
    return np.concatenate([strip, image])
