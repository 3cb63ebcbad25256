"""Checks of ``Head.loss`` and ``Task.losses``."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from ctnet.core.heads import Head
from ctnet.core.losses import Loss
from ctnet.core.targets import CellTargets, DenseTargets, Target, collate_targets
from ctnet.testing.check import require
from ctnet.testing.probe import Probe, task_check
from ctnet.training.losses import add_counts, counts_of, mean_losses, weighted_sum

_BATCH = 3
#: Tolerance between the gradients of parts and of the whole in float64, relative to the largest.
_SAME = 1e-9

_SIZES: dict[str, Callable[[Tensor], Tensor]] = {
    "of ordinary size": lambda raw: raw,
    "20 times as large": lambda raw: 20 * raw,
    "of bfloat16": lambda raw: raw.bfloat16(),
}


@task_check("Task.losses, Head.loss")
def loss_is_finite_and_differentiable(probe: Probe) -> None:
    """Losses are finite scalars with a finite gradient, for small, large and half-precision predictions."""
    targets = probe.batch_targets(range(_BATCH))
    for kind, change in _SIZES.items():
        predicted = {
            name: change(values).detach().requires_grad_()
            for name, values in _read(_noise(probe), targets).items()
        }
        losses = probe.task.losses(predicted, targets)
        for name, loss in losses.items():
            where = f"loss {name!r}, predictions {kind}: "
            require(isinstance(loss, Loss), f"{where}it is a {type(loss).__name__}, not a Loss")
            shapes = (tuple(loss.total.shape), tuple(loss.count.shape))
            require(shapes == ((), ()), f"{where}total and count have the shapes {shapes[0]} and {shapes[1]}")
            require(loss.total.isfinite(), f"{where}the total is {loss.total.item()}")
        total = torch.stack([loss.total for loss in losses.values()]).sum()
        require(total.requires_grad, f"predictions {kind}: no loss depends on them")
        total.backward()  # type: ignore[no-untyped-call]
        for name, values in predicted.items():
            where = f"head {name!r}, predictions {kind}: "
            require(values.grad is not None, f"{where}no loss depends on them")
            require(values.grad is not None and values.grad.isfinite().all(), f"{where}gradient not finite")
            require(values.grad is not None and values.grad.any(), f"{where}the gradient is zero everywhere")
            if kind == "of ordinary size":
                _require_all_channels(values.grad, targets[name], where)


def _require_all_channels(gradient: Tensor | None, target: Target, where: str) -> None:
    """Every channel with targets has a gradient."""
    assert gradient is not None
    pulled = (gradient != 0).any(dim=0) if gradient.dim() == 2 else (gradient != 0).any(0).flatten(1).any(1)
    taught = (target.weight > 0).any(dim=0) if isinstance(target, CellTargets) else torch.ones_like(pulled)
    silent = torch.nonzero(taught & ~pulled).flatten().tolist()
    require(not silent, f"{where}channels {silent} get no gradient")


@task_check("Task.losses, Head.loss")
def loss_takes_an_empty_image(probe: Probe) -> None:
    """An image without objects has the same losses by name; they and their gradients are finite."""
    targets = _empty(probe)
    predicted = {name: values.requires_grad_() for name, values in _read(_noise(probe, 1), targets).items()}
    losses = probe.task.losses(predicted, targets)
    names = [*_counts(probe, probe.targets(0))]
    require([*losses] == names, f"losses are {', '.join(losses)}, not {', '.join(names)}")
    for name, loss in losses.items():
        for part, value in vars(loss).items():
            require(value.isfinite(), f"the {part} of {name!r} is {value.item()}")
    totals = [loss.total for loss in losses.values() if loss.total.requires_grad]
    torch.stack(totals).sum().backward()  # type: ignore[no-untyped-call]
    for name, values in predicted.items():
        finite = values.grad is None or values.grad.isfinite().all()
        require(finite, f"head {name!r}: the gradient is not finite")


@task_check("Task.losses, Head.loss")
def counts_depend_on_targets_alone(probe: Probe) -> None:
    """Counts are not negative, have no gradient, and do not depend on the predictions."""
    targets = probe.batch_targets(range(_BATCH))
    counts = _counts(probe, targets, _BATCH)
    for kind, change in _SIZES.items():
        noise = {name: change(values).requires_grad_() for name, values in _noise(probe).items()}
        for name, loss in probe.task.losses(_read(noise, targets), targets).items():
            require(loss.count >= 0, f"that of {name!r} is {loss.count.item():g}")
            require(not loss.count.requires_grad, f"that of {name!r} has a gradient")
            require(
                loss.count == counts[name],
                f"that of {name!r} is {counts[name].item():g} for zeros and {loss.count.item():g} for "
                f"noise {kind}",
            )


@task_check("Task.taught, Head.soften, Task.Options")
def a_teacher_changes_no_count(probe: Probe) -> None:
    """Whatever a teacher sees, also with ``doubtful=ignore``, counts and the given targets stay the same."""
    chosen = {**dataclasses.asdict(probe.task.options), "doubtful": "ignore"}
    seen = probe.random_maps(_BATCH)
    for task in (probe.task, type(probe.task)(probe.task.categories, **chosen)):
        targets = probe.batch_targets(range(_BATCH))
        before = _counts(probe, targets, _BATCH)
        rendered = probe.render(targets, probe.grid._replace(batch=_BATCH))
        taught = task.taught(targets, seen)
        taught = {name: task.heads[name].soften(target, seen[name], 0.5) for name, target in taught.items()}
        require([*taught] == [*targets], f"taught are {', '.join(taught)}, not {', '.join(targets)}")
        again = probe.render(targets, probe.grid._replace(batch=_BATCH))
        changed = [name for name, values in rendered.items() if not torch.equal(values, again[name])]
        require(not changed, f"the targets of {', '.join(changed)} were changed in place")
        for name, loss in task.losses(_read(_noise(probe), taught), taught).items():
            count = before[name].item()
            require(loss.count == count, f"the count of {name!r} is {loss.count.item():g}, not {count:g}")
            require(loss.total.isfinite(), f"the total of {name!r} is {loss.total.item()}")


@task_check("Task.losses, Head.loss")
def parts_give_the_gradients_of_the_whole(probe: Probe) -> None:
    """In float64, batches of 3, 1, and 1 image without objects give the gradients of one whole batch."""
    scenes = [*(probe.targets(scene) for scene in range(4)), _empty(probe)]
    raw = {name: values.double().requires_grad_() for name, values in _noise(probe, len(scenes)).items()}
    whole = _gradients(probe, raw, scenes, [slice(0, 5)])
    parts = _gradients(probe, raw, scenes, [slice(0, 3), slice(3, 4), slice(4, 5)])
    for name, wanted in whole.items():
        error = (parts[name] - wanted).abs().max().item()
        largest = wanted.abs().max().item()
        require(
            error <= _SAME * largest,
            f"head {name!r}: gradients of up to {largest:.4g} differ by {error:.4g}; a loss is a sum with "
            "the count to divide it by, and both are computed in float64 if predictions are",
        )


@task_check("Task.losses, CellTargets, DenseTargets")
def loss_ignores_weight_zero(probe: Probe) -> None:
    """An entry, or an image with windows, of weight 0 affects no loss and gets no gradient."""
    targets = {name: _masked(target) for name, target in probe.batch_targets(range(_BATCH)).items()}
    predicted = {name: values.requires_grad_() for name, values in _read(_noise(probe), targets).items()}
    masks = {name: target.weight == 0 for name, target in targets.items() if isinstance(target, CellTargets)}
    for name, target in targets.items():
        if isinstance(target, DenseTargets):
            masks[name] = torch.zeros_like(predicted[name], dtype=torch.bool)
            masks[name][0] = True
    losses = probe.task.losses(predicted, targets)
    torch.stack([loss.total for loss in losses.values()]).sum().backward()  # type: ignore[no-untyped-call]
    others = _read(_noise(probe, seed=1), targets)
    for name, mask in masks.items():
        gradient = predicted[name].grad
        pulled = gradient is not None and (gradient[mask] != 0).any()
        require(not pulled, f"head {name!r} has a gradient at entries of weight 0")
        changed = {**predicted, name: torch.where(mask, others[name], predicted[name].detach())}
        for term, loss in probe.task.losses(changed, targets).items():
            before, after = losses[term].total.item(), loss.total.item()
            require(
                abs(after - before) <= 1e-5 * abs(before),
                f"loss {term!r} is {before:.6g}, but {after:.6g} when entries of weight 0 of head {name!r} "
                "change",
            )


@task_check("Task.losses, Head.loss, Head.render")
def loss_is_lower_for_rendered_maps(probe: Probe) -> None:
    """Rendered maps have a lower loss than with noise added to one head's map, or in its place."""
    targets = probe.batch_targets(range(_BATCH))
    rendered = probe.render(targets, probe.grid._replace(batch=_BATCH))
    perfect = {name: _raw_of(head, rendered[name]) for name, head in probe.task.heads.items()}
    perfect = _read(perfect, targets)
    best = _cost(probe, perfect, targets)
    for name in probe.task.heads:
        if not len(targets[name]):
            continue
        for seed in range(3):
            noise = _read(_noise(probe, seed=seed), targets)[name]
            for kind, other in (("noise", noise), ("the rendered map with noise", perfect[name] + noise)):
                worse = _cost(probe, {**perfect, name: other}, targets)
                require(
                    best < worse, f"head {name!r}: rendered maps cost {best:.6g}, with {kind} {worse:.6g}"
                )


def _raw_of(head: Head, activated: Tensor, steps: int = 200) -> Tensor:
    """Raw maps that activate to the given ones, found by gradient descent."""
    if torch.equal(head.activate(activated), activated):
        return activated
    raw = torch.zeros_like(activated).requires_grad_()
    optimizer = torch.optim.Adam([raw], lr=0.3, betas=(0.9, 0.9))  # no momentum from the first, steep steps
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 0.3 * (1 - step / steps)
        optimizer.zero_grad()
        (head.activate(raw) - activated).square().sum().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return raw.detach()


def _noise(probe: Probe, batch: int = _BATCH, seed: int = 0) -> dict[str, Tensor]:
    """Raw maps of every head."""
    height, width, _ = probe.grid
    maps = {}
    for name, head in probe.task.heads.items():
        generator = torch.Generator().manual_seed(seed)
        maps[name] = torch.randn(batch, head.channels, height, width, generator=generator)
    return maps


def _read(maps: Mapping[str, Tensor], targets: Mapping[str, Target]) -> dict[str, Tensor]:
    """Raw maps as the targets read them."""
    read = {}
    for name, target in targets.items():
        read[name] = target.gather(maps[name]) if isinstance(target, CellTargets) else maps[name]
    return read


def _empty(probe: Probe) -> dict[str, Target]:
    """The targets of an image without objects."""
    return probe.task.encode(probe.on_grid(probe.scenes(1)[0].instances[:0]), probe.grid)


def _masked(target: Target) -> Target:
    """With weight 0 for the first image's values."""
    if isinstance(target, DenseTargets):
        return dataclasses.replace(target, weight=target.weight * (target.batch > 0))
    if not isinstance(target, CellTargets):
        return target
    return dataclasses.replace(target, weight=target.weight * (target.batch > 0)[:, None])


def _counts(
    probe: Probe, targets: Mapping[str, Target], batch: int = 1, dtype: torch.dtype = torch.float32
) -> dict[str, Tensor]:
    return counts_of(probe.task, targets, probe.grid._replace(batch=batch), dtype)


def _cost(probe: Probe, predicted: Mapping[str, Tensor], targets: Mapping[str, Target]) -> float:
    losses = probe.task.losses(predicted, targets)
    terms = mean_losses(losses, {name: loss.count for name, loss in losses.items()})
    return weighted_sum(terms, probe.task.heads).item()


def _gradients(
    probe: Probe, raw: Mapping[str, Tensor], scenes: Sequence[Mapping[str, Target]], parts: Sequence[slice]
) -> dict[str, Tensor]:
    """Gradients of raw maps, summed over the parts of a step.

    Args:
        probe: the task.
        raw: maps of all scenes by head.
        scenes: targets of each.
        parts: the scenes of each batch.
    """
    task = probe.task
    batches = [
        {name: collate_targets([scene[name] for scene in scenes[part]]) for name in task.heads}
        for part in parts
    ]
    sizes = [len(scenes[part]) for part in parts]
    each = [_counts(probe, batch, size, torch.float64) for batch, size in zip(batches, sizes, strict=True)]
    counts = add_counts(each)
    for values in raw.values():
        values.grad = None
    for part, batch in zip(parts, batches, strict=True):
        predicted = _read({name: values[part] for name, values in raw.items()}, batch)
        terms = mean_losses(task.losses(predicted, batch), counts)
        weighted_sum(terms, task.heads).backward()  # type: ignore[no-untyped-call]
    return {
        name: torch.zeros_like(values) if values.grad is None else values.grad.clone()
        for name, values in raw.items()
    }
