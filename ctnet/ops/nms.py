"""Non-maximum suppression of boxes, or by any overlap: hard, and soft with a linear or Gaussian weight."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ctnet.base.choices import Nms
from ctnet.ops.boxes import box_iou

#: The released code's values for multi-scale testing: IoU, sigma of the Gaussian, lowest score.
THRESHOLD = 0.5
SIGMA = 0.5
FLOOR = 0.001


def suppress(
    boxes: np.ndarray, scores: np.ndarray, method: Nms = "soft", threshold: float = THRESHOLD
) -> tuple[np.ndarray, np.ndarray]:
    """Remove axis-aligned boxes that overlap a better one, or lower their scores, see ``suppress_by``.

    Args:
        boxes: (N, 4) xyxy, pixels, with inclusive ends: a width is x2 - x1 + 1.
        scores, method, threshold: see ``suppress_by``.

    Source: the released code, with its pixel convention, but without the stale rows that it leaves at the
    end.
    """
    boxes = np.asfortranarray(boxes, np.float64)  # whole columns are read
    return suppress_by(
        lambda row: box_iou(boxes[row, None], boxes, inclusive=True)[0], scores, method, threshold
    )


def suppress_by(
    overlap: Callable[[int], np.ndarray],
    scores: np.ndarray,
    method: Nms = "soft",
    threshold: float = THRESHOLD,
) -> tuple[np.ndarray, np.ndarray]:
    """Remove rows that overlap a better one, or lower their scores.

    The best remaining row is kept, and the score of every other one is multiplied by a weight of their
    overlap o: "hard" 0 from the threshold on, "soft-linear" 1 - o above the threshold, "soft" exp(-o^2 / 0.5)
    (Gaussian). Rows whose score falls below 0.001 are removed. This repeats with the best of the rest.

    Args:
        overlap: row -> its overlaps (N,) with all rows, in [0, 1]; only computed for rows that are kept, so
            that no matrix is held.
        scores: (N,).
        method: see above; "none" only sorts.
        threshold: an overlap; not used by the Gaussian.

    Returns:
        The rows that are kept (M,) int64, highest score first, and their scores (M,) float64.

    Source: Bodla et al. 2017 and the released code, with its constants.
    """
    scores = np.array(scores, np.float64)
    if method == "none":
        order = np.argsort(-scores, kind="stable")
        return order, scores[order]
    rows, taken = [], []
    while scores.size and scores[row := int(scores.argmax())] >= 0:
        rows.append(row)
        taken.append(scores[row])
        scores[row] = -1  # removes this row; all scores below 0 are removed rows
        shared = overlap(row)
        if method == "hard":
            scores[shared >= threshold] = -1
        elif method == "soft":
            scores *= np.exp(shared * shared / -SIGMA)
        else:
            scores *= np.where(shared > threshold, 1 - shared, 1.0)
        if method != "hard":
            scores[(scores < FLOOR) & (shared > 0)] = -1
    return np.array(rows, np.int64), np.array(taken)
