"""Recipes: schedule and hyperparameters of a training run, as data."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal, get_type_hints

from annotated_types import Ge, Gt, Interval

from ctnet.base.choices import Amp, BatchNorm
from ctnet.base.errors import CtnetError
from ctnet.base.settings import check_bounds, convert_all

Share = Annotated[float, Interval(ge=0, le=1)]
Strength = Annotated[float, Interval(ge=0, le=100)]
Count = Annotated[int, Ge(1)]

#: Fields set separately: augmentation (a table of its own in a file) and the task's options.
_GROUPS = ("augmentation", "options")


@dataclass(frozen=True)
class Augmentation:
    """Augmentation of training images.

    Attributes:
        flip: probability of a horizontal flip.
        scale: smallest and largest factor on the image's longer side, drawn in steps of 0.1; None for no
            scaling.
        shift: how far the crop's centre moves: "border" is the released code's rule (anywhere except near the
            image's border); a number is the largest fraction of the image's width and height; 0 for no shift.
        rotate: maximum rotation in either direction, degrees; 0 (as in the paper) for none.
        geometric: fraction of the images that are scaled, shifted and rotated; the others are not.
        colour: strength of brightness, contrast and saturation jitter; 0 for none.
        lighting: standard deviation of the PCA lighting noise; 0 for none.
        mosaic: fraction of the images that are made of four, each in a tile of its own.
        plain_share: fraction of the epochs, the last ones, without mosaics.

    Raises:
        CtnetError: for a value out of range.
    """

    flip: Share = 0.5
    scale: tuple[float, float] | None = (0.6, 1.3)
    shift: Literal["border"] | Share = "border"
    rotate: Annotated[float, Interval(ge=0, le=180)] = 0.0
    geometric: Share = 1.0
    colour: Strength = 0.4
    lighting: Strength = 0.1
    mosaic: Share = 0.0
    plain_share: Share = 0.2

    def __post_init__(self) -> None:
        check_bounds(self, "the recipe")
        if self.scale is not None and not 0 < self.scale[0] <= self.scale[1] < math.inf:
            low, high = self.scale
            raise CtnetError(
                f"field scale of the recipe is {low:g}..{high:g}; it must be two numbers above 0, the "
                "smaller one first"
            )


@dataclass(frozen=True)
class Recipe:
    """Everything that ``ctnet train`` needs beyond data, task and backbone; ``-R`` sets any field of it.

    Attributes:
        epochs: passes over the training split.
        batch_size: images per batch.
        learning_rate: for ``batch_size`` images per step; it scales linearly with the number of images.
        milestones: epochs after which the learning rate is divided by 10 (schedule "step").
        schedule: "step" or "cosine" (down to ``final_rate`` over all epochs).
        final_rate: final learning rate of a cosine schedule, as a fraction of the learning rate. The last,
            small steps mostly memorise noise, such as which objects the annotators missed.
        optimizer: "adam" or "adamw".
        weight_decay: the weight decay of the optimizer.
        warmup: steps over which the learning rate rises linearly from 0, at most a fifth of the run.
        clip_norm: maximum gradient norm; None for no clipping.
        offset_rate: learning-rate multiplier of the offset layers of deformable convolutions. They start at
            zero with thousands of inputs each, so one step at the full rate moves the sampling points by
            pixels: without pretrained weights this keeps the other layers from learning.
        small_heads: initialise regression heads with the backbone's small standard deviation
            (``Backbone.head_std``). Good for fine-tuning; in training from scratch their hidden units then
            become alike and learn little more than the mean.
        ema: decay of the moving average of weights that is evaluated and saved; 0 for none.
        teach: part of what is taught that comes from a teacher: the one named, or else the moving average of
            the weights once it has learnt something (distillation, self-distillation); 0 for none.
        teacher: a run or checkpoint of the same heads and classes, with any backbone, that teaches half if
            ``teach`` says nothing else; None for none.
        size: (width, height) of the network input, pixels.
        accumulate: gradient accumulation: batches per optimizer step.
        evaluate_every: epochs between evaluations; the last epoch is always evaluated.
        smooth: ``best.pt`` is of the epoch with the highest mean of the main metric over so many evaluations,
            its own the last; 1 for the metric itself.
        patience: end the training after so many evaluations without a new best one; 0 for never. The schedule
            stays that of all ``epochs``.
        freeze: keep the first stages of the backbone, so many, as they are, batch norm statistics included;
            ``Backbone.freezable_stages`` lists them.
        amp: mixed precision: "off", "bf16", "fp16", or "auto" (bf16 where the device multiplies it in
            hardware).
        batch_norm: whose images the statistics of batch norms are of: each process's own, those of all
            processes ("sync"), or nobody's: statistics and weights stay as they are ("frozen").
        save_every: seconds between checkpoints within an epoch.
        compile: compile the network and its losses with ``torch.compile``: it needs a C++ compiler, and the
            first step takes minutes. It changes rounding.
        tf32: on a GPU, multiply float32 in TF32, which has ten bits of mantissa and is several times as fast.
            torch's own default is TF32 in convolutions alone.
        deterministic: on a GPU, use only algorithms that give the same result each time; what has none is
            refused. A CPU needs no such setting.
        report: write ``report.html`` and plots into the run folder at the end.
        augmentation: how training images vary.
        options: task options that the recipe changes from their defaults; ``-O`` overrides them.

    Raises:
        CtnetError: for a value out of range.
    """

    epochs: Count
    batch_size: Count
    learning_rate: Annotated[float, Gt(0)]
    milestones: tuple[Count, ...] = ()
    schedule: Literal["step", "cosine"] = "step"
    final_rate: Share = 0.0
    optimizer: Literal["adam", "adamw"] = "adam"
    weight_decay: Strength = 0.0
    warmup: Annotated[int, Ge(0)] = 0
    clip_norm: Annotated[float, Gt(0)] | None = None
    offset_rate: Share = 1.0
    small_heads: bool = True
    ema: Annotated[float, Interval(ge=0, lt=1)] = 0.0
    teach: Share = 0.0
    teacher: str | None = None
    size: tuple[Count, Count] = (512, 512)
    accumulate: Count = 1
    evaluate_every: Count = 1
    smooth: Count = 1
    patience: Annotated[int, Ge(0)] = 0
    freeze: Annotated[int, Ge(0)] = 0
    amp: Amp = "auto"
    batch_norm: BatchNorm = "own"
    save_every: Annotated[float, Ge(0)] = 600.0
    compile: bool = False
    tf32: bool = True
    deterministic: bool = False
    report: bool = True
    augmentation: Augmentation = field(default_factory=Augmentation)
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "milestones", tuple(sorted(self.milestones)))
        check_bounds(self, "the recipe")

    def with_fields(self, values: Mapping[str, Any]) -> Recipe:
        """A copy with some fields set by name, including those of the augmentation.

        Args:
            values: field name -> value or its text, see ``ctnet.core.options.convert``.

        Raises:
            CtnetError: for an unknown field, and a value of the wrong type or out of range.
        """
        converted = convert_all(values, recipe_fields(), "field", "the recipe")
        inner = {name: converted.pop(name) for name in list(converted) if name in _hints(Augmentation)}
        return replace(self, augmentation=replace(self.augmentation, **inner), **converted)


def recipe_fields() -> dict[str, Any]:
    """The types of all fields that can be set by name: the recipe's own and those of its augmentation."""
    return {**own_fields(), **_hints(Augmentation)}


def own_fields() -> dict[str, Any]:
    """The types of the recipe's own fields, without its augmentation and the task's options."""
    return {name: hint for name, hint in _hints(Recipe).items() if name not in _GROUPS}


def _hints(cls: type) -> dict[str, Any]:
    return get_type_hints(cls)


#: For a few hundred images and no pretrained weights. It is ctnet's own; docs/results.md has its results.
SMALL = Recipe(
    epochs=40,
    batch_size=16,
    learning_rate=2e-3,
    schedule="cosine",
    final_rate=0.2,
    optimizer="adamw",
    weight_decay=1e-2,
    warmup=60,
    clip_norm=10.0,
    offset_rate=0.01,
    small_heads=False,
    ema=0.99,
    smooth=5,
    augmentation=Augmentation(scale=(0.8, 1.2), shift=0.1, colour=0.2, lighting=0.05),
)

#: The recipe of ``ctnet demo``: about three minutes on two CPU cores for 600 simple scenes, in which every
#: object is annotated.
DEMO = replace(SMALL, epochs=10, final_rate=0.0, size=(128, 128))
