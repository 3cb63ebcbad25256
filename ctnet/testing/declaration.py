"""Checks of a task's declarations: heads, names, options, documentation."""

from __future__ import annotations

import dataclasses
import inspect
import math
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import torch
from torch import Tensor

from ctnet.backbones import Backbone
from ctnet.base.errors import CtnetError
from ctnet.checkpoint import Description, load, save
from ctnet.core.fields import Field
from ctnet.core.heads import Head
from ctnet.core.options import option_rows
from ctnet.core.recipe import Recipe
from ctnet.core.task import Task
from ctnet.model import CenterNet
from ctnet.testing.check import require
from ctnet.testing.probe import STRIDE, Probe, task_check


@task_check("Task.heads, Task.oracles, Head")
def heads_are_declared(probe: Probe) -> None:
    """Heads are frozen Head dataclasses by name, with integer channels, a finite bias and a finite weight."""
    for group, members in probe.task.oracles.items():
        unknown = [name for name in members if name not in probe.task.heads]
        require(not unknown, f"oracles {group!r} names {', '.join(unknown)}, which is not a head")
    heads = probe.task.heads
    require(heads, "there is none")
    for name, head in heads.items():
        require(isinstance(head, Head), f"head {name!r} is a {type(head).__name__}, not a Head")
        require(name.isidentifier(), f"head {name!r} has a name that is not an identifier")
        require(
            isinstance(head.channels, int) and head.channels > 0,
            f"head {name!r} has {head.channels!r} channels",
        )
        for field in ("weight", "bias"):
            value = getattr(head, field)
            require(math.isfinite(value), f"head {name!r} has {field} {value!r}")
        require(head.weight >= 0, f"head {name!r} has weight {head.weight!r}, below zero")


@task_check("Task.heads, Head.activate")
def heads_make_a_network(probe: Probe) -> None:
    """A network can be built from the heads; activated maps are finite and keep their shape."""
    model = CenterNet(_TinyBackbone(), probe.task.heads).eval()
    with torch.no_grad():
        maps = model.activated(torch.rand(2, 3, 32, 64, generator=torch.Generator().manual_seed(0)))
    for name, head in probe.task.heads.items():
        expected = (2, head.channels, 8, 16)
        require(
            tuple(maps[name].shape) == expected,
            f"head {name!r} activates to {tuple(maps[name].shape)}, not {expected}",
        )
        require(maps[name].isfinite().all(), f"head {name!r} activates to NaN or infinities")


class _TinyBackbone(Backbone):
    channels, divisor, hidden = 4, 4, 4

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Conv2d(3, 4, STRIDE, stride=STRIDE)

    def forward(self, images: Tensor) -> list[Tensor]:
        return [self.layer(images)]


@task_check("Task")
def names_are_declared(probe: Probe) -> None:
    """Name, categories, metrics, released head names and recipes are declared and consistent."""
    task = probe.task
    name = getattr(task, "name", None)
    require(isinstance(name, str) and name.isidentifier(), f"its name is {name!r}, not an identifier")
    require(task.metrics, "it declares no metric")
    require(all(map(callable, task.metrics.values())), f"metrics are {task.metrics!r}, not factories")
    released = [head.released for head in task.heads.values() if head.released]
    require(len(set(released)) == len(released), f"two heads have the same released name: {released}")
    strangers = [head.twin for head in task.heads.values() if head.twin and head.twin not in task.heads]
    require(not strangers, f"twins {strangers} are not heads")
    recipes = task.recipes("")
    require(recipes, "there is no recipe")
    demo = {"demo": task.scenes.recipe} if task.scenes else {}
    categories = task.scenes.categories if task.scenes else task.categories
    for key, recipe in {**recipes, **demo}.items():
        require(isinstance(recipe, Recipe), f"recipe {key!r} is a {type(recipe).__name__}, not a Recipe")
        try:
            type(task)(categories, **recipe.options)
        except CtnetError as error:
            require(
                False,
                f"the categories of its scenes or the options of recipe {key!r} are not usable: {error}",
            )


@task_check("Task.fields")
def fields_are_declared(probe: Probe) -> None:
    """Every declared field is a column of the example instances, and no two share a JSON key or a column."""
    fields, instances = probe.task.fields, probe.scenes(1)[0].instances
    keys = [field.json for field in fields.values() if field.json]
    twice = {key for key in keys if keys.count(key) > 1} | (set(keys) & {"bbox", "area", "iscrowd", "score"})
    require(not twice, f"the JSON keys {sorted(twice)} are used twice or reserved by COCO")
    common = ("boxes", "labels", "crowd", "scores")
    for name, field in fields.items():
        require(isinstance(field, Field), f"field {name!r} is a {type(field).__name__}, not a Field")
        require(name not in common, f"field {name!r} has the name of a built-in column")
        if name not in instances.fields() and not field.annotated:
            continue  # only results have it
        require(name in instances.fields(), f"the scenes' instances have no column {name!r}")
        for column, content in field.read(name, field.write(name, instances.fields())).items():
            got = instances.fields().get(column)
            require(got is not None, f"field {name!r}: the instances have no column {column!r}")
            assert got is not None
            require(
                (got.shape, got.dtype.kind) == (content.shape, content.dtype.kind),
                f"field {name!r}: column {column!r} is {got.dtype} {got.shape}, declared is {content.dtype} "
                f"{content.shape}",
            )


@task_check("Task.Options, ctnet.checkpoint")
def options_survive_a_checkpoint(probe: Probe) -> None:
    """Options and categories survive writing and opening a checkpoint."""
    task = probe.task
    for changed in [task, *_variants(task)]:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "checkpoint.pt"
            save(path, Description.of(changed, "", (64, 64)), {})
            description = load(path).description
        again = type(task)(description.categories, **description.options)
        for what in ("options", "categories", "heads"):
            before, after = getattr(changed, what), getattr(again, what)
            require(before == after, f"{what} {before} came back as {after}")


def _variants(task: Task) -> Iterator[Task]:
    """The task with one option changed at a time; values that it refuses are left out."""
    hints = get_type_hints(task.Options)
    for field in dataclasses.fields(task.Options):
        for value in _other_values(hints[field.name], getattr(task.options, field.name)):
            try:
                yield type(task)(task.categories, **{**dataclasses.asdict(task.options), field.name: value})
            except CtnetError:
                continue


def _other_values(hint: Any, value: Any) -> list[Any]:
    if get_origin(hint) is Literal:
        return [choice for choice in get_args(hint) if choice != value]
    if hint is bool:
        return [not value]
    if hint in (int, float):
        return [value + 1, value / 2 if hint is float else value - 1]
    return []


@task_check("Task, Options")
def documentation_is_complete(probe: Probe) -> None:
    """The docstring describes the task and names its heads and fields; options have help."""
    task = probe.task
    text = task.__doc__ or ""
    require(text.strip(), f"class {type(task).__name__} has no docstring")
    module = inspect.getmodule(type(task))
    text += (module.__doc__ or "") if module else ""
    found = task.decode(probe.random_maps(1), 1)
    fields = {*probe.scenes(1)[0].instances.extra, *found.extra} - {"cells"}
    for kind, names in (("head", task.heads), ("field", sorted(fields))):
        missing = [name for name in names if name not in text]
        require(not missing, f"the docstring does not mention {kind} {', '.join(missing)}")
    mute = [row.name for row in option_rows(task.Options) if not row.help.strip()]
    require(not mute, f"options without help: {', '.join(mute)}")
