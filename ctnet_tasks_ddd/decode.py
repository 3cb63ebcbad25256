"""From maps to objects in the image, and on to 3D."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from ctnet.plugin import Detections, find_peaks, gather, locate
from ctnet_tasks_ddd.camera import box_corners, project, rotation_of, unproject
from ctnet_tasks_ddd.heads import angle_of


def decode_objects(maps: Mapping[str, Tensor], k: int) -> Detections:
    """Activated maps -> k objects per image on the output grid, best first.

    Args:
        maps: by head, see ``Boxes3d``; without ``offset`` the middle of the cell is used. A ``size`` of 4
            channels holds the distances of the box's sides from the centre, one of 2 channels its width and
            height.
        k: objects per image.

    Returns:
        Detections with ``centre`` (B, k, 2), ``alpha``, ``depth`` (B, k) and ``dimensions`` (B, k, 3).
    """
    peaks = find_peaks(maps["heatmap"], k)
    centre = locate(peaks, maps.get("offset"))
    size = gather(maps["size"], peaks)
    before, behind = (size / 2, size / 2) if size.shape[2] == 2 else (size[..., :2], size[..., 2:])
    extra = {
        "centre": centre,
        "alpha": angle_of(gather(maps["rotation"], peaks)),
        "depth": gather(maps["depth"], peaks).squeeze(2),
        "dimensions": gather(maps["dimensions"], peaks),
        "cells": peaks.cells,
    }
    return Detections(torch.cat([centre - before, centre + behind], dim=2), peaks.score, peaks.channel, extra)


def lift_detections(detections: Detections, camera: np.ndarray, stretch: float) -> Detections:
    """Objects of one image with their positions in 3D.

    Args:
        detections: from ``decode_objects``, in image pixels.
        camera: (3, 4), of the image.
        stretch: factor of depths: the focal length relative to that of the training.

    Returns:
        ``centre`` is replaced by ``location`` (N, 3) m, the bottom centre, ``rotation_y`` (N,) rad and
        ``corners`` (N, 8, 2), image pixels; ``depth`` is the location's z.

    Source: section 4.1; the released code's post-processing.
    """
    columns = {name: np.asarray(column, np.float64) for name, column in detections.extra.items()}
    centre, dimensions = columns.pop("centre"), columns["dimensions"]
    location = unproject(centre, columns["depth"] * stretch, camera)
    location[:, 1] += dimensions[:, 0] / 2
    rotation_y = rotation_of(columns["alpha"], centre[:, 0], camera)
    corners = project(box_corners(dimensions, location, rotation_y), camera)
    columns |= {
        "depth": location[:, 2], "location": location, "rotation_y": rotation_y, "corners": corners
    }  # fmt: skip
    extra = {name: column.astype(np.float32) for name, column in columns.items()}
    return Detections(detections.boxes, detections.scores, detections.labels, extra)
