"""Checks of ``Head.loss``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor

from ctnet.core.heads import Head
from ctnet.core.targets import CellTargets, Target, collate_targets
from ctnet.testing.check import require
from ctnet.testing.probe import Probe, task_check

_BATCH = 3


@task_check("Head.loss")
def loss_is_finite_and_differentiable(probe: Probe) -> None:
    """A loss is a finite scalar with a finite gradient, for small, large and half-precision raw maps."""
    for name, head, target in _batch(probe):
        kinds: dict[str, Callable[[Tensor], Tensor]] = {
            "of ordinary size": lambda raw: raw,
            "20 times as large": lambda raw: 20 * raw,
            "of bfloat16": lambda raw: raw.bfloat16(),
        }
        for kind, change in kinds.items():
            raw = change(_noise(probe, head)).detach().requires_grad_()
            loss = head.loss(raw, target)
            where = f"head {name!r}, raw maps {kind}: "
            require(loss.shape == (), f"{where}the loss has shape {tuple(loss.shape)}")
            require(loss.isfinite(), f"{where}the loss is {loss.item()}")
            require(loss.requires_grad, f"{where}the loss does not depend on the map")
            loss.backward()  # type: ignore[no-untyped-call]
            require(raw.grad is not None and raw.grad.isfinite().all(), f"{where}the gradient is not finite")
            require(raw.grad is not None and raw.grad.any(), f"{where}the gradient is zero everywhere")


@task_check("Head.loss")
def loss_takes_an_empty_image(probe: Probe) -> None:
    """The loss of an image without objects is finite, and so is its gradient."""
    nothing = probe.task.encode(probe.on_grid(probe.scenes(1)[0].instances[:0]), probe.grid)
    for name, head in probe.task.heads.items():
        raw = _noise(probe, head)[:1].detach().requires_grad_()
        loss = head.loss(raw, nothing[name])
        require(loss.isfinite(), f"head {name!r}: the loss is {loss.item()}")
        if loss.requires_grad:
            loss.backward()  # type: ignore[no-untyped-call]
            require(raw.grad is not None and raw.grad.isfinite().all(), f"head {name!r}: no finite gradient")


@task_check("Head.loss, CellTargets")
def loss_touches_samples_only(probe: Probe) -> None:
    """A loss of CellTargets reads the map at their cells alone, and only the channels that count there."""
    empty = probe.task.encode(probe.on_grid(probe.scenes(1)[0].instances[:0]), probe.grid)
    for name, head, target in _batch(probe):
        if not isinstance(target, CellTargets):
            continue
        joined = collate_targets([probe.targets(0)[name], empty[name], probe.targets(1)[name]])
        assert isinstance(joined, CellTargets)
        raw = _noise(probe, head).detach().requires_grad_()
        loss = head.loss(raw, joined)
        loss.backward()  # type: ignore[no-untyped-call]
        bare = torch.zeros_like(raw)
        bare[joined.batch, :, joined.y, joined.x] = raw.detach()[joined.batch, :, joined.y, joined.x]
        alone = head.loss(bare, joined)
        require(
            torch.allclose(alone, loss, rtol=1e-5, atol=0),
            f"head {name!r}: the loss is {loss.item():.6g}, but {alone.item():.6g} where other cells are 0; "
            "training computes no others",
        )
        touched = torch.zeros_like(raw, dtype=torch.bool)
        rows, channels = (joined.weight > 0).nonzero(as_tuple=True)
        touched[joined.batch[rows], channels, joined.y[rows], joined.x[rows]] = True
        require(raw.grad is not None, f"head {name!r} has no gradient at all")
        outside = (raw.grad != 0) & ~touched
        if outside.any():
            image, channel, y, x = outside.nonzero()[0].tolist()
            require(
                False, f"head {name!r} has a gradient at image {image}, channel {channel}, cell ({x}, {y})"
            )


@task_check("Head.loss, Head.render")
def loss_is_lower_for_rendered_maps(probe: Probe) -> None:
    """The loss of the rendered maps is lower than that of noise."""
    targets = probe.batch_targets(range(_BATCH))
    rendered = probe.render(targets, probe.grid._replace(batch=_BATCH))
    for name, head in probe.task.heads.items():
        if not len(targets[name]):
            continue
        raw = _raw_of(head, rendered[name])
        best = head.loss(raw, targets[name]).item()
        for seed in range(3):
            noise = _noise(probe, head, seed)
            for kind, other in (("noise", noise), ("rendered maps with noise", raw + noise)):
                worse = head.loss(other, targets[name]).item()
                require(best < worse, f"head {name!r}: rendered maps cost {best:.4g}, {kind} {worse:.4g}")


def _raw_of(head: Head, activated: Tensor, steps: int = 200) -> Tensor:
    """Raw maps that activate to the given ones, found by descent: no activation states its inverse."""
    if torch.equal(head.activate(activated), activated):
        return activated
    raw = torch.zeros_like(activated).requires_grad_()
    optimizer = torch.optim.Adam([raw], lr=0.3)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 0.3 * (1 - step / steps)
        optimizer.zero_grad()
        (head.activate(raw) - activated).square().sum().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return raw.detach()


def _noise(probe: Probe, head: Head, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(_BATCH, head.channels, probe.grid.height, probe.grid.width, generator=generator)


def _batch(probe: Probe) -> Iterator[tuple[str, Head, Target]]:
    """Every head with its targets of three scenes."""
    targets: Mapping[str, Target] = probe.batch_targets(range(_BATCH))
    for name, head in probe.task.heads.items():
        yield name, head, targets[name]
