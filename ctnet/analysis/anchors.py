"""Anchors: the objects that no anchor of a RetinaNet matches, so that one has to be assigned anyway."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ctnet.analysis.objects import SIZES, Objects, select_objects
from ctnet.base.choices import AnchorVariant, check_choice
from ctnet.base.errors import CtnetError
from ctnet.base.progress import track
from ctnet.data.dataset import Dataset

ANCHOR_SIZES = (32.0, 64.0, 128.0, 256.0, 512.0)
ANCHOR_RATIOS = (0.5, 1.0, 2.0)


@dataclass(frozen=True)
class Anchors:
    """The anchors of a RetinaNet: every shape at every point of a grid over the resized image.

    Attributes:
        sizes: sides of the square anchors, pixels of the resized image.
        ratios: height / width; an anchor of any ratio has about the area of the square one.
        stride: pixels between grid points.
        shorter_side: the image is resized until its shorter side has this many pixels.
        variant: "official" is the authors' tool, from which the published figures come: shapes are rounded at
            the size of the stride, scaled up and one pixel shorter, at positions (stride - 1) / 2 + i stride,
            floor(side / stride) of them. "paper" is the text: exact shapes at stride / 2 + i stride for i up
            to floor((side - stride / 2) / stride).

    Raises:
        CtnetError: for values without any anchor.
    """

    sizes: Sequence[float] = ANCHOR_SIZES
    ratios: Sequence[float] = ANCHOR_RATIOS
    stride: int = 16
    shorter_side: int = 800
    variant: AnchorVariant = "official"

    def __post_init__(self) -> None:
        for what, values in (("anchor size", self.sizes), ("anchor ratio", self.ratios)):
            if not len(values):
                raise CtnetError(f"there is no {what}; give at least one")
            for value in values:
                if not (math.isfinite(value) and value > 0):
                    raise CtnetError(f"an {what} is {value:g}; it must be a number above 0")
        if not 0 < self.stride <= self.shorter_side:
            raise CtnetError(
                f"the stride is {self.stride}; it must be from 1 to the shorter side of the image, "
                f"{self.shorter_side}"
            )
        check_choice("the variant of the anchors", self.variant, AnchorVariant)


@dataclass(frozen=True)
class UnmatchedCount:
    """Unmatched objects among all objects, those of one size or of one category.

    Attributes:
        name: "all", a size or a category.
        objects: their number.
        unmatched: those whose best anchor has an IoU under the threshold.
    """

    name: str
    objects: int
    unmatched: int


@dataclass(frozen=True)
class UnmatchedAnchors:
    """The forced assignments of a data set.

    Attributes:
        split: the data set's name.
        sizes, ratios, stride, shorter_side, variant: see ``Anchors``.
        threshold, crowd: see ``count_unmatched_anchors``.
        crowd_regions: number of crowd regions among all objects.
        total, by_size, by_category: the counts; all requested categories are included.
    """

    split: str
    sizes: tuple[float, ...]
    ratios: tuple[float, ...]
    stride: int
    shorter_side: int
    threshold: float
    variant: AnchorVariant
    crowd: bool
    crowd_regions: int
    total: UnmatchedCount
    by_size: tuple[UnmatchedCount, ...]
    by_category: tuple[UnmatchedCount, ...]

    def as_dict(self) -> dict[str, Any]:
        """The figures as JSON values."""
        return dataclasses.asdict(self)


def count_unmatched_anchors(
    dataset: Dataset,
    anchors: Anchors | None = None,
    threshold: float = 0.5,
    categories: Sequence[str] | None = None,
    crowd: bool = True,
) -> UnmatchedAnchors:
    """Count the objects whose best anchor has an IoU below a threshold: a RetinaNet's forced assignments.

    Image and boxes are resized until the shorter side is that of the anchors (the longer one is rounded
    down); every anchor shape is placed at every point of a grid. The paper reports, for COCO train2017,
    170220 of 860001 objects: 125831 small, 18505 medium and 25884 large ones.

    Args:
        dataset: the annotations; images are not read.
        anchors: those of the paper when None.
        threshold: the IoU that matches an anchor to an object.
        categories: names of the categories to count; None: all.
        crowd: count crowd regions too, with COCO's overlap: divided by the anchor's area.

    Raises:
        CtnetError: for a threshold out of range, an unknown category, and when there are no objects.

    Source: appendix C, equation 11. Sizes are COCO's, by the annotation's area in the image's own pixels.
    """
    anchors = anchors or Anchors()
    if not 0 < threshold <= 1:
        raise CtnetError(f"the IoU threshold is {threshold:g}; it must be above 0 and at most 1")
    objects = select_objects(dataset, categories)
    crowd_regions = int(objects.crowd.sum())
    if not crowd:
        objects = objects[~objects.crowd]
    shapes = anchor_shapes(anchors)
    unmatched = best_overlaps(dataset, objects, shapes, anchors) < threshold
    return UnmatchedAnchors(
        split=dataset.split,
        **{**vars(anchors), "sizes": tuple(anchors.sizes), "ratios": tuple(anchors.ratios)},
        threshold=threshold,
        crowd=crowd,
        crowd_regions=crowd_regions,
        total=UnmatchedCount("all", len(objects), int(unmatched.sum())),
        by_size=_counts(SIZES, objects.sizes, unmatched),
        by_category=_counts(objects.names, objects.labels, unmatched),
    )


def anchor_shapes(anchors: Anchors) -> np.ndarray:
    """(A, 2) float64: width and height of every anchor, pixels; see ``Anchors``.

    Raises:
        CtnetError: when rounding leaves a shape without area.
    """
    size, ratio = (grid.ravel() for grid in np.meshgrid(anchors.sizes, anchors.ratios))
    stride = anchors.stride
    if anchors.variant == "paper":
        return np.stack([size / np.sqrt(ratio), size * np.sqrt(ratio)], axis=1)
    width = np.round(np.sqrt(stride**2 / ratio))
    shapes = np.stack([width, np.round(width * ratio)], axis=1) * (size / stride)[:, None] - 1
    if (shapes <= 0).any():
        bad = int(np.argmax((shapes <= 0).any(axis=1)))
        raise CtnetError(
            f"size {size[bad]:g} and ratio {ratio[bad]:g} leave an anchor without area at stride {stride}; "
            "use larger sizes or ratios closer to 1"
        )
    return shapes


def best_overlaps(dataset: Dataset, objects: Objects, shapes: np.ndarray, anchors: Anchors) -> np.ndarray:
    """(K,) float64: the largest IoU of every object with any anchor of its resized image.

    The overlap of two intervals of fixed lengths never grows with the distance of their midpoints, and the
    IoU of two boxes of fixed sizes grows with their overlap. So the best position of an anchor of any shape
    is the grid point nearest to the box's centre, in x and y separately, and only that one is tried.
    """
    images = np.stack([dataset.coco.widths, dataset.coco.heights], axis=1).astype(np.int64)[objects.images]
    shorter = images.min(axis=1, keepdims=True)
    corners, sides = np.split(objects.boxes * (anchors.shorter_side / shorter), 2, axis=1)
    resized = images * anchors.shorter_side // shorter
    stride = anchors.stride
    start, points = _grid(resized, stride, anchors.variant)
    centers = corners + sides / 2
    nearest = np.round((centers - start) / stride).clip(0, points - 1) * stride + start
    box_areas = sides.prod(axis=1)
    best = np.zeros(len(objects))
    for shape in track(shapes, "placing anchors", unit="anchors"):
        lower = np.maximum(nearest - shape / 2, corners)
        upper = np.minimum(nearest + shape / 2, corners + sides)
        shared = (upper - lower).clip(min=0).prod(axis=1)
        anchor_area = shape.prod()
        union = np.where(objects.crowd, anchor_area, anchor_area + box_areas - shared)
        np.maximum(best, shared / union, out=best)
    return best


def _grid(resized: np.ndarray, stride: int, variant: AnchorVariant) -> tuple[float, np.ndarray]:
    """Start of the grid in x and y, and (K, 2) its number of points in x and y."""
    if variant == "paper":
        return stride / 2, np.floor((resized - stride / 2) / stride) + 1
    return (stride - 1) / 2, resized // stride


def _counts(
    names: Sequence[str], membership: np.ndarray, unmatched: np.ndarray
) -> tuple[UnmatchedCount, ...]:
    """One count per name; ``membership`` (K,) are indices into the names."""
    objects = np.bincount(membership, minlength=len(names)).tolist()
    missed = np.bincount(membership[unmatched], minlength=len(names)).tolist()
    return tuple(map(UnmatchedCount, names, objects, missed))
