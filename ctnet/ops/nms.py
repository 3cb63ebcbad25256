"""Non-maximum suppression of boxes: hard, and soft by a linear or a Gaussian weight."""

from __future__ import annotations

from typing import Literal, cast, get_args

import numpy as np

from ctnet.base.errors import CtnetError
from ctnet.ops.boxes import box_iou

#: How detections that overlap are suppressed: not at all, dropped, or their scores lowered.
Nms = Literal["none", "hard", "soft", "soft-linear"]

#: What the released code takes for testing at several scales: IoU, the Gaussian's width, lowest score.
THRESHOLD = 0.5
SIGMA = 0.5
FLOOR = 0.001


def nms_method(text: str) -> Nms:
    """Check the name of a method.

    Raises:
        CtnetError: for another name.
    """
    for method in get_args(Nms):
        if text == method:
            return cast(Nms, method)
    raise CtnetError(f"nms is {text!r}; it must be {', '.join(get_args(Nms)[:-1])} or {get_args(Nms)[-1]}")


def suppress(
    boxes: np.ndarray, scores: np.ndarray, method: Nms = "soft", threshold: float = THRESHOLD
) -> tuple[np.ndarray, np.ndarray]:
    """Remove or weaken boxes that overlap a better one.

    The best box that is left is taken, and the score of every other is multiplied by a weight of their IoU:
    "hard" 0 from the threshold on, "soft-linear" 1 - IoU above the threshold, "soft" exp(-IoU^2 / 0.5)
    (Gaussian). A box that is weakened below 0.001 is gone. Then the best of the rest is taken.

    Args:
        boxes: (N, 4) xyxy, pixels, first and last included: a width is x2 - x1 + 1.
        scores: (N,).
        method: see above; "none" only sorts.
        threshold: an IoU; the Gaussian has none.

    Returns:
        The rows that stay (M,) int64, best first, and their scores (M,) float64.

    Source: Bodla et al. 2017 and the released code, with its pixel convention and constants; its stale rows
    behind those that stay are not kept.
    """
    scores = np.array(scores, np.float64)
    if method == "none":
        order = np.argsort(-scores, kind="stable")
        return order, scores[order]
    boxes = np.asfortranarray(boxes, np.float64)  # whole columns are read
    rows, taken = [], []
    while scores.size and scores[row := int(scores.argmax())] >= 0:
        rows.append(row)
        taken.append(scores[row])
        scores[row] = -1  # this and every score below 0: no longer there
        iou = box_iou(boxes[row, None], boxes, inclusive=True)[0]
        if method == "hard":
            scores[iou >= threshold] = -1
            continue
        scores *= np.exp(iou * iou / -SIGMA) if method == "soft" else np.where(iou > threshold, 1 - iou, 1.0)
        scores[(scores < FLOOR) & (iou > 0)] = -1
    return np.array(rows, np.int64), np.array(taken)
