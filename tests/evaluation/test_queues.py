"""Labels that choose detections one after the other."""

from __future__ import annotations

import numpy as np
import pytest

from ctnet.evaluation.queues import match_in_order


def one_by_one(frame, label, result, present):
    taken = np.zeros_like(present)
    for threshold in range(present.shape[1]):
        gone, served = set(), set()
        for pair in range(len(label)):
            free = result[pair] not in gone and label[pair] not in served
            if free and present[pair, threshold]:
                taken[pair, threshold] = True
                gone.add(result[pair])
                served.add(label[pair])
    return taken


@pytest.mark.parametrize("seed", range(8))
def test_equals_serving_one_by_one(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels_of_frame = rng.integers(0, 7, 12)
    frame, label, result = [], [], []
    first = 0
    for number, count in enumerate(labels_of_frame):
        for own in range(first, first + count):
            liked = rng.permutation(6)[: rng.integers(0, 6)] + 6 * number  # six detections per frame
            frame += [2 * number] * len(liked)
            label += [3 * own] * len(liked)
            result += liked.tolist()
        first += count
    arrays = [np.array(column, np.int64) for column in (frame, label, result)]
    present = rng.random((6 * len(labels_of_frame), 5))[arrays[2]] < [0.2, 0.5, 0.8, 1.0, 0.0]
    taken = match_in_order(*arrays, present)
    assert np.array_equal(taken, one_by_one(*arrays, present))
    assert taken[:, 3].any()


def test_nothing_to_match_in_order() -> None:
    none = np.zeros(0, np.int64)
    assert match_in_order(none, none, none, np.zeros((0, 3), bool)).shape == (0, 3)
    one = np.zeros(1, np.int64)
    assert match_in_order(one, one, one, np.zeros((1, 0), bool)).shape == (1, 0)
