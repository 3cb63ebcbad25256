"""The training state in a checkpoint, besides weights."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any

from annotated_types import Ge
from torch import Tensor
from typing_extensions import NotRequired, TypedDict

DAMAGED = "it is damaged: train again, or start from best.pt with --init"

Count = Annotated[int, Ge(0)]


@dataclass
class Position:
    """Progress of a training run; all of it is saved.

    Attributes:
        epoch: epochs finished.
        batch: batches done within the current epoch.
        step: optimizer steps done since the start.
        sums: loss terms summed over the current epoch, and their number of images.
        waits_from: epochs finished when patience began to count: 0, or where an ended run went on.
        rows: one record per finished epoch, as in metrics.csv.
    """

    epoch: Count = 0
    batch: Count = 0
    step: Count = 0
    sums: dict[str, float] = field(default_factory=dict)
    waits_from: Count = 0
    rows: list[dict[str, int | float]] = field(default_factory=list)


class TrainingState(TypedDict):
    """The content of ``last.pt`` besides the weights to use."""

    position: str
    config: str
    optimizer: dict[str, Any]
    scaler: dict[str, int | float]
    random: Tensor
    weights: NotRequired[dict[str, Tensor]]
    updates: NotRequired[Count]
    cuda_random: NotRequired[Tensor]
