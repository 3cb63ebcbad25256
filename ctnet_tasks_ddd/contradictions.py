"""Contradictory numbers in annotations."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from ctnet_tasks_ddd.camera import NEAR, box_corners, camera_of, project, wrap
from ctnet_tasks_ddd.fields import is_region

#: Tolerance between alpha and the value from rotation_y and location, rad: at most 0.112 in KITTI's labels.
ANGLE_TOLERANCE = 0.2
#: Tolerance between ``depth`` and the location's z, metres.
DEPTH_TOLERANCE = 0.05
#: Objects truncated at least this much may be projected outside their box.
MOST_TRUNCATED = 0.9


def contradictions(annotation: Mapping[str, Any], image: Mapping[str, Any]) -> list[str]:
    """Errors of a 3D annotation whose numbers are valid individually but contradict each other.

    Args:
        annotation: as in the COCO file, with usable ``bbox``, ``dim``, ``location`` and angles; of ignore
            regions only the box is used.
        image: its image's entry.
    """
    if is_region(annotation):
        return []
    try:
        camera = camera_of(image)
    except ValueError as error:
        return [f"its image's {error}"]
    if camera is None:
        return ["its image has no calib, the camera's 3x4 matrix"]
    if annotation["location"][2] <= 0:
        return [f"location is {annotation['location']!r}, behind the camera"]
    wild = [name for name in ("alpha", "rotation_y") if abs(annotation[name]) > 2 * math.pi]
    return [f"{name} is {annotation[name]!r}, not an angle in radians" for name in wild] or list(
        _between_numbers(annotation, camera)
    )


def _between_numbers(annotation: Mapping[str, Any], camera: np.ndarray) -> Iterator[str]:
    x, _, z = location = annotation["location"]
    if abs(annotation.get("depth", z) - z) > DEPTH_TOLERANCE:
        yield f"depth is {annotation['depth']:g}, but the location's z is {z:g}"
    expected = wrap(annotation["rotation_y"] - math.atan2(x, z))
    if abs(wrap(annotation["alpha"] - expected)) > ANGLE_TOLERANCE:
        yield f"alpha is {annotation['alpha']:g}, but rotation_y and location make it {expected:.2f}"
    body = (np.array([value], float) for value in (annotation["dim"], location, annotation["rotation_y"]))
    corners = box_corners(*body)[0]
    left, top, width, height = annotation["bbox"]
    if corners[:, 2].min() > NEAR and annotation.get("truncated", 0) < MOST_TRUNCATED:
        points = project(corners, camera)
        low, high = points.min(axis=0), points.max(axis=0)
        if (high < [left, top]).any() or (low > [left + width, top + height]).any():
            shown = ", ".join(f"{value:.0f}" for value in (*low, *high))
            yield f"its 3D box projects to {shown} (x1, y1, x2, y2), outside its box"
