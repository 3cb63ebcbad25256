"""Greedy matching, in all images and at all thresholds at once."""

from __future__ import annotations

import numpy as np


def match_in_order(
    frame: np.ndarray, chooser: np.ndarray, chosen: np.ndarray, present: np.ndarray
) -> np.ndarray:
    """Match the choosers of each frame, in order, to the first one on their list that is still free.

    Frames are independent, so the n-th chooser of every frame is compared with the m-th entry of its list
    in one step: the number of steps is that of the most crowded frame, and each is a few array operations.

    Args:
        frame: (P,) int64, ascending: the frame of each pair.
        chooser: (P,) int64, ascending: pairs of a chooser are adjacent, preferred ones first.
        chosen: (P,) int64: what is chosen, detections by objects or objects by detections.
        present: (P, T) bool: whether that pair may be matched at each of T thresholds.

    Returns:
        (P, T) bool: the matched pairs. At each threshold a chooser and what it chose are in at most one.
    """
    taken = np.zeros_like(present)
    if not len(chooser):
        return taken
    chooser = _numbered(chooser)
    place = np.arange(len(chooser)) - np.searchsorted(chooser, chooser)  # on its list
    frame = _numbered(frame)
    turn = chooser - chooser[np.searchsorted(frame, frame)]  # among those of the frame
    _, chosen = np.unique(chosen, return_inverse=True)
    served = np.zeros((chooser[-1] + 1, present.shape[1]), bool)
    gone = np.zeros((chosen.max() + 1, present.shape[1]), bool)
    step = turn * (place.max() + 1) + place
    order = np.argsort(step, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(step[order])) + 1):
        takes = present[rows] & ~gone[chosen[rows]] & ~served[chooser[rows]]
        taken[rows] = takes
        gone[chosen[rows]] |= takes
        served[chooser[rows]] |= takes
    return taken


def _numbered(values: np.ndarray) -> np.ndarray:
    """Ascending values -> 0, 1, 2 ... with no gap."""
    return np.concatenate([[0], np.cumsum(np.diff(values) != 0)])
