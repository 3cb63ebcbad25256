"""The categories of a data set, in the order of their labels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctnet.base.errors import CtnetError
from ctnet.core.categories import Categories

THREE = [{"id": 7, "name": "ball"}, {"id": 3, "name": "box", "colour": "red"}, {"id": 90, "name": "cup"}]


def test_labels_follow_the_order_of_ids():
    categories = Categories(THREE)
    assert categories.names == ("box", "ball", "cup")
    assert categories.ids.tolist() == [3, 7, 90]
    assert categories.ids.dtype == np.int64
    assert len(categories) == 3


def test_entries_are_kept_whole_and_as_copies():
    entries = [dict(entry) for entry in THREE]
    categories = Categories(entries)
    entries[1]["colour"] = "blue"
    assert categories[0] == {"id": 3, "name": "box", "colour": "red"}
    assert [*categories] == [THREE[1], THREE[0], THREE[2]]
    assert [*categories[1:]] == [THREE[0], THREE[2]]
    assert categories == Categories(THREE[::-1]) == Categories(categories)
    assert categories != Categories(entries)
    assert categories != THREE


@given(st.lists(st.integers(0, 99), min_size=1, unique=True), st.lists(st.integers(-5, 120)))
def test_ids_become_labels_and_unknown_ones_none(ids, asked):
    categories = Categories([{"id": number, "name": str(number)} for number in ids])
    ordered = sorted(ids)
    expected = [ordered.index(number) if number in ids else -1 for number in asked]
    assert categories.labels(np.array(asked, np.int64)).tolist() == expected


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([], "there are no categories; the annotation file needs at least one"),
        ([{"id": 1}], "needs a whole-number id and a name; fix the annotation file"),
        ([{"name": "a"}], "needs a whole-number id and a name"),
        ([{"id": "1", "name": "a"}], "needs a whole-number id and a name"),
        ([{"id": 1.5, "name": "a"}], "needs a whole-number id and a name"),
        ([{"id": True, "name": "a"}], "needs a whole-number id and a name"),
        ([{"id": 1, "name": ""}], "needs a whole-number id and a name"),
        ([{"id": 4, "name": "a"}, {"id": 4, "name": "b"}], "category id 4 occurs twice"),
    ],
)
def test_what_is_not_a_category_is_named(entries, message):
    with pytest.raises(CtnetError, match=message):
        Categories(entries)
