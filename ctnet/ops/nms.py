"""Non-maximum suppression of boxes, or by any overlap: hard, and soft with a linear or Gaussian weight."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ctnet.base.choices import Nms
from ctnet.ops.boxes import box_areas, box_intersections, box_iou, ratio
from ctnet.ops.fast import fast_paths_enabled

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


def suppress_groups(
    boxes: Sequence[np.ndarray],
    scores: Sequence[np.ndarray],
    method: Nms = "soft",
    threshold: float = THRESHOLD,
) -> list[tuple[np.ndarray, np.ndarray]]:
    """``suppress`` for several groups (the classes of several images), all in one loop.

    The loop takes a box of every group at a time, so that it has as many rounds as the largest group has
    boxes, not as all groups together.

    Args:
        boxes, scores: of each group, see ``suppress``.
        method, threshold: see ``suppress_by``.

    Returns:
        What ``suppress`` returns, for each group.
    """
    if method == "none" or len(boxes) < 2 or not fast_paths_enabled():
        return [suppress(group, of, method, threshold) for group, of in zip(boxes, scores, strict=True)]
    longest = max(map(len, scores))
    table = np.zeros((4, len(boxes), longest))  # whole columns are read
    left = np.full((len(boxes), longest), -1.0)
    for row, (group, of) in enumerate(zip(boxes, scores, strict=True)):
        table[:, row, : len(group)] = np.asarray(group).T
        left[row, : len(of)] = of
    rounds = _rounds(np.moveaxis(table, 0, -1), left, method, threshold)
    groups, rows, taken = (np.concatenate(part) for part in zip(*rounds, strict=True))
    return [(rows[groups == number], taken[groups == number]) for number in range(len(boxes))]


def _rounds(
    boxes: np.ndarray, left: np.ndarray, method: Nms, threshold: float
) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """The box that every group keeps, round by round: their groups, rows and scores.

    Args:
        boxes: (G, N, 4) float64.
        left: (G, N) float64 scores, below 0 where there is no box; they are changed.
        method, threshold: see ``suppress_by``.
    """
    groups, areas = np.arange(len(left)), box_areas(boxes, inclusive=True)
    found = [(groups[:0], groups[:0], np.zeros(0))]
    while left.size:
        rows = left.argmax(axis=1)
        taken = left[np.arange(len(left)), rows]
        if (done := taken < 0).any():
            groups, boxes, areas, left, rows, taken = (
                values[~done] for values in (groups, boxes, areas, left, rows, taken)
            )
        found.append((groups, rows, taken))
        each = np.arange(len(groups))
        left[each, rows] = -1
        best = boxes[each, rows][:, None]
        common = box_intersections(best, boxes, inclusive=True)
        shared = ratio(common, areas[each, rows][:, None] + areas - common)
        _weaken(left, shared, method, threshold)
    return found


def _weaken(scores: np.ndarray, shared: np.ndarray, method: Nms, threshold: float) -> None:
    """Lower the scores of what a kept box overlaps, in place; -1 removes."""
    if method == "hard":
        scores[shared >= threshold] = -1
        return
    if method == "soft":
        scores *= np.exp(shared * shared / -SIGMA)
    else:
        scores *= np.where(shared > threshold, 1 - shared, 1.0)
    scores[(scores < FLOOR) & (shared > 0)] = -1


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
        _weaken(scores, overlap(row), method, threshold)
    return np.array(rows, np.int64), np.array(taken)
