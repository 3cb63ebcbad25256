"""Training within a time per image: the backbone and the input size are chosen before a run begins."""

from __future__ import annotations

from dataclasses import replace

from ctnet.base.errors import CtnetError
from ctnet.base.output import print_note
from ctnet.base.ranks import Ranks
from ctnet.base.settings import convert_all
from ctnet.budget.choice import propose, trainable_backbones
from ctnet.budget.proposal import Budget, Candidate
from ctnet.core.recipe import own_fields
from ctnet.training.data import open_data
from ctnet.training.request import Network, RecipeChoice, TrainingData


def within_budget(
    task_name: str,
    settings: tuple[TrainingData, Network, RecipeChoice],
    budget: Budget,
    ranks: Ranks | None = None,
) -> tuple[TrainingData, Network, RecipeChoice]:
    """The settings with a backbone and an input size that keep to a budget, which are named on stderr.

    The choice is among the backbones that learn from scratch, with the heads that the task has for this data.
    A size that the settings already have is kept.

    Args:
        task_name: name of the task.
        settings: the requested data, network and recipe.
        budget: the time per image, on this machine's CPU.
        ranks: the processes that train together; the first one measures.

    Raises:
        CtnetError: when no backbone is fast enough, when the settings name a backbone, or ask for pretrained
            weights, and for data that cannot be used.
    """
    data, network, recipe = settings
    if network.backbone is not None:
        raise CtnetError("--budget chooses the backbone; leave out --backbone, or --budget")
    if network.pretrained:
        raise CtnetError(
            "--budget chooses among backbones that learn from scratch; leave out --pretrained, or name a "
            "--backbone instead"
        )
    ranks, chosen = ranks or Ranks(), None
    with ranks.agreed():
        if ranks.is_first:
            chosen = _choose(task_name, data, network, recipe, budget)
    chosen = ranks.broadcast(chosen)
    assert chosen is not None
    fields = {**recipe.fields, "size": chosen.size}
    return data, replace(network, backbone=chosen.backbone), replace(recipe, fields=fields)


def _choose(
    task_name: str, data: TrainingData, network: Network, recipe: RecipeChoice, budget: Budget
) -> Candidate:
    task = open_data(task_name, data, network.options).task
    given = {name: value for name, value in recipe.fields.items() if name == "size"}
    size = convert_all(given, own_fields(), "field", "the recipe").get("size")
    proposal = propose(trainable_backbones(), task.heads, budget, size)
    for line in proposal.lines():
        print_note(line)
    return proposal.chosen
