from __future__ import annotations

import pytest

from ctnet.data.joints import left_right_pairs, names_a_side, other_side


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("left_eye", "right_eye"),
        ("eyeLeft", "eyeRight"),
        ("EYE LEFT", "EYE RIGHT"),
        ("L_eye", "R_eye"),
        ("LEye", "REye"),
        ("eye.l", "eye.r"),
        ("nose", "nose"),
        ("ball", "ball"),
    ],
)
def test_the_other_side(one, other):
    assert other_side(one) == other
    assert other_side(other) == one


def test_pairs_are_left_and_right_in_any_order():
    assert left_right_pairs(["right_eye", "nose", "left_eye", "l_ear", "r_ear"]) == [(2, 0), (3, 4)]
    assert left_right_pairs(["left_eye", "nose"]) == []


@pytest.mark.parametrize(("name", "side"), [("left_eye", True), ("eyeRight", True), ("upright", False)])
def test_side_as_a_word_of_its_own(name, side):
    assert names_a_side(name) is side
