"""From a task's loss totals and counts to the scalar that training minimises.

Every total is divided by its count over the whole optimizer step: over all its batches, regardless of how it
is split.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ctnet.core.heads import Head
from ctnet.core.losses import Loss
from ctnet.core.targets import CellTargets, Grid, Target
from ctnet.core.task import Task


def losses_of_stacks(
    task: Task, stacks: Sequence[Mapping[str, Tensor]], targets: Mapping[str, Target]
) -> dict[str, Loss]:
    """One loss per name for a batch: totals are averaged over stacks (intermediate supervision).

    Args:
        task: computes them.
        stacks: the predictions of ``CenterNet`` when given targets.
        targets: those of every head, joined over the batch.

    Source: the released code divides each term by the number of stacks.
    """
    each = [task.losses(predicted, targets) for predicted in stacks]
    return {
        name: Loss(torch.stack([losses[name].total for losses in each]).mean(), first.count)
        for name, first in each[0].items()
    }


@torch.no_grad()
def counts_of(
    task: Task, targets: Mapping[str, Target], grid: Grid, dtype: torch.dtype = torch.float32
) -> dict[str, Tensor]:
    """The counts of a batch's losses, without predictions: they depend only on the targets.

    Args:
        task: computes the losses.
        targets: those of every head, joined over the batch.
        grid: the output grid of the batch.
        dtype: data type of the network.
    """
    predicted = {}
    for name, head in task.heads.items():
        target = targets[name]
        shape = (
            (len(target), head.channels)
            if isinstance(target, CellTargets)
            else (grid.batch, head.channels, grid.height, grid.width)
        )
        predicted[name] = torch.zeros((), dtype=dtype, device=target.batch.device).expand(shape)
    return {name: loss.count for name, loss in task.losses(predicted, targets).items()}


def add_counts(parts: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """The counts of a step from those of its batches."""
    return {name: torch.stack([counts[name] for counts in parts]).sum() for name in parts[0]}


def mean_losses(losses: Mapping[str, Loss], counts: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A batch's contribution to the step's mean of every loss.

    Args:
        losses: losses of the batch.
        counts: the counts of the step.
    """
    return {name: loss.total / counts[name].clamp(min=1) for name, loss in losses.items()}


def weighted_sum(terms: Mapping[str, Tensor], heads: Mapping[str, Head]) -> Tensor:
    """The total loss: terms with a head's name are weighted by the head's weight, others by 1."""
    weights = {name: heads[name].weight if name in heads else 1.0 for name in terms}
    return torch.stack([weights[name] * term for name, term in terms.items()]).sum()
