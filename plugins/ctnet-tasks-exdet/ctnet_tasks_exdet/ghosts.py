"""Ghost boxes: groups of points of several objects in a row, around the middle one's centre."""

from __future__ import annotations

import torch
from torch import Tensor

from ctnet.plugin import Detections

#: A box is a ghost if the boxes inside it have this many times its score in total.
_TIMES = 3.0
#: Minimum IoU of boxes of one object, of which only the best is counted.
_SAME = 0.5


def suppress_ghosts(found: Detections) -> Detections:
    """Halve the score of every box that encloses boxes of its class with three times its score in total.

    Args:
        found: detections of a batch, on the output grid, best first.

    Returns:
        The same rows with the new scores, best first again.

    Source: ExtremeNet, section 4.3. There it follows suppression; here, before it, a box that overlaps a
    better one of its class by an IoU of 0.5 or more is not counted, so that no object is counted twice.
    """
    boxes, scores, labels = found.boxes, found.scores, found.labels
    same = labels.unsqueeze(2) == labels.unsqueeze(1)
    count = scores.shape[1]
    rank = torch.arange(count, device=scores.device)
    others = same & (rank.unsqueeze(1) != rank)
    # (B, i, j): j is better than i, and the same object.
    repeats = others & (rank < rank.unsqueeze(1)) & (_overlaps(boxes) >= _SAME)
    counts = torch.where(repeats.any(dim=2), 0.0, scores)
    outer, inner = boxes.unsqueeze(2), boxes.unsqueeze(1)
    inside = (inner[..., :2] >= outer[..., :2]).all(3) & (inner[..., 2:] <= outer[..., 2:]).all(3) & others
    enclosed = (inside * counts.unsqueeze(1)).sum(dim=2)
    scores, order = torch.where(enclosed > _TIMES * scores, scores / 2, scores).sort(1, descending=True)
    columns = {name: _in_order(column, order) for name, column in found.fields().items()}
    return found.replace(**{**columns, "scores": scores})


def _overlaps(boxes: Tensor) -> Tensor:
    """(B, K, K) IoU of boxes (B, K, 4) with one another; 0 of a box without area."""
    low = torch.maximum(boxes[..., None, :2], boxes[..., None, :, :2])
    high = torch.minimum(boxes[..., None, 2:], boxes[..., None, :, 2:])
    common = (high - low).clamp(min=0).prod(dim=3)
    area = (boxes[..., 2:] - boxes[..., :2]).clamp(min=0).prod(dim=2)
    return common / (area.unsqueeze(2) + area.unsqueeze(1) - common).clamp(min=1e-9)


def _in_order(column: Tensor, order: Tensor) -> Tensor:
    index = order.reshape(*order.shape, *[1] * (column.dim() - 2)).expand(-1, -1, *column.shape[2:])
    return column.gather(1, index)
