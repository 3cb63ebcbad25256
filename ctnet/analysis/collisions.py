"""Collisions: objects of one class that share a cell of the output grid, or that NMS would merge."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ctnet.analysis.objects import SIZES, Objects, select_objects
from ctnet.base.choices import Rounding
from ctnet.base.errors import CtnetError, unknown_name
from ctnet.base.progress import track
from ctnet.data.dataset import Dataset

CENTER = "center"
"""The name of centre collisions in ``Collisions.kinds``; overlaps are called "iou>0.7" etc."""


@dataclass(frozen=True)
class PairCount:
    """Collisions of one kind in a set of objects.

    Attributes:
        pairs: number of colliding pairs; three objects in one cell are three pairs. The paper's figures.
        objects: number of objects in at least one pair.
        lost: number of objects that collide with an earlier one (in the file's order) that is not lost
        itself: the objects missed with one detection per cell, or the perfect detections removed by greedy
            NMS.
    """

    pairs: int
    objects: int
    lost: int


@dataclass(frozen=True)
class Group:
    """The collisions of all objects, or those of one size or category.

    Attributes:
        name: "all", a size or a category.
        objects: number of objects, including crowd regions (the paper's 860001).
        collisions: by kind. A pair of two sizes counts for the smaller one.
    """

    name: str
    objects: int
    collisions: dict[str, PairCount]


@dataclass(frozen=True)
class CrowdedImage:
    """An image with a collision of any kind.

    Attributes:
        image_id, file_name: as in the annotation file.
        pairs: by kind, the ids of the two colliding annotations.
    """

    image_id: int
    file_name: str
    pairs: dict[str, tuple[tuple[int, int], ...]]


@dataclass(frozen=True)
class Collisions:
    """The collisions of a data set.

    Attributes:
        split: the data set's name.
        stride, rounding, inclusive, crowd: the conventions, see ``count_collisions``.
        kinds: "center", then the thresholds ("iou>0.7"), in the order given.
        crowd_regions: how many of all objects are crowd regions; they are compared only with ``crowd``.
        total, by_size, by_category: the counts; every category that was asked for is there.
        images: images with a collision, in the order of the file.
    """

    split: str
    stride: float
    rounding: Rounding
    inclusive: bool
    crowd: bool
    kinds: tuple[str, ...]
    crowd_regions: int
    total: Group
    by_size: tuple[Group, ...]
    by_category: tuple[Group, ...]
    images: tuple[CrowdedImage, ...]

    def as_dict(self) -> dict[str, Any]:
        """The figures as JSON values."""
        return dataclasses.asdict(self)


def count_collisions(
    dataset: Dataset,
    stride: float = 4,
    thresholds: Sequence[float] = (0.7, 0.5),
    categories: Sequence[str] | None = None,
    rounding: Rounding = "floor",
    inclusive: bool = True,
    crowd: bool = False,
) -> Collisions:
    """Count pairs of same-class objects that share a centre cell, and pairs that overlap.

    The defaults are the conventions of the authors' tool, from which the paper's figures come: on COCO
    train2017 614 pairs share a cell, 715 and 5179 have an IoU above 0.7 and 0.5, of 860001 objects.

    Args:
        dataset: the annotations; no image is read.
        stride: image pixels per cell; images count at their own resolution.
        thresholds: a pair collides when its IoU is above (not at) one of them.
        categories: names of those looked at; None: all.
        rounding: a centre c is in cell floor(c / stride), or with "nearest" in floor(c / stride + 0.5).
        inclusive: the IoU counts the last pixel as part of a box, so that sides and overlaps are one pixel
            longer; False: corners are points.
        crowd: also compare crowd regions. They count as objects in any case, as in the paper.

    Raises:
        CtnetError: for an invalid stride, threshold, rounding or category, and when there are no objects.

    Source: section 6.1.1 and appendix C, equations 9 and 10.
    """
    _check(stride, thresholds, rounding)
    objects = select_objects(dataset, categories)
    compared = np.flatnonzero(~objects.crowd | crowd)
    found = {CENTER: _Pairs.of(_same_cell(objects, compared, stride, rounding))}
    first, second, overlaps = _overlapping(objects, compared, min(thresholds, default=1), inclusive)
    for threshold in thresholds:
        above = overlaps > threshold
        found[f"iou>{threshold:g}"] = _Pairs.of((first[above], second[above]))
    return Collisions(
        split=dataset.split,
        stride=stride,
        rounding=rounding,
        inclusive=inclusive,
        crowd=crowd,
        kinds=tuple(found),
        crowd_regions=int(objects.crowd.sum()),
        total=_groups(("all",), np.zeros(len(objects), np.int64), found)[0],
        by_size=_groups(SIZES, objects.sizes, found),
        by_category=_groups(objects.names, objects.labels, found),
        images=tuple(_crowded_images(dataset, objects, found)),
    )


def _check(stride: float, thresholds: Sequence[float], rounding: str) -> None:
    if not (math.isfinite(stride) and stride > 0):
        raise CtnetError(f"the stride is {stride:g}; it must be a number above 0, 4 in the paper")
    for threshold in thresholds:
        if not 0 <= threshold < 1:
            raise CtnetError(f"an IoU threshold is {threshold:g}; it must be at least 0 and below 1")
    if rounding not in ("floor", "nearest"):
        raise unknown_name("rounding", rounding, ("floor", "nearest"))


# --- finding pairs


@dataclass(frozen=True, eq=False)
class _Pairs:
    """Pairs of objects, the earlier one first, in order; (P,) int64 each."""

    first: np.ndarray
    second: np.ndarray

    @classmethod
    def of(cls, pairs: tuple[np.ndarray, np.ndarray]) -> _Pairs:
        first, second = np.minimum(*pairs), np.maximum(*pairs)
        order = np.lexsort((second, first))
        return cls(first[order], second[order])

    def members(self) -> np.ndarray:
        """The distinct objects in any pair."""
        members: np.ndarray = np.unique(np.concatenate([self.first, self.second]))
        return members

    def lost(self) -> np.ndarray:
        """The objects that a greedy pass drops because they collide with an earlier one that is kept."""
        members, places = np.unique(np.concatenate([self.first, self.second]), return_inverse=True)
        first, second = np.split(places, 2)
        lost = np.zeros(len(members), bool)
        while len(first):
            undecided = np.zeros(len(members), bool)
            undecided[second] = True
            lost[second[~undecided[first]]] = True
            still = ~lost[first] & ~lost[second]
            first, second = first[still], second[still]
        dropped: np.ndarray = members[lost]
        return dropped


def _same_cell(
    objects: Objects, compared: np.ndarray, stride: float, rounding: Rounding
) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of one image and class whose centres are in one cell."""
    boxes = objects.boxes[compared]
    cells = np.floor((boxes[:, :2] + boxes[:, 2:] / 2) / stride + (0.5 if rounding == "nearest" else 0))
    groups = _groups_of(objects, compared)
    order = np.lexsort((cells[:, 0], cells[:, 1], groups))
    cells, groups, compared = cells[order], groups[order], compared[order]
    starts = np.ones(len(order), bool)
    starts[1:] = (groups[1:] != groups[:-1]) | (cells[1:] != cells[:-1]).any(axis=1)
    run = np.cumsum(starts)
    none = np.zeros(0, np.int64)
    firsts, seconds = [none], [none]
    left = np.arange(len(order))
    step = 0
    while len(left):
        step += 1
        left = left[left + step < len(order)]
        left = left[run[left] == run[left + step]]
        firsts.append(compared[left])
        seconds.append(compared[left + step])
    return np.concatenate(firsts), np.concatenate(seconds)


def _groups_of(objects: Objects, compared: np.ndarray) -> np.ndarray:
    """(K,) int64, a number per image and class."""
    groups: np.ndarray = objects.images[compared] * len(objects.names) + objects.labels[compared]
    return groups


def _overlapping(
    objects: Objects, compared: np.ndarray, threshold: float, inclusive: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pairs of one image and class whose IoU is above the threshold, and their IoU.

    Boxes are sorted by group and left edge and compared with the next one, the one after it and so on: an
    object is done when that box starts beyond its right edge or belongs to another group. So only boxes whose
    extents in x overlap are compared, and all objects advance in one vectorised step.
    """
    groups = _groups_of(objects, compared)
    order = np.lexsort((objects.boxes[compared, 0], groups))
    groups, compared = groups[order], compared[order]
    extra = 1.0 if inclusive else 0.0
    left, top, width, height = objects.boxes[compared].T
    right, bottom = left + width + extra, top + height + extra
    areas = (width + extra) * (height + extra)
    firsts, seconds = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    overlaps = [np.zeros(0)]
    a = np.arange(len(compared))
    largest = int(np.unique(groups, return_counts=True)[1].max(initial=0))
    for step in track(range(1, largest), "comparing boxes", unit="steps"):
        a = a[a + step < len(compared)]
        a = a[(groups[a] == groups[a + step]) & (left[a + step] < right[a])]
        b = a + step
        across = np.minimum(right[a], right[b]) - left[b]
        down = (np.minimum(bottom[a], bottom[b]) - np.maximum(top[a], top[b])).clip(min=0)
        shared = across * down
        overlap = shared / (areas[a] + areas[b] - shared)
        above = overlap > threshold
        firsts.append(compared[a[above]])
        seconds.append(compared[b[above]])
        overlaps.append(overlap[above])
        if not len(a):
            break
    return np.concatenate(firsts), np.concatenate(seconds), np.concatenate(overlaps)


# --- counting pairs


def _groups(names: Sequence[str], membership: np.ndarray, found: dict[str, _Pairs]) -> tuple[Group, ...]:
    """One group per name; ``membership`` (K,) are indices into the names."""

    def count(which: np.ndarray) -> list[int]:
        counts: list[int] = np.bincount(which, minlength=len(names)).tolist()
        return counts

    columns = {}
    for kind, pairs in found.items():
        smaller = np.minimum(membership[pairs.first], membership[pairs.second])
        columns[kind] = (
            count(smaller),
            count(membership[pairs.members()]),
            count(membership[pairs.lost()]),
        )
    return tuple(
        Group(
            name, objects, {kind: PairCount(*(c[number] for c in column)) for kind, column in columns.items()}
        )
        for number, (name, objects) in enumerate(zip(names, count(membership), strict=True))
    )


def _crowded_images(dataset: Dataset, objects: Objects, found: dict[str, _Pairs]) -> Iterator[CrowdedImage]:
    coco = dataset.coco
    ids = coco.annotation_ids[objects.rows]
    pairs: dict[int, dict[str, list[tuple[int, int]]]] = {}
    for kind, these in found.items():
        columns = (objects.images[these.first], ids[these.first], ids[these.second])
        for image, first, second in zip(*(column.tolist() for column in columns), strict=True):
            pairs.setdefault(image, {name: [] for name in found})[kind].append((first, second))
    for image in sorted(pairs):
        yield CrowdedImage(
            int(coco.image_ids[image]),
            coco.file_name(image),
            {kind: tuple(these) for kind, these in pairs[image].items()},
        )
