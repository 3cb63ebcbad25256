"""The losses and gradients of an optimizer step, whatever processes its images are spread over."""

from __future__ import annotations

import inspect
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from ctnet.base.compiling import compiled, varying
from ctnet.base.device import autocast, normalise, to_device
from ctnet.base.errors import CtnetError
from ctnet.base.ranks import Ranks, Told, connected, raise_first, told
from ctnet.checkpoint import Description
from ctnet.core.targets import DenseTargets, Grid, Peaks, Target
from ctnet.core.task import Task
from ctnet.data.loader import Batch
from ctnet.data.problems import Problem
from ctnet.model import CenterNet
from ctnet.ops.sync_batch_norm import SYNCHRONISED, SyncBatchNorm2d
from ctnet.training.losses import add_counts, counts_of, losses_of_stacks, mean_losses, weighted_sum
from ctnet.training.optimization import single_values
from ctnet.training.teacher import Teacher


@dataclass(frozen=True)
class Step:
    """What an optimizer step learns from.

    Attributes:
        batches: this process's shares of one or more batches.
        images: readable images of each batch, in all processes.
        counts: the counts of every loss, over the step; None for those of the only batch.
        problems: images that could not be read, of all processes.
    """

    batches: Sequence[Batch]
    images: Sequence[int]
    counts: Mapping[str, float] | None = None
    problems: Sequence[Problem] = ()


@dataclass(frozen=True)
class Learnt:
    """What a step came to.

    Attributes:
        images: number of images.
        terms: the total loss, and every loss.
        flags: the numbers that went around with them, added up over all processes.
    """

    images: int
    terms: dict[str, float] = field(default_factory=dict)
    flags: tuple[float, ...] = ()


@dataclass(frozen=True)
class _Known:
    """What a process tells the others before a step's first backward pass."""

    images: tuple[int, ...] = ()
    counts: Mapping[str, float] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()
    mistake: Told | None = None


class StepLosses(nn.Module):
    """A network with the losses of its task: what torch's ``DistributedDataParallel`` wraps.

    Args:
        task: computes the losses.
        model: the network.
        description: the description of its input.
        teachers: change the targets of a batch, one after the other.
        compile: compile network and losses together.
    """

    def __init__(
        self,
        task: Task,
        model: CenterNet,
        description: Description,
        teachers: Sequence[Teacher] = (),
        compile: bool = False,
    ) -> None:
        super().__init__()
        self.task, self.model, self.description = task, model, description
        self._teachers = tuple(teachers)
        self._compiled = compiled(self._terms) if compile else None

    def forward(
        self, images: Tensor, targets: Mapping[str, Target] | None, counts: Mapping[str, Tensor] | None
    ) -> dict[str, Tensor]:
        """A batch's contribution to the total ("total") and to every loss.

        Args:
            images: (B, H, W, 3) uint8, RGB; more channels for tasks that see two frames.
            targets: those of every head; None for images that teach nothing, whose total is zero.
            counts: the counts of the whole step; the batch's own when None.
        """
        if targets is not None and self._teachers:
            inputs = normalise(images, self.description.mean, self.description.std)
            for teacher in self._teachers:
                targets = teacher(inputs, targets)
        if self._compiled is None or targets is None or not _is_general(images, targets):
            return self._terms(images, targets, counts)
        varying(column for target in targets.values() for column in target.columns())
        cells = {
            name: torch.empty((), device=images.device).expand(target.cells)
            for name, target in targets.items()
            if isinstance(target, (Peaks, DenseTargets))
        }
        varying(cells.values())
        return self._compiled(images, targets, counts, cells)

    def _terms(
        self,
        images: Tensor,
        targets: Mapping[str, Target] | None,
        counts: Mapping[str, Tensor] | None,
        cells: Mapping[str, Tensor] | None = None,
    ) -> dict[str, Tensor]:
        """See ``forward``.

        Args:
            images, targets, counts: as there.
            cells: tensors as long as the targets of heatmaps and of whole maps have cells. A number would be
                a constant of the first compilation; the size of a tensor can be a variable.
        """
        if targets is not None and cells is not None:
            targets = {
                name: replace(target, cells=len(cells[name]))
                if isinstance(target, (Peaks, DenseTargets))
                else target
                for name, target in targets.items()
            }
        inputs = normalise(images, self.description.mean, self.description.std)
        stacks = self.model(inputs, targets)
        if targets is None:
            return {"total": 0 * torch.stack([raw.sum() for maps in stacks for raw in maps.values()]).sum()}
        losses = losses_of_stacks(self.task, stacks, targets)
        terms = mean_losses(losses, counts or {name: loss.count for name, loss in losses.items()})
        return {"total": weighted_sum(terms, self.model.heads), **terms}


def _is_general(images: Tensor, targets: Mapping[str, Target]) -> bool:
    """Whether a batch is compiled with the others: sizes of 0 or 1 would need compilations of their own."""
    return len(images) > 1 and all(len(target) > 1 for target in targets.values())


class Gradients:
    """Accumulates the gradients of steps: those of the joined batch, on one process or on several.

    Args:
        losses: the network with its losses, on its device.
        scaler: the scaler of float16's losses.
        amp: type for autocast; None for full precision.
        ranks: the processes that share every step.
    """

    def __init__(
        self, losses: StepLosses, scaler: torch.amp.GradScaler, amp: torch.dtype | None, ranks: Ranks
    ) -> None:
        self._task, self._model = losses.task, losses.model
        self._scaler, self._amp, self._ranks = scaler, amp, ranks
        self._size = losses.description.size
        self._losses: Any = losses
        self.device = next(losses.model.parameters()).device

    def connect(self) -> None:
        """Add gradients up over the processes from now on. All must call it."""
        if self._ranks.count == 1:
            return
        # Of layers of 1x1 pixels, for which all layouts are the same.
        warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
        with connected():
            # With find_unused_parameters the buckets stay as they are from the first step on, so that a job
            # that is started again repeats the same sums in the same order.
            self._losses = DistributedDataParallel(
                self._losses,
                device_ids=[self.device] if self.device.type == "cuda" else None,
                find_unused_parameters=True,
                **_OWN_BUFFERS,
            )
        self._losses.register_comm_hook(None, _summed)

    def steps(self, batches: Iterator[Batch], size: int) -> Iterator[Step]:
        """Take batches into steps of ``size`` batches, fewer at the end.

        Raises:
            CtnetError: for the mistake of any process, in all of them.
        """
        while True:
            taken: list[Batch] = []
            mistake: CtnetError | None = None
            try:
                for batch in batches:
                    taken.append(batch)
                    if len(taken) == size:
                        break
            except CtnetError as error:
                if self._ranks.count == 1:
                    raise
                mistake = error
            step = self._agreed(taken, mistake)
            if not taken:
                return
            yield step

    def _agreed(self, batches: Sequence[Batch], mistake: CtnetError | None) -> Step:
        """The step of this process's share of batches, with what the others know of it."""
        images = tuple(len(batch) for batch in batches)
        problems = tuple(problem for batch in batches for problem in batch.problems)
        filled = [batch for batch in batches if len(batch)]
        if self._ranks.count == 1 and len(filled) < 2:
            return Step(batches, images, None, problems)
        counts: dict[str, float] = {}
        if filled:
            added = add_counts([self._counts(batch) for batch in filled])
            counts = {name: float(value) for name, value in added.items()}
        known = self._ranks.exchange(_Known(images, counts, problems, told(mistake)))
        raise_first([one.mistake for one in known], mistake)
        names = dict.fromkeys(name for one in known for name in one.counts)
        return Step(
            batches,
            [sum(column) for column in zip(*(one.images for one in known), strict=True)],
            {name: sum(one.counts.get(name, 0.0) for one in known) for name in names},
            [problem for one in known for problem in one.problems],
        )

    def _counts(self, batch: Batch) -> dict[str, Tensor]:
        stride = self._model.backbone.stride
        height, width = (side // stride for side in batch.images.shape[1:3])
        dtype = next(self._model.parameters()).dtype
        return counts_of(self._task, batch.targets, Grid(height, width, len(batch)), dtype)

    def accumulate(self, step: Step, flags: Sequence[float] = ()) -> Learnt:
        """Add a step's gradients to the parameters.

        Args:
            step: from ``steps``.
            flags: the flags of this process, to be added up over all.

        Raises:
            NotFinite: in all processes, when a loss is not finite in one of them.
        """
        numbers = [number for number, images in enumerate(step.images) if images]
        rows = []
        counts = None
        if step.counts is not None:
            dtype = next(self._model.parameters()).dtype
            values = to_device(torch.tensor(list(step.counts.values()), dtype=dtype), self.device)
            counts = dict(zip(step.counts, values.unbind(), strict=True))
        for number in numbers:
            share = self._backward(step.batches[number], counts, last=number == numbers[-1])
            rows.append(share)
        if not rows and self._ranks.count == 1:  # none of the step's images could be read
            return Learnt(0, flags=tuple(flags))
        names = list(counts) if counts is not None else [name for name in rows[0] if name != "total"]
        zero = torch.zeros((), device=self.device)
        own = [torch.stack([row.get(name, zero).float() for name in ("total", *names)]) for row in rows]
        # The only synchronisation with the device in a step: all terms of all batches in one copy.
        if flags:
            own.append(to_device(torch.tensor(list(flags), dtype=torch.float32), self.device))
        table = torch.cat(own)
        known = self._ranks.add(table.clone()).tolist() if self._ranks.count > 1 else table.tolist()
        width = 1 + len(names)
        if not all(map(math.isfinite, known)):
            mine = table.tolist()
            own_rows = [mine[start : start + width] for start in range(0, len(rows) * width, width)]
            bad = [number for number, row in enumerate(own_rows) if not all(map(math.isfinite, row))]
            raise NotFinite(
                numbers[bad[0]] if bad else None,
                dict(zip(("total", *names), own_rows[bad[0]] if bad else (), strict=False)),
            )
        sums = [sum(known[column : len(rows) * width : width]) for column in range(width)]
        terms = dict(zip(["loss", *(f"{name}_loss" for name in names)], sums, strict=True))
        return Learnt(sum(step.images), terms if rows else {}, tuple(known[len(rows) * width :]))

    def _backward(self, batch: Batch, counts: Mapping[str, Tensor] | None, last: bool) -> dict[str, Tensor]:
        """Add a batch's gradients; over all processes with the last batch of a step.

        Returns:
            The batch's contribution to the total and to every loss.
        """
        several = self._ranks.count > 1
        apart = self._losses.no_sync() if several and not last else nullcontext()
        with connected() if several else nullcontext(), apart:
            if len(batch):
                batch = batch.to(self.device)
                with autocast(self.device, self._amp), self._alone(len(batch)):
                    terms = self._losses(batch.images, batch.targets, counts)
            else:
                with autocast(self.device, self._amp), _only_taking_part(self._model):
                    terms = self._losses(self._blank(), None, None)
            self._scaler.scale(terms["total"]).backward()
        return {name: value.detach() for name, value in terms.items()}

    def _alone(self, images: int) -> AbstractContextManager[None]:
        return single_values(self._model) if images == 1 else nullcontext()

    def _blank(self) -> Tensor:
        """An image for a process that has none, so that all add up the same things in the same order."""
        width, height = self._size
        inputs = self._model.inputs
        return torch.zeros(1, height, width, inputs, dtype=torch.uint8, device=self.device)


class NotFinite(Exception):
    """A loss is not finite.

    Attributes:
        batch: number of the batch within the step; None when it is in another process.
        terms: its losses.
    """

    def __init__(self, batch: int | None, terms: Mapping[str, float]) -> None:
        super().__init__("a loss is not finite")
        self.batch, self.terms = batch, terms


class _only_taking_part:
    """Within the context batch norms see images that do not count: their statistics stay as they are."""

    def __init__(self, model: nn.Module) -> None:
        norms = [module for module in model.modules() if isinstance(module, _BatchNorm) and module.training]
        self._sync: list[SyncBatchNorm2d] = [norm for norm in norms if isinstance(norm, SyncBatchNorm2d)]
        self._plain: list[nn.Module] = [norm for norm in norms if not isinstance(norm, SYNCHRONISED)]

    def __enter__(self) -> None:
        self._set(False)

    def __exit__(self, *_: object) -> None:
        self._set(True)

    def _set(self, counts: bool) -> None:
        for synchronised in self._sync:
            synchronised.counts = counts
        for norm in self._plain:
            norm.train(counts)


def _summed(_: None, bucket: Any) -> torch.futures.Future[Tensor]:
    """DDP's hook: gradients are added up, not averaged, since losses are divided by the counts of all."""
    work = torch.distributed.all_reduce(bucket.buffer(), async_op=True)
    future: torch.futures.Future[Any] = work.get_future()
    return future.then(lambda done: done.value()[0])


_summed.__annotations__.clear()  # torch would compare the text of annotations with its classes
#: Statistics are each process's own during an epoch; newer torch has another name for the same switch.
_OWN_BUFFERS: dict[str, Any] = {
    name: False
    for name in ("forward_sync_buffers", "broadcast_buffers")
    if name in inspect.signature(DistributedDataParallel).parameters
}
if len(_OWN_BUFFERS) > 1:  # the old name warns
    del _OWN_BUFFERS["broadcast_buffers"]
