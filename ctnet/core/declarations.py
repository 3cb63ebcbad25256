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
        categories: categories of the objects that are drawn, as in a COCO file.
        draw: (generator, (width, height)) -> a scene; the generator is its only source of randomness;
            ``Task.complete`` computes derived columns afterwards.
        size: default (width, height) of a scene, pixels.
        counts: scenes per split that ``ctnet demo`` draws.
        recipe: what ``ctnet demo`` trains with, at its ``size``; also known as recipe "demo".
        video: (generator, (width, height), frames) -> the frames of a video in order, for tasks that see
            more than one (``Task.frames``); None: every scene is an image of its own.
        length: frames of a video.
        chosen: (options) -> the scenes of the task with these options, where they depend on them.
    """

    categories: Sequence[Mapping[str, Any]]
    draw: Callable[[np.random.Generator, tuple[int, int]], Sample]
    size: tuple[int, int] = (192, 192)
    counts: Mapping[str, int] = field(default_factory=lambda: {"train": 600, "val": 100})
    recipe: Recipe = DEMO
    video: Callable[[np.random.Generator, tuple[int, int], int], Sequence[Sample]] | None = None
    length: int = 1
    chosen: Callable[[Mapping[str, Any]], Scenes] | None = None


@dataclass(frozen=True)
class Layout:
    """How a task's data are laid out.

    Attributes:
        fit: how an image is fitted into an input of fixed size: "inside" shows all of it, "width" fills the
            input's width and crops or pads top and bottom equally.
        prefix: which annotation file of a data directory the task reads.
        rotatable: whether images may be rotated in training (``Augmentation.rotate``).
    """

    fit: Fit = "inside"
    prefix: str = "instances"
    rotatable: bool = True


@dataclass(frozen=True)
class Suppression:
    """A task's default non-maximum suppression after ``decode``.

    Attributes:
        method: "none", since an object is one peak; a task that groups several points into an object may find
            one object more than once.
        candidates: the minimum number of detections that ``decode`` is asked for, so that suppression has
            enough to choose from before the best are kept.
    """

    method: Nms = "none"
    candidates: int = 0
