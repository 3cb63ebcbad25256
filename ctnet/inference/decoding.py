"""From activated maps to detections in image pixels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ctnet.core.geometry import Affine, move
from ctnet.core.records import Detections
from ctnet.core.task import Task
from ctnet.inference.preprocessing import Placement
from ctnet.inference.timing import StageTimes


@torch.inference_mode()
def decode(
    task: Task,
    maps: Mapping[str, Tensor],
    placements: Sequence[Placement],
    topk: int,
    stride: int = 4,
    times: StageTimes | None = None,
) -> list[Detections]:
    """Read detections off maps, wherever the maps come from: a network, a file, rendered ground truth.

    Args:
        task: knows how.
        maps: activated, (B, C, H, W) by head.
        placements: where each of the B images lies in the input.
        topk: detections per image.
        stride: input pixels per output cell.
        times: takes in how long the stages take.

    Returns:
        One record per image, best first, in pixels of that image, lifted.
    """
    times = StageTimes() if times is None else times
    with times.stage("decode"):
        found = task.decode(maps, topk).per_image()
    with times.stage("post"):
        results = []
        for placement, detections in zip(placements, found, strict=True):
            to_grid = Affine.scaling(1 / stride).after(placement.affine)
            detections = move(detections, to_grid.inverse(), task.point_fields)
            results.append(task.lift(detections, placement.info))
        return results
