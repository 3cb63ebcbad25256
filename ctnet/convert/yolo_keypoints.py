"""The keypoints of YOLO labels: their description in data.yaml, and their part of a label line."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ctnet.base.errors import CtnetError
from ctnet.base.numbers import LARGEST_COORDINATE
from ctnet.base.schema import check_json, shorten
from ctnet.convert.coco import plain
from ctnet.convert.data_yaml import DataYaml
from ctnet.convert.report import BadRecord
from ctnet.data.joints import left_right_pairs

UNLABELLED, SEEN = 0, 2
_MOST_JOINTS = 10_000
_PIXEL_DIGITS = 3
_ROUNDING = 1e-5  # labels are often printed with six digits


@dataclass(frozen=True)
class YoloKeypoints:
    """The keypoints of every object of a YOLO data set.

    Attributes:
        names: the names of the keypoints of each class.
        dimensions: numbers per keypoint: 3 (x, y, visibility), or 2, where a missing point is 0, 0.
        invented: True where the data set does not name its keypoints.
    """

    names: Sequence[Sequence[str]]
    dimensions: int
    invented: bool = False

    @property
    def numbers(self) -> int:
        """How many numbers follow the box in a label line."""
        return len(self.names[0]) * self.dimensions

    @classmethod
    def described(cls, description: DataYaml | None, classes: int) -> YoloKeypoints | None:
        """The keypoints of ``kpt_shape``, ``kpt_names`` and ``flip_idx`` in a data.yaml; None without any.

        Keypoints without names are called joint_1, ...; where ``flip_idx`` makes two of them a pair,
        left_joint_2 and right_joint_2 (it is not known which one is left).

        Raises:
            CtnetError: when these contradict each other.
        """
        if description is None or "kpt_shape" not in description:
            return None
        count, dimensions = _shape(description)
        names = description.lists("kpt_names")
        if not names:
            return cls(
                [_invented_names(count, _flip(description, count))] * classes, dimensions, invented=True
            )
        if len(names) != classes or any(len(each) != count or len(set(each)) < count for each in names):
            raise CtnetError(
                f"kpt_names in {description.where} must give {count} distinct names (kpt_shape) for each of "
                f"the {classes} classes"
            )
        return cls(names, dimensions)

    def read(self, fields: Sequence[str], width: int, height: int) -> dict[str, Any]:
        """Fields of a label line, after the box, as COCO's ``keypoints`` and ``num_keypoints``.

        Raises:
            BadRecord: when they cannot be used.
        """
        values: list[float] = []
        for start in range(0, len(fields), self.dimensions):
            values += _point(fields[start : start + self.dimensions], width, height)
        return {"keypoints": values, "num_keypoints": sum(v > UNLABELLED for v in values[2::3])}


def keypoint_error(values: Any, count: int) -> str | None:
    """What makes COCO's keypoints of one object unusable; None where they are x, y, visibility of each."""
    if not isinstance(values, list) or len(values) != 3 * count:
        return "wrong number of keypoints"
    if not all(type(value) in (int, float) and abs(value) <= LARGEST_COORDINATE for value in values):
        return "keypoint that is not a number"
    return None if set(values[2::3]) <= {0, 1, 2} else "visibility that is not 0, 1 or 2"


def label_text(keypoints: Sequence[float], width: int, height: int) -> tuple[str, int]:
    """COCO's keypoints of one object as the end of a YOLO label line, and the number of points left out.

    Readers refuse points outside the image, so these are written as unlabelled.
    """
    words, outside = [], 0
    for x, y, visibility in zip(keypoints[::3], keypoints[1::3], keypoints[2::3], strict=True):
        inside = 0 <= x <= width and 0 <= y <= height
        outside += bool(visibility) and not inside
        words.append(
            f"{x / width:.8f} {y / height:.8f} {int(visibility)}" if visibility and inside else "0 0 0"
        )
    return " ".join(words), outside


def description_entries(names: Sequence[str], classes: int) -> dict[str, Any]:
    """The entries of a data.yaml that describe the keypoints, which all classes share.

    Args:
        names: the names of the keypoints; left and right in them define the pairs that a mirror swaps.
        classes: number of classes.
    """
    flip = list(range(len(names)))
    for left, right in left_right_pairs(names):
        flip[left], flip[right] = right, left
    kpt_names = {number: list(names) for number in range(classes)}
    return {"kpt_shape": [len(names), 3], "flip_idx": flip, "kpt_names": kpt_names}


def shared_names(categories: Sequence[Mapping[str, Any]], source: object) -> list[str]:
    """The keypoint names shared by all categories of a COCO file; empty where there are none.

    Raises:
        CtnetError: when the categories differ.
    """
    for category in categories:
        where = f"keypoints of category {shorten(category['name'])} in {source}"
        check_json(list[str] | None, category.get("keypoints"), where, "write a list of names there")
    first = list(categories[0].get("keypoints") or ())
    if len(set(first)) < len(first):
        raise CtnetError(
            f"{source}: two keypoints of category {categories[0]['name']!r} have one name; rename one of them"
        )
    for category in categories:
        if list(category.get("keypoints") or ()) != first:
            raise CtnetError(
                f"{source}: {categories[0]['name']!r} and {category['name']!r} differ in their keypoints; a "
                "YOLO data set has one list for all classes: export them separately"
            )
    return first


def _shape(description: DataYaml) -> tuple[int, int]:
    numbers = description.numbers("kpt_shape")
    if len(numbers) != 2 or not 1 <= numbers[0] <= _MOST_JOINTS or numbers[1] not in (2, 3):
        raise CtnetError(
            f"kpt_shape in {description.where} is {numbers}; it must be [number of keypoints, 2 or 3]"
        )
    return numbers[0], numbers[1]


def _flip(description: DataYaml, count: int) -> list[int]:
    """The mirror image of each keypoint; the identity where the file has none."""
    numbers = description.numbers("flip_idx") or list(range(count))
    if sorted(numbers) != list(range(count)) or [numbers[number] for number in numbers] != list(range(count)):
        raise CtnetError(
            f"flip_idx in {description.where} must list the mirror image of each of the {count} keypoints"
        )
    return numbers


def _invented_names(count: int, flip: Sequence[int]) -> list[str]:
    names = [f"joint_{number}" for number in range(1, count + 1)]
    for one, other in enumerate(flip):
        if one < other:  # a pair is recognised by its names, so both have one number
            names[one], names[other] = f"left_joint_{one + 1}", f"right_joint_{one + 1}"
    return names


def _point(fields: Sequence[str], width: int, height: int) -> list[float]:
    """x, y in pixels and COCO's visibility; 0, 0, 0 for an unlabelled point."""
    x, y, *rest = (_number(text) for text in fields)
    if rest and rest[0] not in (0, 1, 2):
        raise BadRecord("visibility that is not 0, 1 or 2", fields[2])
    visibility = int(rest[0]) if rest else SEEN if (x, y) != (0, 0) else UNLABELLED
    if not visibility:
        return [0, 0, UNLABELLED]
    if not (-_ROUNDING <= x <= 1 + _ROUNDING and -_ROUNDING <= y <= 1 + _ROUNDING):
        raise BadRecord("keypoint beyond 0 to 1", f"{fields[0]} {fields[1]}")
    return [plain(round(x * width, _PIXEL_DIGITS)), plain(round(y * height, _PIXEL_DIGITS)), visibility]


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise BadRecord("coordinate that is not a number", repr(text))
    return value
