"""Teachers: networks that do not learn, and change what another is taught (see ``Task.taught``)."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from ctnet.base.errors import CtnetError
from ctnet.checkpoint import load_weights
from ctnet.core.recipe import Recipe
from ctnet.core.targets import Target
from ctnet.core.task import Task, create_task
from ctnet.model import CenterNet, create_model
from ctnet.training.config import TrainingConfig
from ctnet.training.optimization import MovingAverage
from ctnet.training.start import load_from

#: Takes normalised images (B, 3, H, W) and the targets of a batch, and returns the targets to teach.
Teacher = Callable[[Tensor, Mapping[str, Target]], Mapping[str, Target]]

#: ``Recipe.teach`` where a teacher is named and nothing else said.
TEACHERS_SHARE = 0.5

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
        share: ``Recipe.teach``.
    """

    def __init__(
        self, task: Task, model: CenterNet, average: MovingAverage, begin: int, share: float = 0.0
    ) -> None:
        self._task, self._average, self._begin, self._share = task, average, begin, share
        self._model = copy.deepcopy(model).eval().requires_grad_(False)
        self._model.load_state_dict(average.weights, assign=True)

    def __call__(self, inputs: Tensor, targets: Mapping[str, Target]) -> Mapping[str, Target]:
        if self._average.updates < self._begin:
            return targets
        with torch.no_grad():
            seen = self._model.activated(inputs)
            if self._task.needs_average:
                targets = self._task.taught(targets, seen)
            return softened(self._task, targets, seen, self._share)


class TrainedTeacher:
    """A trained network as the teacher of another one.

    Args:
        task: the task of the network that is trained.
        model: that network; the teacher runs where it is.
        path: a run folder, checkpoint, or address of one, of the same heads and classes, with any backbone.
        share: ``Recipe.teach``.

    Raises:
        CtnetError: when it cannot be read, or has other heads, classes or another stride.
    """

    def __init__(self, task: Task, model: CenterNet, path: str, share: float) -> None:
        checkpoint = load_from(path)
        its = checkpoint.description
        taught = create_task(its.task, its.categories, **its.options)
        self._model = create_model(taught, its.backbone).eval().requires_grad_(False)
        load_weights(self._model, checkpoint.weights)
        strides = (str(one.backbone.stride) for one in (model, self._model))
        for what, ours, theirs in (
            ("heads", _heads(task), _heads(taught)),
            ("classes", ", ".join(task.categories.names), ", ".join(taught.categories.names)),
            ("stride", *strides),
        ):
            if ours != theirs:
                raise CtnetError(
                    f"the teacher {path} has {what} {theirs}, this training {ours}; choose a teacher "
                    "that was trained with the same task, options and classes"
                )
        self._model = self._model.to(next(model.parameters()).device)
        self._task, self._share = task, share

    def __call__(self, inputs: Tensor, targets: Mapping[str, Target]) -> Mapping[str, Target]:
        with torch.no_grad():
            return softened(self._task, targets, self._model.activated(inputs), self._share)


def teachers_of(
    config: TrainingConfig,
    task: Task,
    model: CenterNet,
    average: MovingAverage | None,
    steps_per_epoch: int,
) -> list[Teacher]:
    """The teachers of a training, in the order in which they change targets.

    Args:
        config: names a trained one, and the part that it teaches.
        task, model: what is trained.
        average: the moving average of its weights, if there is one.
        steps_per_epoch: optimizer steps.

    Raises:
        CtnetError: for a trained one that does not fit, and without a moving average that is to teach.
    """
    share = config.recipe.teach
    teachers: list[Teacher] = []
    if config.recipe.teacher is not None:
        teachers.append(TrainedTeacher(task, model, config.recipe.teacher, share))
        share = 0.0
    if task.needs_average or share:
        if average is None:
            raise CtnetError(
                f"{task.name} with these settings is taught by the moving average of the weights, which this "
                "recipe does not have; set -R ema=0.99, or leave out -R teach and -O doubtful"
            )
        begin = first_update(config.recipe, steps_per_epoch)
        teachers.append(AverageTeacher(task, model, average, begin, share))
    return teachers


def _heads(task: Task) -> str:
    """A task's heads with their channels."""
    return ", ".join(f"{name} {head.channels}" for name, head in task.heads.items())


def softened(
    task: Task, targets: Mapping[str, Target], seen: Mapping[str, Tensor], share: float
) -> Mapping[str, Target]:
    """Targets of which a share is the teacher's, head by head."""
    if not share:
        return targets
    return {name: head.soften(targets[name], seen[name], share) for name, head in task.heads.items()}


def first_update(recipe: Recipe, steps_per_epoch: int) -> int:
    """The number of updates after which the moving average teaches."""
    return math.ceil(FROM * recipe.epochs) * steps_per_epoch
