"""The round trip of a task: decode(render(encode(x))) = x."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from ctnet.core.documents import truth_of
from ctnet.core.fields import differences, move_record
from ctnet.core.geometry import Affine, View
from ctnet.core.heads import Head
from ctnet.core.records import Detections
from ctnet.core.targets import CellTargets, DenseTargets, Grid, Target
from ctnet.inference.decoding import decode
from ctnet.inference.settings import DetectionSettings
from ctnet.testing.check import require
from ctnet.testing.probe import STRIDE, Probe, task_check

#: Tolerance of boxes, pixels.
_TOLERANCE = 0.01
_TOPK = 100
_FEW = 8
#: An enlarged image: its zoom, and the position of its corner, cells.
_ZOOM, _SHIFT, _MARGIN = 1.6, (1.3, 0.7), 4
#: Standard deviation of the noise in raw maps outside the targets' cells.
_LOUD = 3.0


@task_check("Task.encode, Task.decode, Head.render")
def the_round_trip_holds(probe: Probe) -> None:
    """decode(render(encode(x))) is x: all objects without collisions are recovered, with top scores."""
    task, kept_of_all, of_all = probe.task, 0, 0
    for seed, scene in enumerate(probe.scenes()):
        instances = scene.instances[~scene.instances.crowd]
        collides = task.collides(probe.on_grid(instances), probe.grid)
        of_all += len(instances)
        instances = instances[~collides]
        kept_of_all += len(instances)
        truth = truth_of(task, instances)
        maps = probe.render(task.encode(probe.on_grid(instances), probe.grid), probe.grid)
        view = View(scene.info, Affine.scaling(STRIDE))
        (found,) = decode(task, maps, [view], DetectionSettings(topk=_TOPK))
        _compare(probe, truth, found, f"in scene {seed} ")
    require(
        2 * kept_of_all >= of_all,
        f"{of_all - kept_of_all} of {of_all} objects of the example scenes collide according to the task",
    )


@task_check("Task.encode, Task.decode, CellTargets, DenseTargets")
def the_round_trip_holds_at_single_cells(probe: Probe) -> None:
    """Objects are recovered from maps that are noise outside the targets' cells and windows."""
    _round_trips(probe, 1, (0, 0), probe.grid, noisy=True)


@task_check("Task.encode, Task.decode, Task.fields")
def the_round_trip_holds_under_zoom(probe: Probe) -> None:
    """Objects are recovered from enlarged images, shifted by fractions of a cell."""
    width, height = (math.ceil(_ZOOM * side / STRIDE) + _MARGIN for side in probe.size)
    _round_trips(probe, _ZOOM, _SHIFT, Grid(height, width), noisy=False)


def _round_trips(probe: Probe, zoom: float, shift: tuple[float, float], grid: Grid, noisy: bool) -> None:
    """The round trip of a few scenes.

    Args:
        probe: the task.
        zoom: the zoom of the image.
        shift: (x, y), cells.
        grid: large enough for it.
        noisy: whether cells without targets are noise.
    """
    task = probe.task
    to_grid = Affine(np.array([[zoom / STRIDE, 0, shift[0]], [0, zoom / STRIDE, shift[1]]]))
    for seed, scene in enumerate(probe.scenes(_FEW)):
        instances = scene.instances[~scene.instances.crowd]
        on_grid = move_record(instances, to_grid, task.fields)
        comes_back = ~task.collides(on_grid, grid)
        targets = task.encode(on_grid[comes_back], grid)
        maps = probe.render(targets, grid)
        if noisy:
            maps = {name: _in_noise(task.heads[name], targets[name], maps[name]) for name in maps}
        (found,) = decode(task, maps, [View(scene.info, to_grid.inverse())], DetectionSettings(topk=_TOPK))
        _compare(probe, truth_of(task, instances[comes_back]), found, f"in scene {seed} ")


def _in_noise(head: Head, target: Target, rendered: Tensor) -> Tensor:
    """A rendered map with noise in all cells but those of ``CellTargets`` and ``DenseTargets``."""
    if not isinstance(target, (CellTargets, DenseTargets)):
        return rendered
    noise = torch.randn(rendered.shape, generator=torch.Generator().manual_seed(0))
    drowned = head.activate(_LOUD * noise)
    cells = target.unpacked() if isinstance(target, DenseTargets) else target
    at = (cells.batch, slice(None), cells.y, cells.x)
    drowned[at] = rendered[at]
    return drowned


def _compare(probe: Probe, truth: Detections, found: Detections, where: str) -> None:
    count = len(truth)
    first = found[:count]
    require(len(first) == count, f"{where}{count} objects gave {len(first)} detections")
    if len(found) > count and count:
        extra, lowest = float(found.scores[count]), float(first.scores.min())
        require(
            extra < lowest,
            f"{where}{count} objects gave more than {count} detections of score {lowest:.3g}",
        )
    left = np.ones(count, bool)
    for row in range(count):
        candidates = np.flatnonzero(left & (first.labels == truth.labels[row]))
        object_text = f"{where}object {row}, box {truth.boxes[row].round(2).tolist()},"
        require(len(candidates), f"{object_text} has no detection of its label {truth.labels[row]}")
        fields = probe.task.fields
        gaps = differences(fields, truth[np.full(len(candidates), row)], first[candidates])
        allowed = {name: fields[name].tolerance if name in fields else _TOLERANCE for name in gaps}
        excess = np.max([values / allowed[name] for name, values in gaps.items()], axis=0)
        best = int(excess.argmin())
        for name, values in gaps.items():
            require(
                values[best] <= allowed[name],
                f"{object_text} comes back with {name} off by {values[best]:.4g}, "
                f"more than {allowed[name]:g}: {_text(truth, row, name)} became "
                f"{_text(first, candidates[best], name)}",
            )
        left[candidates[best]] = False


def _text(record: Detections, row: int, name: str) -> str:
    column = record.fields().get(name)
    if column is None:
        return "it"
    return str(column[row] if column.dtype == object else np.round(column[row], 3).tolist())
