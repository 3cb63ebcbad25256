"""The law decode(paint(encode(x))) = x on KITTI's labels: AP of painted labels, and a name for every loss.

python benchmarks/painted_kitti.py DATA_DIR [--splits train,val] [--frames 500] [--centers box,projected]

DATA_DIR is made by `ctnet convert kitti`; images are not needed.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ctnet.data.dataset import Dataset
from ctnet.evaluation.painted import Painted, paint
from ctnet.inference.preprocessing import Preprocessor
from ctnet.records import Detections
from ctnet.targets import Grid
from ctnet.task import create_task
from ctnet_tasks_ddd.camera import wrap
from ctnet_tasks_ddd.overlaps import Shapes, overlaps

#: Overlap in space that the benchmark demands, by class.
DEMANDED = {"Car": 0.7, "Pedestrian": 0.5, "Cyclist": 0.5}


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
    """Print the figures of one split and one choice of the peak."""
    started = time.perf_counter()
    dataset = Dataset.open(arguments.data, split)
    task = create_task("ddd", dataset.categories, center=center)
    dataset = dataset.with_task(task)
    if arguments.frames:
        dataset = dataset.subset(np.linspace(0, len(dataset) - 1, arguments.frames).astype(int))
    width, height = (int(side) for side in arguments.size.split("x"))
    preprocess = Preprocessor("fix", (width, height), 32, task.fit)
    metric = "kitti" if arguments.iou == "strict" else f"kitti-{arguments.iou}"
    evaluator = task.evaluator(dataset, metric)
    causes: Counter[tuple[str, str]] = Counter()
    objects: Counter[str] = Counter()
    for index in range(len(dataset)):
        painted = paint(task, dataset, index, preprocess, topk=100)
        evaluator.update(dataset.info(index).image_id, painted.detections)
        truth = task.truth(painted.instances, dataset.info(index))
        shared = task.collides(painted.on_grid, Grid(height // 4, width // 4))[~painted.instances.crowd]
        for name, cause in explain(truth, painted, shared, task.class_names):
            objects[name] += 1
            causes[name, cause] += bool(cause)
    figures = evaluator.compute()
    print(f"center={center} {split}: {len(dataset)} frames, {time.perf_counter() - started:.0f} s")
    print(f"  {'R40, percent':22s}" + "".join(f"{d:>10s}" for d in ("easy", "moderate", "hard")))
    for name in task.class_names:
        for prefix in ("AP2D", "AOS", "APBEV", "AP3D"):
            keys = [f"{prefix}/{name}/{d}/R40" for d in ("easy", "moderate", "hard")]
            values = "".join(
                f"{100 * figures[key]:10.2f}" if key in figures else f"{'-':>10s}" for key in keys
            )
            print(f"  {name:11s}{prefix:11s}{values}")
    for (name, cause), count in sorted(causes.items(), key=lambda item: (item[0][0], -item[1])):
        if cause:
            share = f"{count} of {objects[name]} {name} ({100 * count / objects[name]:.2f} %)"
            print(f"    {share} below {DEMANDED[name]} in space: {cause}")


def explain(
    truth: Detections, painted: Painted, shared: np.ndarray, class_names: tuple[str, ...]
) -> Iterator[tuple[str, str]]:
    """Class and cause of loss of every object; an empty cause where it comes back.

    Args:
        truth: the annotated objects.
        painted: what became of them.
        shared: (N,) bool, objects whose peak's cell an earlier one has.
        class_names: name of each label.
    """
    found = painted.detections
    count, others = len(truth), len(found)
    if not count:
        return
    rows, columns = np.repeat(np.arange(count), others), np.tile(np.arange(others), count)
    share = np.zeros((count, others))
    if others:
        share = overlaps(_shapes(truth)[rows], _shapes(found)[columns])[2].reshape(count, others)
        share[truth.labels[:, None] != found.labels[None]] = 0
    for row in range(count):
        name = class_names[truth.labels[row]]
        if share[row].max(initial=0) > DEMANDED[name]:
            yield name, ""
            continue
        yield name, cause_of(truth, found, row, bool(shared[row]))


def cause_of(truth: Detections, found: Detections, row: int, shared: bool) -> str:
    """Why an object does not come back."""
    if shared:
        return "collision: an object of an earlier line has its peak in the same cell"
    candidates = np.flatnonzero(found.labels == truth.labels[row])
    same = [
        c
        for c in candidates
        if np.allclose(found.dimensions[c], truth.dimensions[row], atol=1e-3)
        and abs(found.depth[c] - truth.depth[row]) < 1e-2
    ]
    if not same:
        return "its peak is covered by a neighbour's of its class"
    best = min(same, key=lambda c: np.abs(found.location[c] - truth.location[row]).sum())
    beside = np.hypot(*(found.location[best] - truth.location[row])[:2])
    turned = abs(float(wrap(found.rotation_y[best] - truth.rotation_y[row])))
    if beside > 0.02:
        return "the ray to the box's centre passes the body's middle by more than 2 cm"
    return f"the labels' angles disagree (by {turned:.1f} rad)"


def _shapes(detections: Detections) -> Shapes:
    solid = [detections.location, detections.dimensions, detections.rotation_y[:, None]]
    return Shapes(
        np.zeros(len(detections), np.int64),
        np.asarray(detections.boxes, np.float64),
        np.concatenate([np.asarray(column, np.float64) for column in solid], axis=1),
    )


if __name__ == "__main__":
    main()
