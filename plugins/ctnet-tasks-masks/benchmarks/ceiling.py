"""What limits the masks of a perfect network, cause by cause.

    python plugins/ctnet-tasks-masks/benchmarks/ceiling.py DATA [SPLIT ...]

Annotations are encoded, rendered, decoded and evaluated, as they are and with one cause taken away at a time.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from ctnet_tasks_masks import targets, windows

from ctnet.base.output import print_table
from ctnet.core.fields import move_record
from ctnet.core.geometry import View
from ctnet.core.records import Detections
from ctnet.core.targets import Grid
from ctnet.core.task import Task, create_task
from ctnet.data.dataset import Dataset, open_splits
from ctnet.evaluation.evaluators import evaluator_of
from ctnet.inference.decoding import decode, joined
from ctnet.inference.preprocessing import Preprocessor
from ctnet.inference.settings import DetectionSettings

SIZE = 512


@contextmanager
def setting(module: Any, name: str, value: int) -> Iterator[None]:
    """A module's constant changed for a while."""
    before = getattr(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, before)


def found_in(task: Task, dataset: Dataset, index: int, side: int, alone: bool) -> Detections:
    """What a perfect network finds in an image: all objects at once, or each as if it were alone."""
    info, instances = dataset.info(index), dataset.instances(index)
    affine, (width, height) = Preprocessor("fix", (side, side), 32).geometry(info.width, info.height)
    view = View.through(info, affine, 4)
    grid = Grid(height // 4, width // 4)
    on_grid = move_record(instances, view.affine.inverse(), task.fields)
    on_grid = on_grid[~on_grid.crowd]
    parts = [on_grid[row : row + 1] for row in range(len(on_grid))] if alone else [on_grid]
    if not len(on_grid):
        return annotated(dataset, index)
    looks = []
    for part in parts:
        targets_of = task.encode(part, grid)
        maps = {name: head.render(targets_of[name], grid) for name, head in task.heads.items()}
        looks += decode(task, maps, [view], DetectionSettings(topk=len(part), score=0.5))
    return joined(looks)


def annotated(dataset: Dataset, index: int) -> Detections:
    """The annotated masks themselves."""
    instances = dataset.instances(index)
    kept = instances[~instances.crowd]
    return Detections(kept.boxes, np.ones(len(kept)), kept.labels, {"mask": kept.mask})


def row_of(name: str, dataset: Dataset, task: Task, side: int = SIZE, alone: bool = False) -> list[object]:
    """A row of the table."""
    masks, boxes = (evaluator_of(task, dataset, metric) for metric in ("segm", "coco"))
    for index in range(len(dataset)):
        found = annotated(dataset, index) if not side else found_in(task, dataset, index, side, alone)
        for evaluator in (masks, boxes):
            evaluator.update(dataset.info(index).image_id, found)
    figures = masks.compute()
    shown = [figures.get(each, float("nan")) for each in ("AP", "AP50", "AP75", "APS", "APM", "APL")]
    return [name, *(round(100 * value, 1) for value in [*shown, boxes.compute()["AP"]])]


def main() -> None:
    """Print the table of each split."""
    data, *splits = sys.argv[1:]
    for split in splits or ["val2017"]:
        dataset = open_splits(Path(data), split, "masks")[0]
        task = create_task("masks", dataset.categories)
        rows = [row_of("annotated masks", dataset, task, side=0), row_of("rendered", dataset, task)]
        for name, module, constant, value in (
            ("flags of whole cells", targets, "FINE", 1),
            ("flags of half cells", targets, "FINE", 2),
            ("flags of eighths of cells", targets, "FINE", 8),
            ("windows of 32 samples", windows, "SIDE", 32),
            ("windows of 128 samples", windows, "SIDE", 128),
        ):
            with setting(module, constant, value):
                rows.append(row_of(name, dataset, task))
        rows.append(row_of("each object alone", dataset, task, alone=True))
        rows.append(row_of("input of 1024", dataset, task, side=1024))
        rows.append(row_of("input of 1024, each alone", dataset, task, side=1024, alone=True))
        print_table(["", "AP", "AP50", "AP75", "APS", "APM", "APL", "box AP"], rows)


if __name__ == "__main__":
    main()
