"""The settings of a new training run, in groups; ``new_session`` resolves them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ctnet.base.choices import Cache
from ctnet.base.ranks import Ranks
from ctnet.data.folds import Fold

if TYPE_CHECKING:
    from ctnet.training.display import Display


@dataclass(frozen=True)
class TrainingData:
    """The data to train on.

    Attributes:
        directory: COCO JSON and images; the task's own synthetic scenes when None.
        train_split, val_split: names of its splits; without ``val_split`` there is no evaluation.
        overfit: train and evaluate on this many of the first training images, without augmentation; 0 for
            all.
        strict: refuse bad records instead of leaving them out.
        fold: the part of the training split that is left out; None: all of it is trained on.
    """

    directory: Path | None = None
    train_split: str = "train"
    val_split: str | None = "val"
    overfit: int = 0
    strict: bool = False
    fold: Fold | None = None


@dataclass(frozen=True)
class Network:
    """The network and its initial weights.

    Attributes:
        options: the task options by name; values or strings.
        backbone: its name; a default for ``pretrained`` when None.
        pretrained: start the backbone from ImageNet weights.
        init: a checkpoint to start from, or its address on the web; weights that match are copied.
    """

    options: Mapping[str, Any] = field(default_factory=dict)
    backbone: str | None = None
    pretrained: bool = False
    init: str | Path | None = None


@dataclass(frozen=True)
class RecipeChoice:
    """The recipe to train with.

    Attributes:
        name: one of the task's recipes, or a TOML file (``*.toml``); the default for the network when None.
        fields: fields of the recipe to set, by name (``Recipe.with_fields``).
        rate: the learning rate in effect, not scaled to the batch; the recipe's, scaled, when None.
        largest_batch: take the largest batch that fits, see ``choose_batch_size``.
    """

    name: str | None = None
    fields: Mapping[str, Any] = field(default_factory=dict)
    rate: float | None = None
    largest_batch: bool = False

    @classmethod
    def of(cls, name: str | None, fields: Mapping[str, Any], rate: float | None) -> RecipeChoice:
        """The choice of a user, who may have given "auto" as batch size."""
        chosen = dict(fields)
        largest = chosen.get("batch_size") == "auto"
        if largest:
            del chosen["batch_size"]
        return cls(name, chosen, rate, largest)


@dataclass(frozen=True)
class Machine:
    """Settings of the machine, which may differ when a run is resumed.

    Attributes:
        device: see ``choose_device``.
        workers: worker processes; a default for the device when None.
        display: where progress is shown; the terminal when None.
        ranks: the processes that train together.
        cache: "ram" keeps all decoded images in memory.
        observers: names of the observers of the run, see ``load_observers``; metrics.csv is always written.
    """

    device: str = "auto"
    workers: int | None = None
    display: Display | None = None
    ranks: Ranks = field(default_factory=Ranks)
    cache: Cache = "none"
    observers: Sequence[str] = ()
