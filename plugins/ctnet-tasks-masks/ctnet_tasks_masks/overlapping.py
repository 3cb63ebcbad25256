"""How much masks overlap."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pycocotools import mask as coco_mask

from ctnet.plugin import Affine, Outline, RunLength, box_iou

Region = Outline | RunLength


def mask_iou(
    one: Sequence[Region | None], other: Sequence[Region | None], boxes: Sequence[np.ndarray]
) -> np.ndarray:
    """Pairwise intersection over union: (N, M) float64 in [0, 1].

    Args:
        one, other: N and M masks of one image; None stands for the object's box.
        boxes: (N, 4) and (M, 4) xyxy of the objects.
    """
    sides = [
        [_box(box) if mask is None else mask for mask, box in zip(masks, around, strict=True)]
        for masks, around in zip((one, other), boxes, strict=True)
    ]
    if not sides[0] or not sides[1]:
        return np.zeros((len(sides[0]), len(sides[1])))
    frame = _frame([*sides[0], *sides[1]])
    first, second = ([_encoded(mask, *frame) for mask in masks] for masks in sides)
    overlap = np.asarray(coco_mask.iou(first, second, np.zeros(len(second), np.uint8)))
    # Masks without a pixel are compared by their boxes: an object is always equal to itself.
    empty = [np.array([coco_mask.area(each) == 0 for each in masks]) for masks in (first, second)]
    of_boxes = box_iou(np.asarray(boxes[0], np.float64), np.asarray(boxes[1], np.float64))
    return np.where(empty[0][:, None] & empty[1][None], of_boxes, np.nan_to_num(overlap))


def _frame(masks: Sequence[Region]) -> tuple[int, int, int, int]:
    """Left, top, width and height of a frame that holds all masks; that of the image where one knows it."""
    known = next((mask for mask in masks if isinstance(mask, RunLength)), None)
    points = [ring for mask in masks if isinstance(mask, Outline) for ring in mask.polygons]
    low = np.zeros(2) if known else np.full(2, np.inf)
    high = np.array([known.width, known.height]) if known else np.full(2, -np.inf)
    for ring in points:
        low, high = np.minimum(low, ring.min(axis=0)), np.maximum(high, ring.max(axis=0))
    low = np.floor(np.where(np.isfinite(low), low, 0))
    size = np.ceil(np.where(np.isfinite(high), high, 1)) - low
    left, top, width, height = np.concatenate([low, np.maximum(size, 1)]).astype(int).tolist()
    return left, top, width, height


def _encoded(mask: Region, left: int, top: int, width: int, height: int) -> dict[str, object]:
    """A mask's pixels in a frame, as COCO's tools take them."""
    if isinstance(mask, RunLength) and (left, top, width, height) == (0, 0, mask.width, mask.height):
        return mask.encoding
    return mask.moved(Affine(np.array([[1.0, 0, -left], [0, 1.0, -top]]))).runs(width, height).encoding


def _box(box: np.ndarray) -> Outline:
    x1, y1, x2, y2 = np.asarray(box, np.float32)
    return Outline((np.array([[x1, y1], [x2, y1], [x2, y2], [x1, y2]], np.float32),))
