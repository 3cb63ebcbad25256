"""Resolving the requested recipe to the one in effect."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ctnet.base.errors import CtnetError, unknown_name
from ctnet.core.recipe import Recipe
from ctnet.core.task import Task, create_task
from ctnet.training.config import scaled_rate
from ctnet.training.data import Splits
from ctnet.training.recipe_files import read_recipe
from ctnet.training.request import Network, RecipeChoice

#: Beyond it no network learns, and products of it are not numbers.
_HIGHEST_RATE = 1e6


@dataclass(frozen=True)
class Plan:
    """How a run is trained.

    Attributes:
        recipe_name: one of the task's, or a TOML file.
        recipe: with the user's changes; at its own batch size its learning rate is the one in effect.
        rate: the learning rate in effect.
        origin: the recipe whose learning rate was scaled to give ``rate``; None: it was given directly.
        images_per_step: actual images per step.
        wanted: task options set by the recipe.
        splits: the data, bound to the task with these options.
        note: why this batch size, where it was not given.
    """

    recipe_name: str
    recipe: Recipe
    rate: float
    origin: Recipe | None
    images_per_step: int
    wanted: Mapping[str, Any]
    splits: Splits
    note: str = ""


def plan_training(
    splits: Splits, backbone: str, choice: RecipeChoice, network: Network, overfit: int
) -> Plan:
    """Resolve a recipe for data and network.

    Args:
        splits: the data.
        backbone: recipes depend on it.
        choice: what is asked for.
        network: its pretraining determines the default recipe; its options override the recipe's.
        overfit: images to overfit; 0 for none.

    Raises:
        CtnetError: for a recipe or field that does not exist, invalid values, and rotation for a task that
            does not support it.
    """
    task = splits.task
    name, base = _chosen(task, backbone, choice.name, network.pretrained)
    recipe = base.with_fields(choice.fields)
    wanted = {name: value for name, value in recipe.options.items() if name not in network.options}
    if wanted:
        task = create_task(task.name, task.categories, **network.options, **wanted)
        splits = splits.with_task(task)
    if overfit and "final_rate" not in choice.fields:
        recipe = replace(recipe, final_rate=0.0)  # here memorising is the goal
    if recipe.augmentation.rotate and not task.layout.rotatable:
        raise CtnetError(f"task {task.name} cannot be trained on rotated images; set -R rotate=0")
    if recipe.patience and splits.val is None:
        raise CtnetError("patience counts evaluations, and there is no validation split; set -R patience=0")
    # A step cannot have more images than there are; the rate follows the actual number.
    images = min(recipe.batch_size, len(splits.train)) * recipe.accumulate
    if choice.rate is not None:
        if choice.rate <= 0:
            raise CtnetError(f"--lr is {choice.rate:g}; it must be above 0")
        rate, origin = choice.rate, None
        recipe = replace(recipe, learning_rate=rate * recipe.batch_size / images)
    elif "learning_rate" in choice.fields:
        rate, origin = scaled_rate(recipe, images), recipe
    else:
        rate, origin = scaled_rate(base, images), base
        if recipe.batch_size != base.batch_size:
            recipe = replace(recipe, learning_rate=scaled_rate(base, recipe.batch_size))
    for scaled in (rate, recipe.learning_rate):
        if not 0 < scaled <= _HIGHEST_RATE:  # NaN as well
            raise CtnetError(
                f"the learning rate is {scaled:g}; choose one above 0 and at most {_HIGHEST_RATE:g}"
            )
    return Plan(name, recipe, rate, origin, images, wanted, splits)


def _chosen(task: Task, backbone: str, name: str | None, pretrained: bool) -> tuple[str, Recipe]:
    """The recipe of this name or file, or the default for the network."""
    if name is not None and name.endswith(".toml"):
        return name, read_recipe(name)
    recipes = dict(task.recipes(backbone))
    if task.scenes is not None:
        recipes["demo"] = task.scenes.recipe
    if name is None:
        name = next(iter(recipes)) if pretrained or "small" not in recipes else "small"
    if name not in recipes:
        raise unknown_name(f"recipe of task {task.name}", name, recipes)
    return name, recipes[name]
