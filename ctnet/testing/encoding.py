"""Checks of ``Task.encode``."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import get_args, get_type_hints

import numpy as np
import torch

from ctnet.core.documents import annotations_of, instances_of
from ctnet.core.fields import move_record
from ctnet.core.geometry import Affine
from ctnet.core.heads import Head
from ctnet.core.records import Instances
from ctnet.core.targets import CellTargets, DenseTargets, Grid, Peaks, Target
from ctnet.testing.check import require
from ctnet.testing.dataset import Entries, crowd_of, image_record
from ctnet.testing.probe import STRIDE, Probe, task_check

_FEW = 12
#: Cells (x, y) by which a scene is moved in a larger grid.
_ASIDE = (5, 7)
#: Cells between the border and the centre of an object that is cut by the border.
_INSIDE = 1.3


@task_check("Task.encode")
def encode_stays_in_range(probe: Probe) -> None:
    """Every head's targets are finite and within the grid and its channels, also for a cropped scene."""
    width, height = probe.size
    grid = Grid(height // STRIDE, width // STRIDE)
    for seed, scene in enumerate(probe.scenes(_FEW)):
        whole = probe.on_grid(scene.instances)
        check_targets(probe.task.encode(whole, grid), probe.task.heads, grid, f"scene {seed}: ")
        for share in (-0.8, -0.3, 0.4):  # of the grid: most objects are partly or entirely outside
            shift = Affine(np.array([[1.7, 0, share * grid.width], [0, 1.7, share * grid.height]]))
            cut = move_record(whole, shift, probe.task.fields)
            where = f"scene {seed}, enlarged 1.7 times and moved by {share} of the grid: "
            check_targets(probe.task.encode(cut, grid), probe.task.heads, grid, where)


def check_targets(targets: Mapping[str, Target], heads: Mapping[str, Head], grid: Grid, where: str) -> None:
    """Refuse targets that the engine cannot use; messages start with ``where``."""
    require(
        set(targets) == set(heads), f"{where}targets are for {sorted(targets)}, heads are {sorted(heads)}"
    )
    for name, target in targets.items():
        place = f"{where}head {name!r} has "
        require((target.batch == 0).all(), f"{place}rows of a different image")
        for axis, size in (("x", grid.width), ("y", grid.height)):
            value = getattr(target, axis)
            require(value.isfinite().all(), f"{place}{axis} that is NaN or infinite")
            require(
                ((value >= 0) & (value < size)).all(),
                f"{place}{axis} {value.tolist()}, outside a grid of {size} cells",
            )
        if isinstance(target, Peaks):
            _check_peaks(target, heads[name], place)
        elif isinstance(target, DenseTargets):
            _check_windows(target, grid, place)
        else:
            require(
                isinstance(target, CellTargets),
                f"{place}a {type(target).__name__}, none of Peaks, CellTargets and DenseTargets",
            )
            _check_samples(target, heads[name], place)


def _check_peaks(target: Peaks, head: Head, place: str) -> None:
    inside = (target.channel >= 0) & (target.channel < head.channels)
    require(inside.all(), f"{place}channels {target.channel.tolist()}, but there are {head.channels}")
    require((target.radius >= 0).all(), f"{place}a negative radius")
    cells = int(((2 * target.radius + 1) ** 2).sum())
    require(target.cells == cells, f"{place}cells {target.cells}, but its radii cover {cells}")


def _check_samples(target: CellTargets, head: Head, place: str) -> None:
    shape = (len(target), head.channels)
    for column in ("value", "weight"):
        value = getattr(target, column)
        require(tuple(value.shape) == shape, f"{place}{column} of shape {tuple(value.shape)}, not {shape}")
        require(value.isfinite().all(), f"{place}{column} that is NaN or infinite")
    require((target.weight >= 0).all(), f"{place}a negative weight")


def _check_windows(target: DenseTargets, grid: Grid, place: str) -> None:
    for first, side, size in ((target.x, target.width, grid.width), (target.y, target.height, grid.height)):
        inside = (side > 0) & (first + side <= size)
        ends = (first + side)[~inside].tolist()
        require(inside.all(), f"{place}windows that are empty or end at {ends} of {size} cells")
    cells = int((target.width * target.height).sum())
    require(target.cells == cells, f"{place}cells {target.cells}, but its windows have {cells}")
    lengths = target.width * target.height
    rows = int(((lengths + 7) // 8).sum()) if target.value.dtype == torch.uint8 else cells
    require(len(target.value) == rows, f"{place}{len(target.value)} rows of values for {rows}")
    values = target.unpacked().value
    require(values.isfinite().all(), f"{place}values that are NaN or infinite")
    usable = target.weight.isfinite() & (target.weight >= 0)
    require(usable.all(), f"{place}a weight that is negative, NaN or infinite")


@task_check("Task.encode")
def targets_move_with_their_cells(probe: Probe) -> None:
    """Encoded in a part of a larger grid, and moved there, objects have the targets of the larger grid."""
    height, width, _ = probe.grid
    x, y = _ASIDE
    larger = Grid(height + y + 2, width + x + 3)
    for seed, scene in enumerate(probe.scenes(_FEW // 2)):
        # Half as large and in the middle, so that no border cuts anything.
        inside = probe.moved(probe.on_grid(scene.instances), 0.5, (width / 4, height / 4))
        here = probe.task.encode(inside, probe.grid)
        there = probe.task.encode(probe.moved(inside, 1, _ASIDE), larger)
        for name, target in here.items():
            for one, other in zip(target.moved(x, y).columns(), there[name].columns(), strict=True):
                same = one.shape == other.shape and torch.allclose(one.double(), other.double(), atol=1e-3)
                require(
                    same,
                    f"those of head {name!r} in scene {seed} are others: values must be relative to their "
                    "cells, as mosaics need it",
                )


@task_check("Task.encode, Task.cells")
def objects_have_peaks_in_their_cells(probe: Probe) -> None:
    """Every object has a peak in its cell, also if it is partly outside the grid."""
    for seed, scene in enumerate(probe.scenes(_FEW // 2)):
        instances = probe.on_grid(scene.instances[~scene.instances.crowd])
        _check_cells(probe, instances, f"scene {seed}: ", whole=True)
        for row in range(min(len(instances), 2)):
            for where, shifted in _at_borders(probe, instances, row):
                _check_cells(probe, shifted, f"scene {seed}, moved to the {where} border: ", whole=False)


def _at_borders(probe: Probe, instances: Instances, row: int) -> Iterator[tuple[str, Instances]]:
    """A scene moved so that the centre of one object's box is just inside each border of the grid."""
    x, y = (instances.boxes[row, :2] + instances.boxes[row, 2:]) / 2
    last_x, last_y = probe.grid.width - 1, probe.grid.height - 1
    yield "left", probe.moved(instances, 1, (_INSIDE - x, 0))
    yield "right", probe.moved(instances, 1, (last_x - _INSIDE - x, 0))
    yield "upper", probe.moved(instances, 1, (0, _INSIDE - y))
    yield "lower", probe.moved(instances, 1, (0, last_y - _INSIDE - y))


def _check_cells(probe: Probe, instances: Instances, where: str, whole: bool) -> None:
    """Compare ``Task.cells`` with the heads' peaks; only fully visible objects must be positives."""
    grid = probe.grid
    cells = probe.task.cells(instances, grid)
    middle = (instances.boxes[:, :2] + instances.boxes[:, 2:]) / 2
    inside = ((middle >= 1) & (middle < [grid.width - 2, grid.height - 2])).all(axis=1)
    taught = _cells_of_peaks(probe.task.encode(instances, grid), whole)
    for row, cell in enumerate(map(tuple, cells.tolist())):
        what = f"{where}object {row}, whose box is {instances.boxes[row].round(2).tolist()} on the grid, "
        require(min(cell) >= 0 or not inside[row], f"{what}has no cell")
        require(
            min(cell) < 0 or any(cell in head for head in taught.values()),
            f"{what}has the cell {cell}, but heads {', '.join(taught)} have no "
            f"{'positive ' if whole else ''}peak there",
        )


def _cells_of_peaks(targets: Mapping[str, Target], positive: bool) -> dict[str, set[tuple[int, int]]]:
    """The cells (x, y) of the peaks of every heatmap, by head."""
    cells = {}
    for name, target in targets.items():
        if isinstance(target, Peaks):
            counts = target.positive if positive else torch.ones_like(target.positive)
            points = torch.stack([target.x[counts], target.y[counts]], dim=1).floor().long()
            cells[name] = {(x, y) for x, y in points.tolist()}
    return cells


@task_check("Task.encode, Task.Options")
def crowds_follow_their_option(probe: Probe) -> None:
    """A crowd region is not a target, unless the task has an option ``crowd`` set to "positive"."""
    kind, chosen = type(probe.task), dataclasses.asdict(probe.task.options)
    tasks = [probe.task]
    if "ignore" in get_args(get_type_hints(kind.Options).get("crowd")):
        tasks.append(kind(probe.task.categories, **{**chosen, "crowd": "ignore"}))
    for task in tasks:
        wanted = getattr(task.options, "crowd", "ignore") == "positive"
        for seed, scene in enumerate(probe.scenes(_FEW // 2)):
            if not len(scene.instances):
                continue
            entries = annotations_of(task, crowd_of(probe, scene.instances))
            region = instances_of(task, Entries(entries), image_record(scene))
            targets = task.encode(probe.on_grid(region), probe.grid)
            where = f"a crowd region in scene {seed}: "
            check_targets(targets, task.heads, probe.grid, where)
            _check_crowd(targets, where, wanted)


def _check_crowd(targets: Mapping[str, Target], where: str, wanted: bool) -> None:
    heatmaps = {name: target for name, target in targets.items() if isinstance(target, Peaks)}
    learnt = [name for name, target in heatmaps.items() if target.positive.any()]
    if wanted:
        require(learnt, f'{where}no head has a positive peak, although option crowd is "positive"')
        return
    require(not learnt, f"{where}it is a positive peak of head {', '.join(learnt)}")
    for name, target in targets.items():
        if isinstance(target, (CellTargets, DenseTargets)):
            require(not (target.weight > 0).any(), f"{where}head {name!r} learns values of it")


@task_check("Task.encode")
def encode_takes_an_empty_image(probe: Probe) -> None:
    """An image without objects has targets without rows, which render to finite maps."""
    nothing = probe.on_grid(probe.scenes(1)[0].instances[:0])
    targets = probe.task.encode(nothing, probe.grid)
    check_targets(targets, probe.task.heads, probe.grid, "")
    for name, rendered in probe.render(targets, probe.grid).items():
        require(len(targets[name]) == 0, f"head {name!r} has {len(targets[name])} rows")
        require(rendered.isfinite().all(), f"head {name!r} renders NaN or infinities")


@task_check("Task.encode, Task.fields")
def encode_takes_missing_values(probe: Probe) -> None:
    """Annotations without optional fields are encoded to valid targets."""
    task = probe.task
    absent = [field.json for field in task.fields.values() if field.json and field.needed == "never"]
    for seed, scene in enumerate(probe.scenes(_FEW // 2)):
        entries = annotations_of(task, scene.instances)
        for entry in entries:
            for path in absent:
                *groups, key = path.split(".")
                for group in groups:
                    entry = entry.get(group, {})
                entry.pop(key, None)
        instances = instances_of(task, Entries(entries), image_record(scene))
        targets = task.encode(probe.on_grid(instances), probe.grid)
        check_targets(targets, task.heads, probe.grid, f"scene {seed} without {', '.join(absent)}: ")


@task_check("Task.encode")
def encode_leaves_instances_alone(probe: Probe) -> None:
    """encode does not change its instances."""
    instances = probe.on_grid(probe.scenes(1)[0].instances)
    before = {name: column.copy() for name, column in instances.fields().items()}
    probe.task.encode(instances, probe.grid)
    for name, column in before.items():
        same = np.array_equal(instances.fields()[name], column, equal_nan=column.dtype.kind == "f")
        require(same, f"field {name!r} was changed in place")
