"""The categories of a data set, in the order of their labels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from itertools import pairwise
from typing import Annotated, Any

import numpy as np
from annotated_types import Interval, MinLen
from typing_extensions import TypedDict

from ctnet.base.errors import CtnetError
from ctnet.base.schema import check_json


class _Category(TypedDict):
    """The keys that every entry has; a task may read others."""

    __pydantic_config__ = {"strict": True, "extra": "allow"}  # type: ignore[misc]  # noqa: RUF012

    id: Annotated[int, Interval(ge=-(2**63), lt=2**63)]
    name: Annotated[str, MinLen(1)]


def check_categories(entries: Any, source: object = "the categories") -> None:
    """Refuse anything but a list of categories.

    Args:
        entries: as in a COCO file.
        source: the file, for the error.

    Raises:
        CtnetError: for an entry without an integer id or a name.
    """
    fix = "each needs a whole-number id and a name; fix the annotation file"
    check_json(list[_Category], entries, source, fix)


class Categories(Sequence[Mapping[str, Any]]):
    """The category entries of a COCO file in ascending order of their ids; label i is the i-th of them."""

    def __init__(self, entries: Sequence[Mapping[str, Any]]) -> None:
        """Check and sort them.

        Raises:
            CtnetError: for an empty list, for one without an integer id or a name, and for a duplicate id.
        """
        self._entries = _checked(entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __getitem__(self, index: Any) -> Any:
        return self._entries[index]

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self._entries)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Categories) and self._entries == other._entries

    def __repr__(self) -> str:
        return f"Categories({', '.join(self.names)})"

    __hash__ = None  # type: ignore[assignment]  # entries are dictionaries

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Name of each label."""
        return tuple(str(category["name"]) for category in self._entries)

    @cached_property
    def ids(self) -> np.ndarray:
        """(C,) int64, ascending: the id of each label."""
        return np.array([category["id"] for category in self._entries], np.int64)

    def labels(self, ids: np.ndarray) -> np.ndarray:
        """Category ids -> labels, -1 for an unknown id."""
        position = np.searchsorted(self.ids, ids).clip(max=len(self.ids) - 1)
        return np.where(self.ids[position] == ids, position, -1)


def _checked(entries: Sequence[Mapping[str, Any]]) -> tuple[dict[str, Any], ...]:
    checked = [dict(entry) for entry in entries]
    check_categories(checked)
    checked.sort(key=lambda entry: int(entry["id"]))
    ids = [entry["id"] for entry in checked]
    twice = [one for one, other in pairwise(ids) if one == other]
    if twice:
        raise CtnetError(f"category id {twice[0]} occurs twice; fix the annotation file")
    if not checked:
        raise CtnetError("there are no categories; the annotation file needs at least one")
    return tuple(checked)
