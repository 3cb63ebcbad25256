"""What makes an annotation unusable as a 3D box."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
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


def faults_of(annotation: Mapping[str, Any], image: Mapping[str, Any]) -> list[str]:
    """A short phrase for each fault; none for ignore regions, of which only the box is used.

    Args:
        annotation: as in the COCO file, with a usable ``bbox``.
        image: its image's entry.
    """
    if is_region(annotation):
        return []
    faults = _faults_of_numbers(annotation)
    try:
        camera = camera_of(image)
    except ValueError as error:
        return [*faults, f"its image's {error}"]
    if camera is None:
        return [*faults, "its image has no calib, the camera's 3x4 matrix"]
    return faults or _contradictions(annotation, camera)


def _faults_of_numbers(annotation: Mapping[str, Any]) -> list[str]:
    faults = []
    dimensions, location = annotation.get("dim"), annotation.get("location")
    if not _are_finite(dimensions, 3):
        faults.append(f"dim is {dimensions!r}, not three finite numbers (height, width, length)")
    elif min(dimensions) <= 0:  # type: ignore[arg-type]
        faults.append(f"dim is {dimensions!r}, which are not all positive")
    if not _are_finite(location, 3):
        faults.append(f"location is {location!r}, not three finite numbers (x, y, z)")
    elif location[2] <= 0:  # type: ignore[index]
        faults.append(f"location is {location!r}, behind the camera")
    for name in ("alpha", "rotation_y"):
        value = annotation.get(name)
        if not _are_finite([value], 1):
            faults.append(f"{name} is {value!r}, no finite number")
        elif abs(value) > 2 * math.pi:  # type: ignore[arg-type]
            faults.append(f"{name} is {value!r}, no angle in radians")
    if "depth" in annotation and not _are_finite([annotation["depth"]], 1):
        faults.append(f"depth is {annotation['depth']!r}, no finite number")
    return faults


def _contradictions(annotation: Mapping[str, Any], camera: np.ndarray) -> list[str]:
    """Between numbers each of which could be right."""
    faults = []
    x, _, z = location = annotation["location"]
    if abs(annotation.get("depth", z) - z) > DEPTH_TOLERANCE:
        faults.append(f"depth is {annotation['depth']:g}, but the location's z is {z:g}")
    expected = wrap(annotation["rotation_y"] - math.atan2(x, z))
    if abs(wrap(annotation["alpha"] - expected)) > ANGLE_TOLERANCE:
        faults.append(f"alpha is {annotation['alpha']:g}, but rotation_y and location make it {expected:.2f}")
    body = (np.array([value], float) for value in (annotation["dim"], location, annotation["rotation_y"]))
    corners = box_corners(*body)[0]
    left, top, width, height = annotation["bbox"]
    if corners[:, 2].min() > NEAR and annotation.get("truncated", 0) < MOST_TRUNCATED:
        points = project(corners, camera)
        low, high = points.min(axis=0), points.max(axis=0)
        if (high < [left, top]).any() or (low > [left + width, top + height]).any():
            shown = ", ".join(f"{value:.0f}" for value in (*low, *high))
            faults.append(f"its body shows at {shown} (x1, y1, x2, y2), beside its box")
    return faults


def _are_finite(values: Any, count: int) -> bool:
    return (
        isinstance(values, Sequence)
        and len(values) == count
        and all(isinstance(v, (int, float)) and not isinstance(v, bool) and math.isfinite(v) for v in values)
    )
