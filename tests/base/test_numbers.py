from __future__ import annotations

import pytest

from ctnet.base.errors import CtnetError
from ctnet.base.numbers import check_seed, whole_number


@pytest.mark.parametrize(("text", "number"), [("0", 0), ("512", 512), ("007", 7), ("9" * 18, 10**18 - 1)])
def test_whole_numbers(text: str, number: int) -> None:
    assert whole_number(text) == number


@pytest.mark.parametrize("text", ["", "²", "٣", "-1", "+1", " 1", "1_0", "1.0", "1e3", "9" * 19, "9" * 5000])
def test_other_texts_are_none(text: str) -> None:
    assert whole_number(text) is None


@pytest.mark.parametrize("seed", [-1, 2**64, 10**30])
def test_seeds_that_generators_do_not_take(seed: int) -> None:
    with pytest.raises(CtnetError, match=f"--seed is {seed}; it must be a whole number from 0 to 2"):
        check_seed(seed)
    check_seed(2**64 - 1)
