"""Common to all metrics that match detections to objects."""

from __future__ import annotations

import numpy as np
import pytest

from ctnet.base.errors import CtnetError
from ctnet.core.records import Detections
from ctnet.evaluation.matching import check_column, match_best_first


def test_the_best_score_chooses_first_and_an_object_is_found_once() -> None:
    overlap = np.array([[0.9, 0.6], [0.8, 0.7], [0.5, 0.4]])
    assert match_best_first(overlap, np.array([0.2, 0.9, 0.5]), 0.5).tolist() == [1, 0, -1]
    assert match_best_first(overlap, np.array([0.9, 0.2, 0.5]), 0.5).tolist() == [0, 1, -1]
    assert match_best_first(overlap, np.array([0.2, 0.9, 0.5]), 0.65).tolist() == [-1, 0, -1]
    assert overlap[0, 0] == 0.9  # unchanged


def test_nothing_is_found_where_nothing_is() -> None:
    assert match_best_first(np.zeros((2, 0)), np.ones(2), 0.5).tolist() == [-1, -1]
    assert match_best_first(np.zeros((0, 2)), np.ones(0), 0.5).tolist() == []


@pytest.mark.parametrize(
    "tips", [None, np.zeros((2, 3)), np.zeros((2, 2, 1)), np.array([[0, 1], [np.nan, 1]])]
)
def test_a_column_that_cannot_be_measured_is_named(tips: np.ndarray | None) -> None:
    extra = {} if tips is None else {"tips": tips}
    found = Detections(np.zeros((2, 4)), np.ones(2), np.zeros(2, int), extra)
    with pytest.raises(CtnetError, match=r"image 7 have tips .* finite values of shape \(2, 2\) are needed"):
        check_column(7, found, "tips", (2,))
    check_column(7, Detections.empty(), "tips", (2,))
    check_column(7, found.replace(tips=np.ones((2, 2))), "tips", (2,))
