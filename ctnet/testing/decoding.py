"""Checks of ``Task.decode``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from unittest import SkipTest

import numpy as np
import torch
from torch import Tensor, nn

from ctnet.core.documents import truth_of
from ctnet.core.fields import move_record
from ctnet.core.geometry import Affine, View
from ctnet.core.records import Detections
from ctnet.core.targets import Grid
from ctnet.core.task import Task
from ctnet.testing.check import require
from ctnet.testing.probe import STRIDE, Probe, task_check

_K = 20
_BATCH = 3
_SCENES = 6
#: Tolerance of an overlap.
_CLOSE = 1e-3


@task_check("Task.decode")
def decode_gives_the_best_first(probe: Probe) -> None:
    """decode returns exactly k rows per image, best first, with scores in [0, 1] and known labels."""
    for seed in range(3):
        found = probe.task.decode(probe.random_maps(_BATCH, seed), _K)
        for name, column in found.fields().items():
            require(isinstance(column, Tensor), f"{name} is a {type(column).__name__}, not a tensor")
            require(
                tuple(column.shape[:2]) == (_BATCH, _K),
                f"{name} has shape {tuple(column.shape)} for {_BATCH} images and k = {_K}",
            )
            require(column.isfinite().all(), f"{name} has NaN or infinite values")
        require(tuple(found.boxes.shape) == (_BATCH, _K, 4), f"boxes have shape {tuple(found.boxes.shape)}")
        require(((found.scores >= 0) & (found.scores <= 1)).all(), "a score is outside [0, 1]")
        require((found.scores.diff(dim=1) <= 0).all(), "a score is higher than the one before it")
        known = (found.labels >= 0) & (found.labels < len(probe.task.categories))
        require(found.labels.dtype == torch.int64, f"labels are {found.labels.dtype}, not int64")
        if "cells" in found.extra:
            height, width, _ = probe.grid
            inside = (found.cells >= 0) & (found.cells < torch.tensor([width, height]))
            require(found.cells.dtype == torch.int64, f"cells are {found.cells.dtype}, not int64")
            require(inside.all(), f"cells reach {found.cells.amax((0, 1)).tolist()} of {[width, height]}")
        require(known.all(), f"labels reach {found.labels.max()}, there are {len(probe.task.categories)}")


@task_check("Task.decode")
def decode_takes_a_blank_image(probe: Probe) -> None:
    """The rendered maps of an empty image decode to k finite rows of score 0."""
    nothing = probe.task.encode(probe.on_grid(probe.scenes(1)[0].instances[:0]), probe.grid)
    found = probe.task.decode(probe.render(nothing, probe.grid), _K)
    require(found.scores.shape == (1, _K), f"scores have shape {tuple(found.scores.shape)}")
    require((found.scores <= 0.1).all(), f"an empty image has a score of {found.scores.max():.3g}")
    for name, column in found.fields().items():
        require(column.isfinite().all(), f"{name} is NaN or infinite")


@task_check("Task.decode, Head.render")
def batch_equals_one_by_one(probe: Probe) -> None:
    """The images of a batch, in any order, are rendered and decoded as if each were alone."""
    rendered = probe.render(probe.batch_targets(range(_BATCH)), probe.grid._replace(batch=_BATCH))
    for image in range(_BATCH):
        for name, alone in probe.render(probe.targets(image), probe.grid).items():
            same = torch.allclose(rendered[name][image : image + 1], alone, atol=1e-5)
            require(same, f"head {name!r} renders image {image} of a batch differently than alone")
    for kind, maps in (("rendered", rendered), ("random", probe.random_maps(_BATCH))):
        whole = probe.task.decode(maps, _K)
        turned = probe.task.decode({name: values.flip(0) for name, values in maps.items()}, _K)
        for image in range(_BATCH):
            single = probe.task.decode({name: maps[name][image : image + 1] for name in maps}, _K)
            for way, other in (("a batch", whole[image]), ("a turned batch", turned[_BATCH - 1 - image])):
                column = _first_difference(single, other)
                require(
                    column is None,
                    f"{kind} maps: {column} of image {image} of {way} differ from those of it alone",
                )


def _first_difference(one: Detections, other: Detections) -> str | None:
    """The first column in which two records differ; rows of score 0 are not compared."""
    counts = one.scores > 0
    for name, column in one.fields().items():
        theirs = other.fields()[name]
        compared = counts if name != "scores" else torch.ones_like(counts)
        if not torch.allclose(column[compared].float(), theirs[compared].float(), rtol=1e-4, atol=1e-4):
            return name
    return None


@task_check("Task.decode, Task.lift")
def grids_can_be_merged(probe: Probe) -> None:
    """Detections from grids of two sizes, or without any row, have columns that can be concatenated."""
    scene, looks = probe.scenes(1)[0], []
    view = View(scene.info, Affine.scaling(STRIDE))
    for zoom, topk in ((1.0, _K), (1.5, _K), (1.0, 2 * _K), (1.0, 0)):
        width, height = (round(zoom * side) for side in (probe.grid.width, probe.grid.height))
        maps = probe.random_maps(1, grid=Grid(height, width))
        found = probe.task.decode(maps, max(topk, 1)).per_image()[0][:topk]
        lifted = probe.task.lift(move_record(found, view.affine, probe.task.fields), view)
        require(len(lifted) == len(found), f"lift returns {len(lifted)} rows for {len(found)}")
        looks.append(lifted.fields())
    first = looks[0]
    for look in looks[1:]:
        rows = len(look["scores"])
        require([*look] == [*first], f"columns are {', '.join(first)}, or with {rows} rows {', '.join(look)}")
        for name, column in look.items():
            kinds = [(np.asarray(one).dtype.kind, np.shape(one)[1:]) for one in (first[name], column)]
            require(
                kinds[0] == kinds[1] or "O" in (kinds[0][0], kinds[1][0]),
                f"column {name!r} has rows of shape {kinds[0][1]} and type {kinds[0][0]!r}, or with {rows} "
                f"rows {kinds[1][1]} and {kinds[1][0]!r}",
            )


@task_check("Task.overlap")
def overlap_is_a_fraction(probe: Probe) -> None:
    """overlap is (N, M) in [0, 1], symmetric, 1 for the same object, 0 for distant ones."""
    task = probe.task
    for seed, scene in enumerate(probe.scenes(_SCENES)):
        truth, where = truth_of(task, scene.instances), f"scene {seed}: "
        counts = (len(truth), len(truth[:-1]))
        one = np.asarray(task.overlap(truth, truth[:-1]))
        require(one.shape == counts, f"{where}it has shape {one.shape} for {counts[0]} and {counts[1]} rows")
        require(np.isfinite(one).all(), f"{where}it is NaN or infinite")
        outside = one[(one < -_CLOSE) | (one > 1 + _CLOSE)]
        require(not outside.size, f"{where}an overlap is {outside[:1].tolist()}, outside 0 to 1")
        other = np.asarray(task.overlap(truth[:-1], truth)).T
        require(np.allclose(one, other, atol=_CLOSE), f"{where}a overlaps b more than b overlaps a")
        own = np.diagonal(np.asarray(task.overlap(truth, truth)))
        require(np.allclose(own, 1, atol=_CLOSE), f"{where}with themselves objects overlap {own.tolist()}")
        far = move_record(truth, Affine(np.array([[1.0, 0, 1e4], [0, 1.0, 0]])), task.fields)
        apart = np.asarray(task.overlap(truth, far))
        require((np.abs(apart) <= _CLOSE).all(), f"{where}objects 10000 pixels apart overlap")
        require(task.overlap(truth[:0], truth).shape == (0, len(truth)), f"{where}wrong shape for 0 rows")


@task_check("Task.decode")
def decode_exports(probe: Probe) -> None:
    """decode exports to ONNX, and the exported graph gives the same results on other maps."""
    try:
        import onnxruntime  # type: ignore[import-untyped,import-not-found,unused-ignore]
        import onnxscript  # type: ignore[import-not-found,unused-ignore]  # noqa: F401
    except ImportError as error:
        raise SkipTest(
            f"{error.name} is not installed; install the extra 'export' of ctnet-toolkit"
        ) from error
    names = tuple(probe.task.heads)
    module = _Decode(probe.task, names).eval()
    with torch.no_grad():
        columns = tuple(probe.task.decode(probe.random_maps(1), _K).fields())
    traced = tuple(probe.random_maps(1).values())
    program = torch.onnx.export(module, traced, dynamo=True, verbose=False, output_names=list(columns))
    require(program is not None, "the exporter returns nothing")
    graph = program.model_proto.SerializeToString()  # type: ignore[union-attr]
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    for seed in (1, 2):
        _compare_export(probe, session, probe.random_maps(1, seed), columns)


def _compare_export(probe: Probe, session: Any, maps: Mapping[str, Tensor], columns: tuple[str, ...]) -> None:
    expected = probe.task.decode(maps, _K)
    inputs = {port.name: maps[name].numpy() for port, name in zip(session.get_inputs(), maps, strict=True)}
    got = [torch.from_numpy(value) for value in session.run(None, inputs)]
    counts = expected.scores > 0
    for name, value in zip(columns, got, strict=True):
        wanted = expected.fields()[name]
        compared = counts if name != "scores" else torch.ones_like(counts)
        same = value.shape == wanted.shape and torch.allclose(
            value[compared].double(), wanted[compared].double(), rtol=1e-3, atol=1e-3
        )
        require(same, f"{name} of the exported graph differ")


class _Decode(nn.Module):
    """decode as a module: from tensors in the order of the heads to columns."""

    def __init__(self, task: Task, names: tuple[str, ...]) -> None:
        super().__init__()
        self._decode, self._names = task.decode, names

    def forward(self, *maps: Tensor) -> tuple[Any, ...]:
        found = self._decode(dict(zip(self._names, maps, strict=True)), _K)
        return tuple(found.fields().values())
