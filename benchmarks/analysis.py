"""Counting collisions and unmatched anchors on as many boxes as COCO's train2017 has, on one core.

    python benchmarks/analysis.py [--images 118287] [--json]

The annotations are made in memory: 860,001 boxes over 118,287 images, about three classes per image, so that
objects of a class meet as they do in COCO. Every count runs in a process of its own, and again on a few
images next to the naive way, which must give the same figures: a double loop over the objects of an image
for collisions, pycocotools over every anchor at every position for anchors, as in the authors' tool.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from open_dataset import BOXES_PER_IMAGE, IMAGES, peak, resident
from pycocotools import mask

from ctnet.analysis import count_collisions, count_unmatched_anchors
from ctnet.analysis.anchors import ANCHOR_RATIOS, ANCHOR_SIZES, anchor_shapes
from ctnet.data.coco import CocoFile
from ctnet.data.columns import Columns
from ctnet.data.dataset import Dataset

CLASSES = 80
SIDES = np.array([(640, 480), (480, 640), (640, 427), (500, 375), (640, 640)])


def make_dataset(images: int, boxes: int) -> Dataset:
    """Random annotations, as if they had been read from a file."""
    rng = np.random.default_rng(0)
    crowded = rng.gamma(0.8, size=images)  # most images hold a few objects, some dozens
    image = np.sort(rng.choice(images, boxes, p=crowded / crowded.sum()))
    sides = SIDES[rng.integers(0, len(SIDES), images)]
    classes = rng.integers(1, CLASSES + 1, (images, 3))
    size = np.exp(rng.normal(np.log(50), 1, (boxes, 2))).clip(2, 0.95 * sides[image])
    corner = rng.uniform(0, 1, (boxes, 2)) * (sides[image] - size)
    area = size.prod(axis=1) * rng.uniform(0.3, 1, boxes)
    names = [f"{number}.jpg".encode() for number in range(images)]
    columns = Columns(
        category_json=np.frombuffer(
            json.dumps([{"id": i, "name": f"thing {i}"} for i in range(1, CLASSES + 1)]).encode(), np.uint8
        ),
        image_ids=np.arange(images),
        widths=sides[:, 0].astype(np.int32),
        heights=sides[:, 1].astype(np.int32),
        image_ranges=np.zeros((images, 2), np.int64),
        names=np.frombuffer(b"".join(names), np.uint8),
        name_ends=np.cumsum([0, *map(len, names)]),
        repeated_images=np.zeros(0, np.int64),
        first=np.searchsorted(image, np.arange(images + 1)),
        annotation_ids=np.arange(1, boxes + 1),
        image_index=image.astype(np.int32),
        category_ids=classes[image, rng.integers(0, 3, boxes)],
        boxes=np.concatenate([corner, size], axis=1).round(2),
        areas=area,
        crowd=rng.random(boxes) < 0.012,
        errors=np.zeros(boxes, np.uint8),
        annotation_ranges=np.zeros((boxes, 2), np.int64),
    )
    coco = CocoFile(Path("in memory"), columns, "", (0, 0), cache=False)
    return Dataset(coco, (), np.arange(images), split="synthetic")


# --- the two counts, each next to the naive way


def collisions(dataset: Dataset) -> dict[str, int]:
    return {kind: count.pairs for kind, count in count_collisions(dataset).total.collisions.items()}


def double_loop(dataset: Dataset) -> dict[str, int]:
    counts = Counter({"center": 0, "iou>0.7": 0, "iou>0.5": 0})
    for index in range(len(dataset)):
        rows = dataset.coco.rows(dataset.rows[index])
        rows = rows[~dataset.coco.crowd[rows]]
        objects = zip(
            dataset.coco.category_ids[rows].tolist(), dataset.coco.boxes[rows].tolist(), strict=True
        )
        for (category, first), (other, second) in itertools.combinations(objects, 2):
            if category == other:
                counts["center"] += cell(first) == cell(second)
                overlap = iou(first, second)
                counts["iou>0.7"] += overlap > 0.7
                counts["iou>0.5"] += overlap > 0.5
    return dict(counts)


def cell(box: list[float]) -> tuple[float, float]:
    x, y, width, height = box
    return (x + width / 2) // 4, (y + height / 2) // 4


def iou(first: list[float], second: list[float]) -> float:
    (ax, ay, aw, ah), (bx, by, bw, bh) = first, second
    across = max(min(ax + aw, bx + bw) - max(ax, bx) + 1, 0)
    shared = across * max(min(ay + ah, by + bh) - max(ay, by) + 1, 0)
    return shared / ((aw + 1) * (ah + 1) + (bw + 1) * (bh + 1) - shared)


def anchors(dataset: Dataset) -> dict[str, int]:
    return {count.name: count.unmatched for count in count_unmatched_anchors(dataset).by_size}


def every_anchor(dataset: Dataset) -> dict[str, int]:
    coco = dataset.coco
    shapes = anchor_shapes(ANCHOR_SIZES, ANCHOR_RATIOS, 16)
    counts = [0, 0, 0]
    for image in dataset.rows:
        rows = coco.rows(image)
        side = np.array([coco.widths[image], coco.heights[image]], np.int64)
        points = [7.5 + 16 * np.arange(length * 800 // side.min() // 16) for length in side]
        centers = np.stack(np.meshgrid(*points), axis=-1).reshape(-1, 1, 2)
        sizes = np.broadcast_to(shapes, (len(centers), *shapes.shape))
        everywhere = np.concatenate([centers - shapes / 2, sizes], axis=2).reshape(-1, 4)
        if len(rows):
            crowd = coco.crowd[rows].astype(int)
            overlaps = mask.iou(everywhere, coco.boxes[rows] * (800 / side.min()), crowd)
            for row in rows[overlaps.max(axis=0) < 0.5]:
                counts[int(coco.areas[row] >= 32**2) + int(coco.areas[row] >= 96**2)] += 1
    return dict(zip(("small", "medium", "large"), counts, strict=True))


Count = Callable[[Dataset], dict[str, int]]

#: By name: ours, the naive way, and the number of images on which the latter is fast enough.
MEASUREMENTS: dict[str, tuple[Count, Count, int]] = {
    "collisions": (collisions, double_loop, 10_000),
    "anchors": (anchors, every_anchor, 200),
}


def timed(count: Count, dataset: Dataset) -> tuple[dict[str, int], float]:
    started = time.perf_counter()
    counts = count(dataset)
    return counts, time.perf_counter() - started


def measure(name: str, images: int, boxes: int) -> dict[str, Any]:
    """Seconds and memory of one count; the memory includes the annotations and the imports."""
    ours, obvious, few = MEASUREMENTS[name]
    dataset = make_dataset(images, boxes)
    before = resident()
    counts, seconds = timed(ours, dataset)
    most = peak()
    subset = dataset.subset(np.arange(0, images, max(images // few, 1)))
    fast, fast_seconds = timed(ours, subset)
    slow, slow_seconds = timed(obvious, subset)
    if fast != slow:
        raise SystemExit(f"{name} differ: {fast}, the obvious way {slow}")
    return {
        "counts": counts,
        "seconds": seconds,
        "before_mb": before,
        "peak_mb": most,
        "subset_images": len(subset),
        "subset_seconds": fast_seconds,
        "obvious_seconds": slow_seconds,
        "ratio": slow_seconds / fast_seconds,
    }


def run_alone(name: str, images: int) -> dict[str, Any]:
    """Measure in a fresh process, on one thread."""
    command = [sys.executable, __file__, "--images", str(images), "--measure", name]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    return dict(json.loads(done.stdout))


def report(name: str, figures: dict[str, Any]) -> None:
    counts = ", ".join(f"{key} {value}" for key, value in figures["counts"].items())
    print(f"{name}: {figures['seconds']:.2f} s, peak {figures['peak_mb']:.0f} MB")
    print(f"  ({figures['before_mb']:.0f} MB before: imports and annotations)   {counts}")
    print(
        f"  {figures['subset_images']} images: {figures['subset_seconds']:.3f} s, the obvious way "
        f"{figures['obvious_seconds']:.2f} s, ratio {figures['ratio']:.0f}, the same figures"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=IMAGES)
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument("--measure", choices=MEASUREMENTS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    boxes = round(arguments.images * BOXES_PER_IMAGE)
    if arguments.measure:
        print(json.dumps(measure(arguments.measure, arguments.images, boxes)))
        return
    results = {name: run_alone(name, arguments.images) for name in MEASUREMENTS}
    if arguments.json:
        print(json.dumps({"images": arguments.images, "boxes": boxes, **results}, indent=2))
        return
    from timing import machine

    print(machine())
    print(f"{boxes} boxes over {arguments.images} images, counted on one thread")
    for name, figures in results.items():
        report(name, figures)


if __name__ == "__main__":
    main()
