"""The objects of an analysis, as columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ctnet.base.errors import CtnetError, unknown_name
from ctnet.data.dataset import Dataset
from ctnet.data.stats import SIZE_LIMITS

SIZES = ("small", "medium", "large")
"""COCO's names for areas below 32 x 32, below 96 x 96 and of at least 96 x 96 pixels."""


@dataclass(frozen=True, eq=False)
class Objects:
    """Annotated objects of a data set, including crowd regions, grouped by image in the file's order.

    Attributes:
        rows: (K,) int64, rows of the columns of ``dataset.coco``.
        images: (K,) int64, images of ``dataset.coco``.
        boxes: (K, 4) float64, xywh, image pixels.
        labels: (K,) int64, indices into ``names``.
        names: the categories, in the order of the file.
        sizes: (K,) int64, indices into ``SIZES``, by the annotation's area.
        crowd: (K,) bool.
    """

    rows: np.ndarray
    images: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray
    names: tuple[str, ...]
    sizes: np.ndarray
    crowd: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, chosen: np.ndarray) -> Objects:
        """The objects selected by a mask or an index array."""
        return Objects(
            self.rows[chosen],
            self.images[chosen],
            self.boxes[chosen],
            self.labels[chosen],
            self.names,
            self.sizes[chosen],
            self.crowd[chosen],
        )


def select_objects(dataset: Dataset, categories: Sequence[str] | None = None) -> Objects:
    """The usable annotations of a data set.

    Args:
        dataset: its images.
        categories: names of the selected ones; None: all.

    Raises:
        CtnetError: for an unknown category, and when there are no objects, or none of a selected category.
    """
    coco = dataset.coco
    wanted = _wanted(dataset, categories)
    ids = np.array([int(category["id"]) for category in wanted], np.int64)
    order = np.argsort(ids)
    in_dataset = np.zeros(len(coco) + 1, bool)  # the last is for images that the file does not list
    in_dataset[dataset.rows] = True
    rows = np.flatnonzero(coco.usable & in_dataset[coco.image_index] & np.isin(coco.category_ids, ids))
    labels = order[np.searchsorted(ids, coco.category_ids[rows], sorter=order)]
    names = tuple(str(category["name"]) for category in wanted)
    present = {names[label] for label in np.unique(labels)}
    if categories is not None and (absent := sorted(set(names) - present)):
        raise CtnetError(f"{coco.path} has no objects of category {absent[0]!r}; leave that out")
    if not len(rows):
        raise CtnetError(f"{coco.path} has no objects; there is nothing to count")
    return Objects(
        rows=rows,
        images=coco.image_index[rows].astype(np.int64),
        boxes=coco.boxes[rows],
        labels=labels,
        names=names,
        sizes=np.searchsorted(SIZE_LIMITS, coco.areas[rows], side="right"),
        crowd=coco.crowd[rows],
    )


def _wanted(dataset: Dataset, categories: Sequence[str] | None) -> list[dict[str, Any]]:
    if categories is None:
        return dataset.categories
    known = [category["name"] for category in dataset.categories]
    for name in categories:
        if name not in known:
            raise unknown_name("category", name, known)
    return [category for category in dataset.categories if category["name"] in categories]
