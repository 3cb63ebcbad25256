"""Checks of ``Task.encode``."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ctnet.core.fields import move_record
from ctnet.core.geometry import Affine
from ctnet.core.heads import Head
from ctnet.core.targets import CellTargets, Grid, Peaks, Target
from ctnet.testing.check import require
from ctnet.testing.probe import STRIDE, Probe, task_check

_FEW = 12


@task_check("Task.encode")
def encode_stays_in_range(probe: Probe) -> None:
    """Targets of every head are finite, on the grid's cells and the head's channels, also for a cut scene."""
    width, height = probe.size
    grid = Grid(height // STRIDE, width // STRIDE)
    for seed, scene in enumerate(probe.scenes(_FEW)):
        whole = probe.on_grid(scene.instances)
        check_targets(probe.task.encode(whole, grid), probe.task.heads, grid, f"scene {seed}: ")
        for share in (-0.8, -0.3, 0.4):  # of the grid: most objects lie half outside, or wholly
            shift = Affine(np.array([[1.7, 0, share * grid.width], [0, 1.7, share * grid.height]]))
            cut = move_record(whole, shift, probe.task.fields)
            where = f"scene {seed}, enlarged 1.7 times and moved by {share} of the grid: "
            check_targets(probe.task.encode(cut, grid), probe.task.heads, grid, where)


def check_targets(targets: Mapping[str, Target], heads: Mapping[str, Head], grid: Grid, where: str) -> None:
    """Refuse targets that the engine cannot use; ``where`` begins the message."""
    require(
        set(targets) == set(heads), f"{where}targets are for {sorted(targets)}, heads are {sorted(heads)}"
    )
    for name, target in targets.items():
        place = f"{where}head {name!r} has "
        require((target.batch == 0).all(), f"{place}rows of another image than the one encoded")
        for axis, size in (("x", grid.width), ("y", grid.height)):
            value = getattr(target, axis)
            require(value.isfinite().all(), f"{place}{axis} that is NaN or infinite")
            require(
                ((value >= 0) & (value < size)).all(),
                f"{place}{axis} {value.tolist()}, beyond a grid {size} cells long",
            )
        if isinstance(target, Peaks):
            _check_peaks(target, heads[name], place)
        else:
            require(
                isinstance(target, CellTargets),
                f"{place}a {type(target).__name__}, neither Peaks nor CellTargets",
            )
            _check_samples(target, heads[name], place)


def _check_peaks(target: Peaks, head: Head, place: str) -> None:
    inside = (target.channel >= 0) & (target.channel < head.channels)
    require(inside.all(), f"{place}channels {target.channel.tolist()}, and there are {head.channels}")
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


@task_check("Task.encode")
def encode_takes_an_empty_image(probe: Probe) -> None:
    """An image without objects is encoded to targets without rows, which render finite maps."""
    nothing = probe.on_grid(probe.scenes(1)[0].instances[:0])
    targets = probe.task.encode(nothing, probe.grid)
    check_targets(targets, probe.task.heads, probe.grid, "")
    for name, rendered in probe.render(targets, probe.grid).items():
        require(len(targets[name]) == 0, f"head {name!r} has {len(targets[name])} rows")
        require(rendered.isfinite().all(), f"head {name!r} renders NaN or infinities")


@task_check("Task.encode")
def encode_leaves_instances_alone(probe: Probe) -> None:
    """encode changes nothing of the instances that it is given."""
    instances = probe.on_grid(probe.scenes(1)[0].instances)
    before = {name: column.copy() for name, column in instances.fields().items()}
    probe.task.encode(instances, probe.grid)
    for name, column in before.items():
        same = np.array_equal(instances.fields()[name], column, equal_nan=column.dtype.kind == "f")
        require(same, f"field {name!r} was changed in place")
