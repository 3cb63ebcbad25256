"""Dense scenes: outlines of boxes and ellipses, in pairs of one class whose boxes overlap by a chosen IoU.

Only outlines are drawn, so both objects of a pair can be seen however much they overlap.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ctnet.base.files import write_json
from ctnet.ops.boxes import box_iou

SIDE = 192
CATEGORIES = [{"id": 1, "name": "box"}, {"id": 2, "name": "ellipse"}]
#: Scenes, and the range of IoU within a pair; no other two boxes of a scene overlap by more than 0.4.
SPLITS: dict[str, tuple[int, tuple[float, float]]] = {
    "train": (500, (0.0, 0.8)),
    "held": (150, (0.0, 0.8)),
    "apart": (150, (0.0, 0.4)),
    "close": (150, (0.6, 0.8)),
}
_APART = 0.4
_PAIRS = 3


def write_dense(folder: Path, seed: int = 0) -> None:
    """Write all splits as a data directory; the last annotation file says that it is complete."""
    for split, (count, overlap) in sorted(SPLITS.items(), key=lambda item: item[0] == "held"):
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        (folder / split).mkdir(parents=True, exist_ok=True)
        for number in range(1, count + 1):
            rng = np.random.default_rng([seed, *split.encode(), number])
            image, boxes, labels = scene(rng, overlap)
            cv2.imwrite(str(folder / split / f"{number:05d}.png"), image)
            images.append({"id": number, "file_name": f"{number:05d}.png", "width": SIDE, "height": SIDE})
            for (left, top, right, bottom), label in zip(boxes.tolist(), labels, strict=True):
                bbox = [left, top, right - left, bottom - top]
                area = bbox[2] * bbox[3]
                annotations.append(
                    {"id": len(annotations) + 1, "image_id": number, "category_id": label + 1, "bbox": bbox}
                    | {"area": area, "iscrowd": 0}
                )
        document = {"images": images, "annotations": annotations, "categories": CATEGORIES}
        write_json(folder / "annotations" / f"instances_{split}.json", document, indent=None)


def scene(rng: np.random.Generator, overlap: tuple[float, float]) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """An image (H, W, 3) uint8 with its boxes (N, 4) xyxy and labels; ``overlap``: IoU within a pair."""
    boxes = np.zeros((0, 4))
    labels: list[int] = []
    for _ in range(60):
        if len(labels) == 2 * _PAIRS:
            break
        pair = _pair(rng, overlap)
        if not len(boxes) or box_iou(pair, boxes).max() <= min(_APART, 0.2):
            boxes = np.concatenate([boxes, pair])
            labels += 2 * [int(rng.integers(2))]
    canvas = np.full((SIDE, SIDE, 3), rng.uniform(40, 120, 3), np.float32)
    noise = rng.uniform(-1, 1, (8, 8, 3)).astype(np.float32) * rng.uniform(10, 40)
    image = np.clip(canvas + cv2.resize(noise, (SIDE, SIDE)), 0, 255).astype(np.uint8)
    for box, label in zip(boxes, labels, strict=True):
        colour = [int(value) for value in rng.integers(140, 256, 3)]
        thickness = int(rng.integers(2, 4))
        left, top, right, bottom = np.round(box).astype(int).tolist()
        if label:
            centre, half = (
                ((left + right) // 2, (top + bottom) // 2),
                ((right - left) // 2, (bottom - top) // 2),
            )
            cv2.ellipse(image, centre, half, 0, 0, 360, colour, thickness, cv2.LINE_AA)
        else:
            cv2.rectangle(image, (left, top), (right - 1, bottom - 1), colour, thickness)
    return image, np.round(boxes), labels


def _pair(rng: np.random.Generator, overlap: tuple[float, float]) -> np.ndarray:
    """Two boxes (2, 4) in the scene whose IoU is uniform in a range, up to 0.02."""
    wanted = rng.uniform(*overlap)
    while True:
        size = np.exp(rng.uniform(np.log(48), np.log(84), 2))
        first = rng.uniform(2, SIDE - 2 - size)
        one = np.concatenate([first, first + size])
        away = rng.normal(size=2)
        other_size = size * np.exp(rng.uniform(-0.1, 0.1, 2))
        # From the same centre outwards, until the overlap has fallen to what is wanted.
        for step in np.arange(0, 1.2, 0.01):
            middle = first + size / 2 + step * away / np.linalg.norm(away) * size
            other = np.concatenate([middle - other_size / 2, middle + other_size / 2])
            found = float(box_iou(one[None], other[None])[0, 0])
            if found <= wanted + 0.01:
                if found >= wanted - 0.02 and other.min() >= 2 and other.max() <= SIDE - 2:
                    return np.stack([one, other])
                break
