"""Numbers of an annotation that contradict each other."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from ctnet_tasks_ddd.camera import NEAR, box_corners, camera_of, project, wrap
from ctnet_tasks_ddd.fields import is_region

#: How far alpha may be from what rotation_y and location say, rad: in KITTI's own labels 0.112 at most.
ANGLE_TOLERANCE = 0.2
#: How far ``depth`` may be from the location's z, metres.
DEPTH_TOLERANCE = 0.05
#: An object that its annotation calls truncated so far may be projected beside its box.
MOST_TRUNCATED = 0.9


def contradictions(annotation: Mapping[str, Any], image: Mapping[str, Any]) -> list[str]:
    """What makes an annotation unusable as a 3D box though each of its numbers could be right.

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
            yield f"its body shows at {shown} (x1, y1, x2, y2), beside its box"
