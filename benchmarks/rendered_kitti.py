"""The law decode(render(encode(x))) = x on KITTI's labels: AP of rendered labels, the cause of every loss.

python benchmarks/rendered_kitti.py DATA_DIR [--splits train,val] [--frames 500] [--centers box,projected]

DATA_DIR is made by `ctnet convert kitti`; images are not needed.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from pathlib import Path

import numpy as np

from ctnet.core.boxes import clip_boxes
from ctnet.core.documents import truth_of
from ctnet.core.records import Detections
from ctnet.core.targets import Grid
from ctnet.core.task import create_task
from ctnet.data.dataset import Dataset
from ctnet.evaluation.evaluators import evaluator_of
from ctnet.inference.preprocessing import Preprocessor
from ctnet.measuring.rendered import Rendered, render
from ctnet_tasks_ddd.camera import wrap
from ctnet_tasks_ddd.overlaps import Shapes, overlaps

#: 3D overlap that the benchmark requires, by class.
DEMANDED = {"Car": 0.7, "Pedestrian": 0.5, "Cyclist": 0.5}

BESIDE = "the ray to the box's centre passes the body's middle by more than 2 cm"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--splits", default="train,val")
    parser.add_argument("--frames", type=int, default=0, help="of each split, evenly spread; 0: all")
    parser.add_argument("--centers", default="box,projected")
    parser.add_argument("--size", default="1280x384", help="of the network input")
    parser.add_argument("--iou", default="strict", help="strict, shipped or half")
    arguments = parser.parse_args()
    for center in arguments.centers.split(","):
        for split in arguments.splits.split(","):
            measure(arguments, split, center)


def measure(arguments: argparse.Namespace, split: str, center: str) -> None:
    """Print the metrics of one split and one choice of the peak."""
    started = time.perf_counter()
    dataset = Dataset.open(arguments.data, split)
    task = create_task("ddd", dataset.categories, center=center)
    dataset = dataset.with_task(task)
    if arguments.frames:
        dataset = dataset.subset(np.linspace(0, len(dataset) - 1, arguments.frames).astype(int))
    width, height = (int(side) for side in arguments.size.split("x"))
    preprocess = Preprocessor("fix", (width, height), 32, task.layout.fit)
    metric = "kitti" if arguments.iou == "strict" else f"kitti-{arguments.iou}"
    evaluator = evaluator_of(task, dataset, metric)
    losses = Losses(task.categories.names)
    for index in range(len(dataset)):
        info = dataset.info(index)
        rendered = render(task, dataset, index, preprocess, topk=100)
        evaluator.update(info.image_id, rendered.detections)
        shared = task.collides(rendered.on_grid, Grid(height // 4, width // 4))[~rendered.instances.crowd]
        truth = truth_of(task, rendered.instances)
        cut = _cut(rendered, (width // 4, height // 4)), _partly_seen(truth, (info.width, info.height))
        losses.add(truth, rendered.detections, shared, *cut)
    figures = evaluator.compute()
    print(f"center={center} {split}: {len(dataset)} frames, {time.perf_counter() - started:.0f} s")
    print(f"  {'R40, percent':22s}" + "".join(f"{d:>10s}" for d in ("easy", "moderate", "hard")))
    for name in task.categories.names:
        for prefix in ("AP2D", "AOS", "APBEV", "AP3D"):
            keys = [f"{prefix}/{name}/{d}/R40" for d in ("easy", "moderate", "hard")]
            values = "".join(
                f"{100 * figures[key]:10.2f}" if key in figures else f"{'-':>10s}" for key in keys
            )
            print(f"  {name:11s}{prefix:11s}{values}")
    losses.print()


def _cut(rendered: Rendered, grid: tuple[int, int]) -> np.ndarray:
    """(N,) bool: which objects (no crowds) the last cells of the grid cut by more than half a cell."""
    boxes = rendered.on_grid.boxes[~rendered.instances.crowd]
    cut: np.ndarray = (np.abs(boxes - clip_boxes(boxes, *grid)) > 0.5).any(axis=1)
    return cut


def _partly_seen(truth: Detections, size: tuple[int, int]) -> np.ndarray:
    """(N,) bool: which bodies reach more than a pixel outside the image."""
    low, high = truth.corners.min(axis=1), truth.corners.max(axis=1)
    partly: np.ndarray = (low < -1).any(axis=1) | (high > np.array(size) + 1).any(axis=1)
    return partly


class Losses:
    """Counts the objects that are not recovered, in 2D and in 3D, by class and cause."""

    def __init__(self, class_names: tuple[str, ...]) -> None:
        self.class_names = class_names
        self.objects: Counter[str] = Counter()
        self.causes: Counter[tuple[str, str, str]] = Counter()

    def add(
        self,
        truth: Detections,
        found: Detections,
        shared: np.ndarray,
        cut: np.ndarray,
        partly_seen: np.ndarray,
    ) -> None:
        """Count the objects of one image.

        Args:
            truth: the annotated objects.
            found: what was decoded.
            shared: (N,) bool, objects whose peak is in the same cell as an earlier one's.
            cut: (N,) bool, objects whose boxes are not wholly on the grid.
            partly_seen: (N,) bool, objects whose bodies are not wholly in the image.
        """
        in_image, in_space = _overlaps(truth, found)
        for row in range(len(truth)):
            name = self.class_names[truth.labels[row]]
            self.objects[name] += 1
            if not in_space[row].max(initial=0) > DEMANDED[name]:
                cause = cause_of(truth, found, row, bool(shared[row]))
                if cause == BESIDE:
                    cause += "; the image cuts it" if partly_seen[row] else "; the image shows it whole"
                self.causes[name, "in space", cause] += 1
            if not in_image[row].max(initial=0) > DEMANDED[name]:
                cause = "cut at the last cell of the grid" if cut[row] else "another cause"
                if shared[row] or not _same_body(truth, found, row):
                    cause = cause_of(truth, found, row, bool(shared[row]))
                self.causes[name, "in the image", cause] += 1

    def print(self) -> None:
        """Class by class, the most frequent cause first."""
        print("  objects that fall short of the overlap demanded:")
        for (name, where, cause), count in sorted(
            self.causes.items(), key=lambda item: (item[0][:2], -item[1])
        ):
            share = f"{count} of {self.objects[name]} {name} ({100 * count / self.objects[name]:.2f} %)"
            print(f"    {share} {where}, {DEMANDED[name]}: {cause}")


def _overlaps(truth: Detections, found: Detections) -> tuple[np.ndarray, np.ndarray]:
    """Overlap (N, M) of every object with every detection of its class, in 2D and in 3D."""
    count, others = len(truth), len(found)
    rows, columns = np.repeat(np.arange(count), others), np.tile(np.arange(others), count)
    both = overlaps(_shapes(truth)[rows], _shapes(found)[columns])
    of_class = truth.labels[:, None] == found.labels[None]
    in_image, in_space = (np.where(of_class, both[i].reshape(count, others), 0) for i in (0, 2))
    return in_image, in_space


def cause_of(truth: Detections, found: Detections, row: int, shared: bool) -> str:
    """Why an object is not recovered in 3D."""
    if shared:
        return "collision: an object of an earlier line has its peak in the same cell"
    same = _same_body(truth, found, row)
    if not same:
        return "its peak is covered by a neighbour's of its class"
    best = min(same, key=lambda c: np.abs(found.location[c] - truth.location[row]).sum())
    beside = np.hypot(*(found.location[best] - truth.location[row])[:2])
    turned = abs(float(wrap(found.rotation_y[best] - truth.rotation_y[row])))
    if beside > 0.02:
        return BESIDE
    return f"the labels' angles disagree (by {turned:.1f} rad)"


def _same_body(truth: Detections, found: Detections, row: int) -> list[int]:
    """The detections that have the object's class, dimensions and depth."""
    return [
        c
        for c in np.flatnonzero(found.labels == truth.labels[row]).tolist()
        if np.allclose(found.dimensions[c], truth.dimensions[row], atol=1e-3)
        and abs(found.depth[c] - truth.depth[row]) < 1e-2
    ]


def _shapes(detections: Detections) -> Shapes:
    solid = [detections.location, detections.dimensions, detections.rotation_y[:, None]]
    return Shapes(
        np.zeros(len(detections), np.int64),
        np.asarray(detections.boxes, np.float64),
        np.concatenate([np.asarray(column, np.float64) for column in solid], axis=1),
    )


if __name__ == "__main__":
    main()
