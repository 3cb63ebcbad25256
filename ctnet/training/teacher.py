"""Teachers: networks that do not learn, and change what another is taught (see ``Task.taught``)."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from ctnet.core.recipe import Recipe
from ctnet.core.targets import Target
from ctnet.core.task import Task
from ctnet.model import CenterNet
from ctnet.training.optimization import MovingAverage

#: Takes normalised images (B, 3, H, W) and the targets of a batch, and returns the targets to teach.
Teacher = Callable[[Tensor, Mapping[str, Target]], Mapping[str, Target]]

#: Fraction of the epochs after which the moving average begins to teach.
FROM = 0.3


class AverageTeacher:
    """The moving average of a network's weights as its teacher.

    It reads the weights where the average keeps them, so it costs no memory, but a forward pass without
    gradients for every batch. Whether it teaches yet depends only on the number of updates, which checkpoints
    keep.

    Args:
        task: changes the targets.
        model: the network that is trained.
        average: its moving average.
        begin: updates after which it teaches.
    """

    def __init__(self, task: Task, model: CenterNet, average: MovingAverage, begin: int) -> None:
        self._task, self._average, self._begin = task, average, begin
        self._model = copy.deepcopy(model).eval().requires_grad_(False)
        self._model.load_state_dict(average.weights, assign=True)

    def __call__(self, inputs: Tensor, targets: Mapping[str, Target]) -> Mapping[str, Target]:
        if self._average.updates < self._begin:
            return targets
        with torch.no_grad():
            return self._task.taught(targets, self._model.activated(inputs))


def first_update(recipe: Recipe, steps_per_epoch: int) -> int:
    """The number of updates after which the moving average teaches."""
    return math.ceil(FROM * recipe.epochs) * steps_per_epoch
