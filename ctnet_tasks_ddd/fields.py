"""Objects in COCO JSON, and as the columns of KITTI's files.

An annotation of the converted data has, besides COCO's own keys, ``type`` (KITTI's class name), ``line`` (in
the label file, from 1), ``truncated`` (fraction outside the image), ``occluded`` (0 to 3), ``alpha``, ``dim``
[height, width, length], ``location`` [x, y, z] of the bottom centre, ``depth`` (z) and ``rotation_y``; metres
and radians, the camera's frame.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from ctnet_tasks_ddd.objects import NO_ALPHA, NO_LOCATION, KittiObjects

CATEGORIES = ("Pedestrian", "Car", "Cyclist")
"""The categories of the converted data; ids start at 1."""

IGNORED = {"Van": "Car", "Truck": "Car", "Person_sitting": "Pedestrian"}
"""Classes that are not a category but so similar to one that its detections are not penalised in training."""

DONT_CARE = "DontCare"

Entry = Mapping[str, Any]


def entry_of_fields(fields: Sequence[str], line: int) -> dict[str, Any]:
    """The columns of a label line as an entry: of COCO's own keys only ``bbox`` and ``area``.

    Args:
        fields: the 15 columns, checked.
        line: its number in the file.
    """
    left, top, right, bottom = map(Decimal, fields[4:8])
    # Decimal arithmetic keeps the file's digits in the sides.
    box = [float(value) for value in (left, top, right - left, bottom - top)]
    entry: dict[str, Any] = {"type": fields[0], "line": line, "bbox": box, "area": round(box[2] * box[3], 3)}
    if fields[0].lower() == DONT_CARE.lower():
        return entry
    numbers = [float(field) for field in fields[1:]]
    return entry | {
        "truncated": numbers[0],
        "occluded": int(numbers[1]),
        "alpha": numbers[2],
        "dim": numbers[7:10],
        "location": numbers[10:13],
        "depth": numbers[12],
        "rotation_y": numbers[13],
    }


def values_of_entry(entry: Entry) -> list[float]:
    """The 14 columns of an entry after the class; missing values are KITTI's placeholders."""
    x, y, width, height = (Decimal(repr(float(value))) for value in entry["bbox"])
    return [
        entry.get("truncated", -1.0),
        entry.get("occluded", -1.0),
        entry.get("alpha", NO_ALPHA),
        *(float(value) for value in (x, y, x + width, y + height)),
        *entry.get("dim", [-1.0] * 3),
        *entry.get("location", [NO_LOCATION] * 3),
        entry.get("rotation_y", NO_ALPHA),
    ]


def is_region(entry: Entry) -> bool:
    """Whether an annotation is an ignore region: detections there are neither right nor wrong."""
    return bool(entry.get("iscrowd") or entry.get("ignore"))


def frame_name(image: Entry) -> str:
    """The frame of an image: its file name without folder and suffix."""
    return PurePosixPath(image["file_name"].replace("\\", "/")).stem  # also of Windows' names


def entries_by_image(content: Entry) -> dict[int, list[Entry]]:
    """Image id -> distinct entries in the order of the label file, including those without category.

    Args:
        content: content of a COCO file.
    """
    found: dict[int, list[Entry]] = {
        image["id"]: list(image.get("others", ())) for image in content["images"]
    }
    names = {category["id"]: category["name"] for category in content["categories"]}
    seen = set()
    for annotation in content["annotations"]:
        place = (annotation["image_id"], annotation.get("line"))
        if place[1] is None or place not in seen:  # a DontCare region has an annotation for every category
            seen.add(place)
            found[annotation["image_id"]].append({"type": names[annotation["category_id"]], **annotation})
    for entries in found.values():
        entries.sort(key=lambda entry: entry.get("line", 0))
    return found


def labels_of(content: Entry) -> KittiObjects:
    """The labels of a COCO file, for ``kitti_eval.evaluate_objects``; frames in the order of the images.

    Args:
        content: content of the file.
    """
    by_image = entries_by_image(content)
    names = [frame_name(image) for image in content["images"]]
    frames = [by_image[image["id"]] for image in content["images"]]
    types = [[entry["type"] for entry in entries] for entries in frames]
    values = [np.array([values_of_entry(entry) for entry in entries]).reshape(-1, 14) for entries in frames]
    return KittiObjects.of_frames(names, types, values)
