"""Optimizer, learning-rate schedule, moving average."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from typing_extensions import TypedDict

from ctnet.base.errors import CtnetError
from ctnet.base.schema import check_values
from ctnet.core.recipe import Recipe
from ctnet.ops.deform_conv import DeformConv
from ctnet.ops.sync_batch_norm import SYNCHRONISED


def make_optimizer(model: nn.Module, recipe: Recipe, rate: float) -> torch.optim.Optimizer:
    """Adam or AdamW over all parameters; without weight decay for biases and norm scales.

    The offset layers of deformable convolutions have their own groups if the recipe gives them another rate,
    which ``set_rate`` applies.
    """
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = _groups(parameters, recipe.weight_decay)
    if recipe.offset_rate != 1:
        layers = [module.conv_offset_mask for module in model.modules() if isinstance(module, DeformConv)]
        own = {parameter for layer in layers for parameter in layer.parameters()}
        groups = _groups([p for p in parameters if p not in own], recipe.weight_decay)
        if own:
            placing = _groups([p for p in parameters if p in own], recipe.weight_decay)
            groups += [{**group, "share": recipe.offset_rate} for group in placing]
    kind = torch.optim.AdamW if recipe.optimizer == "adamw" else torch.optim.Adam
    # One call for all parameters, which on a GPU also spares the float16 scaler its wait.
    fused = all(parameter.device.type == "cuda" for parameter in parameters)
    optimizer = kind(groups, lr=rate, fused=True if fused and parameters else None)
    set_rate(optimizer, rate)
    return optimizer


def _groups(parameters: list[nn.Parameter], weight_decay: float) -> list[dict[str, Any]]:
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]


_OPEN = {"strict": True, "extra": "allow"}


class _Group(TypedDict):
    """A parameter group of an optimizer's state; other keys are its settings."""

    __pydantic_config__ = _OPEN  # type: ignore[misc]

    params: list[int]


class _State(TypedDict):
    """An optimizer's state dict."""

    state: dict[int, dict[str, Tensor]]
    param_groups: list[_Group]


def load_optimizer(optimizer: torch.optim.Optimizer, saved: Mapping[str, Any]) -> None:
    """Continue with saved moments and step counts. Other settings, such as rates, stay those of the recipe.

    Args:
        optimizer: a new one of ``make_optimizer``.
        saved: its saved ``state_dict``.

    Raises:
        CtnetError: when the state does not match this network's parameters.
    """
    fix = "it is damaged, or of another recipe: train again"
    checked = check_values(_State, saved, "its optimizer's state", fix)
    state = checked["state"]
    own = optimizer.state_dict()
    numbers = [group["params"] for group in own["param_groups"]]
    if [group["params"] for group in checked["param_groups"]] != numbers:
        raise CtnetError(f"its optimizer's state has different parameter groups than the recipe; {fix}")
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for number, moments in state.items():
        shape = parameters[number].shape if 0 <= number < len(parameters) else None
        wanted = {"step": torch.Size(), "exp_avg": shape, "exp_avg_sq": shape}
        if moments.keys() != wanted.keys() or not all(_fits(moments[name], wanted[name]) for name in wanted):
            raise CtnetError(f"its optimizer's state of parameter {number} does not match; {fix}")
    optimizer.load_state_dict({"state": state, "param_groups": own["param_groups"]})


def _fits(moment: Tensor, shape: torch.Size | None) -> bool:
    plain = moment.layout == torch.strided and moment.dtype.is_floating_point and not moment.is_meta
    return plain and moment.shape == shape and bool(moment.isfinite().all())


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of every group of ``make_optimizer``, with its multiplier."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get("share", 1.0)


def rate_factor(recipe: Recipe, step: int, steps_per_epoch: int) -> float:
    """The factor of the learning rate at a step.

    Args:
        recipe: schedule, milestones, warm-up.
        step: optimizer steps done since the start.
        steps_per_epoch: optimizer steps of one epoch.
    """
    warm = min(1.0, (step + 1) / max(1, warmup_steps(recipe, steps_per_epoch)))
    if recipe.schedule == "cosine":
        share = step / max(1, recipe.epochs * steps_per_epoch)
        fall = 0.5 * (1 + math.cos(math.pi * min(1.0, share)))
        return warm * (recipe.final_rate + (1 - recipe.final_rate) * fall)
    epoch = step // steps_per_epoch
    return float(warm * 0.1 ** sum(epoch >= milestone for milestone in recipe.milestones))


def warmup_steps(recipe: Recipe, steps_per_epoch: int) -> int:
    """Steps over which the learning rate rises: the recipe's, but at most a fifth of the run."""
    return min(recipe.warmup, recipe.epochs * steps_per_epoch // 5)


def peak_factor(recipe: Recipe, steps_per_epoch: int) -> float:
    """The largest ``rate_factor`` of a run; after the warm-up it only falls."""
    steps = range(warmup_steps(recipe, steps_per_epoch) + 1)
    return max(rate_factor(recipe, step, steps_per_epoch) for step in steps)


class MovingAverage:
    """Exponential moving average of a network's weights and norm statistics.

    Early on the decay is smaller, (1 + t) / (10 + t) after t updates, so that the initial weights are soon
    forgotten.

    Attributes:
        decay: the final decay.
        updates: updates done.
        weights: the averaged state dict.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.updates = 0
        self.weights = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Move the average towards the network's current weights."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        current = model.state_dict()
        floats = [name for name, tensor in self.weights.items() if tensor.is_floating_point()]
        torch._foreach_lerp_([self.weights[n] for n in floats], [current[n] for n in floats], 1 - decay)
        counts = [name for name, tensor in self.weights.items() if not tensor.is_floating_point()]
        if counts:
            torch._foreach_copy_([self.weights[n] for n in counts], [current[n] for n in counts])

    def load(self, weights: Mapping[str, Tensor], updates: int) -> None:
        """Continue from a saved average."""
        self.updates = updates
        for name, tensor in self.weights.items():
            tensor.copy_(weights[name])


@contextmanager
def single_values(model: nn.Module) -> Iterator[None]:
    """Train on one image: batch norms with a single value per channel use their running statistics.

    The deepest map of a small image has one cell with zero variance, which PyTorch refuses to normalise.
    Within the context such a layer behaves as in evaluation mode and does not update its statistics.
    """

    def before(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if inputs[0].numel() == inputs[0].shape[1]:
            module.eval()

    def after(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        module.train()

    hooks = []
    for module in model.modules():
        # One that adds up over processes sees the images of all of them.
        if isinstance(module, _BatchNorm) and module.training and not isinstance(module, SYNCHRONISED):
            hooks += [module.register_forward_pre_hook(before), module.register_forward_hook(after)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
