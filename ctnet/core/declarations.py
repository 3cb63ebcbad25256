"""What a task declares besides fields and heads: example scenes, layout and suppression."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ctnet.base.choices import Nms
from ctnet.core.geometry import Fit
from ctnet.core.recipe import DEMO, Recipe
from ctnet.core.records import Sample


@dataclass(frozen=True)
class Scenes:
    """Synthetic scenes of a task, for its demo and its tests.

    Attributes:
        categories: of the objects that are drawn, as in a COCO file.
        draw: (generator, (width, height)) -> a scene; the generator is its only source of randomness, and the
            columns that ``Task.complete`` computes are left to it.
        size: (width, height) of a scene when nobody asks for another, pixels.
        counts: scenes per split that ``ctnet demo`` draws.
        recipe: what ``ctnet demo`` trains with, at its ``size``; also known as recipe "demo".
    """

    categories: Sequence[Mapping[str, Any]]
    draw: Callable[[np.random.Generator, tuple[int, int]], Sample]
    size: tuple[int, int] = (192, 192)
    counts: Mapping[str, int] = field(default_factory=lambda: {"train": 600, "val": 100})
    recipe: Recipe = DEMO


@dataclass(frozen=True)
class Layout:
    """How data reach a task.

    Attributes:
        fit: how an image is laid into an input of fixed size: "inside" shows all of it, "width" fills the
            input's width, and cuts or pads top and bottom alike.
        prefix: which annotation file of a data directory is the task's own.
        turns: whether images may be turned in training (``Augmentation.rotate``).
    """

    fit: Fit = "inside"
    prefix: str = "instances"
    turns: bool = True


@dataclass(frozen=True)
class Suppression:
    """Non-maximum suppression after ``decode`` when nobody asks for another.

    Attributes:
        method: "none", since an object is one peak; a task that joins several points to an object may find
            one in several ways.
        candidates: how many detections ``decode`` is asked for at least, where suppression has to choose
            among them before the best are kept.
    """

    method: Nms = "none"
    candidates: int = 0
