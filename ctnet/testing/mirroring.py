"""Checks of mirroring: of instances, of maps, and that both agree."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ctnet.core.fields import Points, differences, mirror_record, move_record
from ctnet.core.geometry import Affine
from ctnet.core.heads import mirror_maps
from ctnet.core.records import Instances
from ctnet.core.targets import CellTargets, Grid
from ctnet.core.task import Task
from ctnet.testing.check import require
from ctnet.testing.probe import Probe, task_check

_FEW = 12
_FEWER = 4
#: (x, y), cells.
_FRACTIONS = ((0.25, 0.5), (0.875, 0.25))
#: Points are moved to multiples of this: mirroring then maps cells to cells, also for means of four points.
_RASTER = 4


def mirror_image(task: Task, instances: Instances, width: float) -> Instances:
    """Instances of the mirrored image, in a frame ``width`` pixels (or cells) wide."""
    return mirror_record(move_record(instances, Affine.mirror(width), task.fields), task.fields)


@task_check("Task.fields")
def mirror_of_mirror_is_the_identity(probe: Probe) -> None:
    """Instances mirrored twice are unchanged."""
    width = probe.size[0]
    for seed, scene in enumerate(probe.scenes(_FEW)):
        once = mirror_image(probe.task, scene.instances, width)
        twice = mirror_image(probe.task, once, width)
        for name, gap in differences(probe.task.fields, scene.instances, twice).items():
            before, after = (record.fields()[name].tolist() for record in (scene.instances, twice))
            require((gap <= 1e-3).all(), f"scene {seed}: {name} {before} became {after}")


@task_check("Task.fields")
def mirror_moves_every_point(probe: Probe) -> None:
    """Mirroring maps x to width - 1 - x for every point of an instance, and keeps y."""
    width = probe.size[0]
    for seed, scene in enumerate(probe.scenes(_FEW)):
        mirrored = mirror_image(probe.task, scene.instances, width)
        for name in _point_columns(probe.task):
            before, after = (_points(record.fields()[name]) for record in (scene.instances, mirrored))
            expected = np.stack([width - 1 - before[..., 0], before[..., 1]], axis=-1)
            if name == "boxes":  # two corners, of which the left one must stay left
                expected = np.stack([expected.min(axis=1), expected.max(axis=1)], axis=1)
            # Left and right may be swapped, so the points of an instance are compared as a set.
            same = np.allclose(_sorted(after), _sorted(expected), atol=1e-3)
            require(same, f"scene {seed}: {name} {before.tolist()} became {after.tolist()}, width {width}")


def _point_columns(task: Task) -> tuple[str, ...]:
    """Columns of points: the box, and the declared ones."""
    return ("boxes", *(name for name, field in task.fields.items() if isinstance(field, Points)))


def _points(column: np.ndarray) -> np.ndarray:
    """(N, P, 2)."""
    return column.reshape(len(column), -1, 2)


def _sorted(points: np.ndarray) -> np.ndarray:
    """The points of every instance sorted by x, then y."""
    keys = np.round(points[..., 0].astype(float)) * 1e6 + points[..., 1]
    order = np.argsort(keys, axis=1)
    return np.take_along_axis(points, order[..., None], axis=1)


@task_check("Head.mirror, Head.twin")
def head_mirror_of_mirror_is_the_identity(probe: Probe) -> None:
    """A map mirrored twice is unchanged, and keeps its shape."""
    plain = probe.random_maps(2)
    mirrored = mirror_maps(probe.task.heads, plain)
    require(
        set(mirrored) == set(probe.task.heads),
        f"it returns maps of {sorted(mirrored)}, heads are {sorted(probe.task.heads)}",
    )
    whole = {name: plain[name] if once is None else once for name, once in mirrored.items()}
    for name, twice in mirror_maps(probe.task.heads, whole).items():
        maps, once = plain[name], mirrored[name]
        if once is None:
            continue
        require(once.shape == maps.shape, f"head {name!r} turns {tuple(maps.shape)} into {tuple(once.shape)}")
        require(twice is not None and torch.allclose(twice, maps, atol=1e-6), f"head {name!r} does not")


@task_check("Head.mirror, Head.twin, Task.fields")
def encode_commutes_with_mirroring(probe: Probe) -> None:
    """The targets of a mirrored scene are the mirrored maps of the scene, for every head with a mirror."""
    width, height = (-(-side // _RASTER) * _RASTER + 1 for side in probe.size)
    grid = Grid(height, width)
    for seed, scene in enumerate(probe.scenes(_FEW)):
        instances = _on_raster(scene.instances, _point_columns(probe.task))
        plain = probe.render(probe.task.encode(instances, grid), grid)
        mirrored = probe.task.encode(mirror_image(probe.task, instances, grid.width), grid)
        for name, expected in mirror_maps(probe.task.heads, plain).items():
            if expected is None:
                continue
            head, target = probe.task.heads[name], mirrored[name]
            if isinstance(target, CellTargets):
                lag = expected.new_tensor(head.lag or (0.0,))
                got, expected = _at_lone_samples(target, expected + lag[:, None, None])
            else:
                got = head.render(target, grid)
            difference = (got - expected).abs()
            require(
                got.numel() == 0 or difference.max() <= 1e-3,
                f"head {name!r} differs by {difference.max() if got.numel() else 0:.3g} in scene {seed}: "
                "encode(mirrored x) is not mirror(render(encode(x)))",
            )


@task_check("Head.mirror, Head.twin")
def mirrored_values_hold_at_fractions(probe: Probe) -> None:
    """Values of a mirrored map are right, or have a constant error, at any fraction of a cell."""
    width, height = (-(-side // _RASTER) * _RASTER + 2 * _RASTER + 1 for side in probe.size)
    grid = Grid(height, width)
    for seed, scene in enumerate(probe.scenes(_FEWER)):
        whole = _on_raster(scene.instances, _point_columns(probe.task))
        one, other = (_excess(probe, probe.moved(whole, 1, shift), grid) for shift in _FRACTIONS)
        for name, gap in one.items():
            if gap.shape != other[name].shape:
                continue
            change = (other[name] - gap).abs().max().item() if gap.numel() else 0.0
            require(
                change <= 1e-3,
                f"scene {seed}, shifted by {_FRACTIONS[0]} and by {_FRACTIONS[1]} cells: errors of the "
                f"mirrored map of head {name!r} differ by {change:.3g}; is it symmetric?",
            )


def _excess(probe: Probe, instances: Instances, grid: Grid) -> dict[str, Tensor]:
    """Mirrored map minus mirrored target, where no two samples share a cell."""
    task = probe.task
    plain, mirrored = (
        task.encode(some, grid) for some in (instances, mirror_image(task, instances, grid.width))
    )
    read = {name: target for name, target in plain.items() if isinstance(target, CellTargets)}
    heads = {name: task.heads[name] for name in read}
    heads = {name: head for name, head in heads.items() if (head.twin or name) in heads}
    maps = {name: head.render(read[name], grid) for name, head in heads.items()}
    excess = {}
    for name, values in mirror_maps(heads, maps).items():
        target = mirrored[name]
        if values is not None and isinstance(target, CellTargets):
            said, seen = _at_lone_samples(target, values)
            excess[name] = seen - said
    return excess


def _on_raster(instances: Instances, point_fields: tuple[str, ...]) -> Instances:
    """Instances with integer coordinates, also for means of two or four points."""
    moved = {
        name: (np.round(instances.fields()[name] / _RASTER) * _RASTER).astype(np.float32)
        for name in point_fields
    }
    return instances.replace(**moved)


def _at_lone_samples(target: CellTargets, maps: Tensor) -> tuple[Tensor, Tensor]:
    """The target's values and the map's values there, where no two samples share a cell."""
    cell = target.y * maps.shape[3] + target.x
    lone = (cell[:, None] == cell[None, :]).sum(1) == 1
    counts = (target.weight > 0) & lone[:, None]
    return target.value[counts], target.gather(maps)[counts]
