"""``--batch-size auto``: the largest batch that fits into memory."""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count, cycle, islice, takewhile

import torch
from torch import Tensor

from ctnet.base.device import choose_amp
from ctnet.base.errors import CtnetError
from ctnet.base.memory import available_memory, gigabytes, is_out_of_memory
from ctnet.base.output import counted
from ctnet.base.ranks import Ranks, number_on_machine
from ctnet.checkpoint import Description
from ctnet.data.loader import Batch, TrainingSet, collate
from ctnet.model import create_model
from ctnet.ops.winograd_layers import use_winograd
from ctnet.training.freezing import freeze
from ctnet.training.gradients import Gradients, Step, StepLosses
from ctnet.training.optimization import MovingAverage, make_optimizer
from ctnet.training.plan import Plan

#: So many steps an epoch has at least, unless the recipe's own batch size leaves fewer.
_STEPS = 16

#: The share of free memory that training may take by estimate, or by the largest trial on a GPU.
_SHARE = 0.8

#: What an image needs at the peak of a step, as a multiple of what the forward pass keeps of it for the
#: backward pass: gradients of activations and workspaces come on top. Measured with resfpn18: 1.5.
_PEAK = 1.6

#: Different images are taken for a trial up to this number, then the same ones again.
_IMAGES = 8


@dataclass(frozen=True)
class Chosen:
    """A batch size.

    Attributes:
        size: images per batch, of all processes together.
        why: why it is not larger.
    """

    size: int
    why: str


def choose_batch_size(
    plan: Plan, backbone: str, device: torch.device, amp: str, ranks: Ranks, cache: int = 0
) -> Chosen:
    """The largest batch of a series (1, 2, 3, 4, 6, 8, 12, ...) that fits. All processes must call it.

    Args:
        plan: how the run is trained, but for its batch size.
        backbone: its name.
        device: the device of this process.
        amp: as in ``TrainingConfig``.
        ranks: the processes that share every batch.
        cache: bytes of main memory that the images will take.

    Raises:
        CtnetError: when not even one image fits.
    """
    most = _most(plan, ranks.count)
    with ranks.agreed():
        trial = Trial(plan, backbone, device, amp)
        share = -(-most // ranks.count)
        fits, why = _by_trial(trial, share) if device.type == "cuda" else _by_estimate(trial, share, cache)
        del trial
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()
        if not fits:
            width, height = plan.recipe.size
            raise CtnetError(f"not even one image of {width}x{height} fits: {why}; use a smaller --size")
    fits = min(ranks.exchange(fits)) * ranks.count
    if fits < most:
        return Chosen(fits, why)
    images = len(plan.splits.train)
    if most >= images:
        return Chosen(most, f"there are {images} training images")
    steps = counted(-(-images // (most * plan.recipe.accumulate)), "step")
    return Chosen(most, f"an epoch then has {steps}; a larger batch would fit, but leave fewer")


def _most(plan: Plan, processes: int) -> int:
    """The largest batch that is sensible, whatever the memory."""
    images, recipe = len(plan.splits.train), plan.recipe
    sensible = images // (_STEPS * recipe.accumulate)
    return max(processes, min(images, max(recipe.batch_size, sensible)))


def _sizes(most: int) -> list[int]:
    """1, 2, 3, 4, 6, 8, 12, 16, ... below ``most``, and that."""
    series = (size for power in count() for size in (1 << power, (3 << power) >> 1))
    return [*dict.fromkeys(takewhile(lambda size: size < most, series)), most]


class Trial:
    """A network and its optimizer as a run has them, to make steps whose results nobody uses."""

    def __init__(self, plan: Plan, backbone: str, device: torch.device, amp: str) -> None:
        recipe, task = plan.recipe, plan.splits.task
        self.device, self.recipe = device, recipe
        self.model = create_model(task, backbone, False, recipe.small_heads).train()
        self.model = self.model.to(device).to(memory_format=torch.channels_last)
        if device.type == "cpu":
            use_winograd(self.model)
        freeze(self.model, recipe)
        self._optimizer = make_optimizer(self.model, recipe, 1e-6)
        self._average = MovingAverage(self.model, recipe.ema) if recipe.ema else None
        kind = choose_amp(amp, device)
        scaler = torch.amp.GradScaler(device.type, enabled=kind == torch.float16)
        stride = self.model.backbone.stride
        description = Description.of(task, backbone, recipe.size, self.model.backbone)
        self._gradients = Gradients(StepLosses(task, self.model, description), scaler, kind, Ranks())
        self._samples = TrainingSet(plan.splits.train, task, recipe.size, recipe.augmentation, 0, stride)

    def batch(self, images: int) -> Batch:
        """A batch of the first images that can be read."""
        chosen = islice(cycle(range(min(_IMAGES, len(self._samples)))), images)
        batch = collate([self._samples[0, index] for index in chosen])
        if not isinstance(batch, Batch) or not len(batch):
            raise CtnetError("the first training images cannot be read; give a number as --batch-size")
        return batch

    def step(self, images: int) -> None:
        """A whole optimizer step."""
        self._backward(images)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        if self._average is not None:
            self._average.update(self.model)

    def _backward(self, images: int) -> None:
        batch = self.batch(images)
        self._gradients.accumulate(Step([batch], [len(batch)]))

    def kept(self, images: int) -> int:
        """Bytes that the forward pass keeps for the backward pass, per image."""
        own = {parameter.untyped_storage().data_ptr() for parameter in self.model.parameters()}
        found: dict[int, int] = {}

        def pack(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in own:
                found[storage.data_ptr()] = storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            self._backward(images)
        self._optimizer.zero_grad(set_to_none=True)
        return sum(found.values()) // images

    def weights(self) -> int:
        """Bytes of weights, gradients, moments, moving average, and the copy that is evaluated."""
        size: int = sum(tensor.numel() * tensor.element_size() for tensor in self.model.state_dict().values())
        return size * (6 if self._average is not None else 5)


def _by_estimate(trial: Trial, most: int, cache: int) -> tuple[int, str]:
    """The largest batch whose estimated memory is free, and why no larger one; 0 for none."""
    free = available_memory(trial.device)
    width, height = trial.recipe.size
    if free is None:
        return min(most, trial.recipe.batch_size), "free memory is not known here, so it is the recipe's"
    free = (free - cache) // number_on_machine()
    # An image waits as bytes, and is copied once on its way.
    image = _PEAK * trial.kept(min(2, most)) + 6 * width * height
    sizes = [size for size in _sizes(most) if trial.weights() + size * image <= _SHARE * free]
    need = trial.weights() + (sizes[-1] if sizes else 1) * image
    share = f"{100 * _SHARE:.0f} % of the {gigabytes(free)} that are free"
    return (sizes[-1] if sizes else 0), f"its estimated memory is {gigabytes(need)}, at most {share}"


def _by_trial(trial: Trial, most: int) -> tuple[int, str]:
    """The largest batch with which a step succeeds in a share of the memory, and why no larger one."""
    free = available_memory(trial.device) or 0
    return largest(_sizes(most), lambda size: _step_fits(trial, size, _SHARE * free))


def largest(sizes: list[int], fits: Callable[[int], bool]) -> tuple[int, str]:
    """The largest of rising sizes that fits, tried one after the other, and why no larger one; 0 for none."""
    best = 0
    for size in sizes:
        if not fits(size):
            return best, f"a step with {size} does not fit into {100 * _SHARE:.0f} % of the free memory"
        best = size
    return best, "no larger one was tried"


def _step_fits(trial: Trial, size: int, room: float) -> bool:
    torch.cuda.reset_peak_memory_stats(trial.device)
    before = torch.cuda.memory_allocated(trial.device)
    try:
        trial.step(size)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        return False
    finally:
        torch.cuda.empty_cache()
    return torch.cuda.max_memory_allocated(trial.device) - before <= room
