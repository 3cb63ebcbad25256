"""All that repeats a training run, resolved."""

from __future__ import annotations

import dataclasses
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ctnet.base.errors import CtnetError
from ctnet.base.version import __version__
from ctnet.core.recipe import Augmentation, Recipe


@dataclass(frozen=True)
class TrainingConfig:
    """What ``config.json`` of a run holds.

    Attributes:
        task, options, backbone, pretrained: what is trained.
        init: the checkpoint whose weights it started from, if any.
        data: the data directory.
        train_split, val_split: names of its splits; no ``val_split``, no evaluation.
        recipe_name: where ``recipe`` came from.
        recipe: schedule and hyper-parameters, with what the user changed.
        learning_rate: the rate in effect, scaled to the real batch.
        accumulate: batches whose gradients are added up to one step.
        seed: of initialisation, shuffling and augmentation.
        amp: autocast type: off, bf16 or fp16.
        overfit: train and evaluate on this many images of the training split, without augmentation; 0: no.
        evaluate_every: epochs between evaluations (the last is always evaluated).
        save_every: seconds between checkpoints within an epoch.
        strict: refuse bad records instead of skipping them.
        annotations: digest of the training split's annotation file; a run resumes on the same data only.
        versions: of what ran it.
        commit: of the code, where it is a git checkout.
    """

    task: str
    options: dict[str, Any]
    backbone: str
    pretrained: bool
    data: str
    train_split: str
    val_split: str | None
    recipe_name: str
    recipe: Recipe
    learning_rate: float
    accumulate: int = 1
    seed: int = 0
    amp: str = "off"
    overfit: int = 0
    evaluate_every: int = 1
    save_every: float = 600.0
    strict: bool = False
    annotations: str = ""
    init: str | None = None
    versions: dict[str, str] = field(default_factory=lambda: versions())
    commit: str | None = field(default_factory=lambda: git_commit())

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any], source: Path) -> TrainingConfig:
        """Read back what ``to_json`` gave.

        Raises:
            CtnetError: when fields are missing or unknown, naming the file.
        """
        try:
            recipe = dict(values["recipe"])
            augmentation = dict(recipe["augmentation"])
            if augmentation["scale"] is not None:
                augmentation["scale"] = tuple(augmentation["scale"])
            recipe |= {
                "drops": tuple(recipe["drops"]),
                "size": tuple(recipe["size"]),
                "augmentation": Augmentation(**augmentation),
            }
            return cls(**{**values, "recipe": Recipe(**recipe)})
        except (KeyError, TypeError) as error:
            raise CtnetError(
                f"{source} is not a run's config.json of this version ({error}); train again"
            ) from error


def scaled_rate(recipe: Recipe, images_per_step: int) -> float:
    """The recipe's learning rate for another number of images per step (linear scaling)."""
    return recipe.learning_rate * images_per_step / recipe.batch_size


def versions() -> dict[str, str]:
    """Versions that may change a result."""
    return {
        "ctnet": __version__,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }


def git_commit() -> str | None:
    """The commit of the code that runs, with "-dirty" when it was changed since; None outside a checkout."""
    folder = Path(__file__).parents[2]
    if not (folder / ".git").exists():  # installed: a surrounding checkout would be somebody else's
        return None
    try:
        head = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
        done = subprocess.run(head, capture_output=True, text=True, timeout=5, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None
