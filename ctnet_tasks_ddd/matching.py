"""Greedy matching of labels and detections, in all frames and at all score thresholds at once."""

from __future__ import annotations

import numpy as np


def serve(frame: np.ndarray, label: np.ndarray, result: np.ndarray, present: np.ndarray) -> np.ndarray:
    """Match the labels of each frame, in order, to the first detection on their list that is still free.

    Frames are independent, so the n-th label of every frame is compared with the m-th detection of its list
    in one step: the number of steps is that of the most crowded frame, and each is a few array operations.

    Args:
        frame: (P,) int64: the frame of each pair.
        label: (P,) int64, ascending: pairs of a label are adjacent, preferred ones first.
        result: (P,) int64: the detection of each pair.
        present: (P, T) bool: whether that detection exists at each of T thresholds.

    Returns:
        (P, T) bool: the matched pairs. At each threshold a label and a detection have at most one.
    """
    taken = np.zeros_like(present)
    if not len(label):
        return taken
    label = _numbered(label)
    place = np.arange(len(label)) - np.searchsorted(label, label)  # on the label's list
    frame = _numbered(frame)
    turn = label - label[np.searchsorted(frame, frame)]  # among the labels of the frame
    _, result = np.unique(result, return_inverse=True)
    served = np.zeros((label[-1] + 1, present.shape[1]), bool)
    gone = np.zeros((result.max() + 1, present.shape[1]), bool)
    step = turn * (place.max() + 1) + place
    order = np.argsort(step, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(step[order])) + 1):
        takes = present[rows] & ~gone[result[rows]] & ~served[label[rows]]
        taken[rows] = takes
        gone[result[rows]] |= takes
        served[label[rows]] |= takes
    return taken


def _numbered(values: np.ndarray) -> np.ndarray:
    """Ascending values -> 0, 1, 2 ... with no gap."""
    return np.concatenate([[0], np.cumsum(np.diff(values) != 0)])
