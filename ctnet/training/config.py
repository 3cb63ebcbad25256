"""The resolved configuration of a run."""

from __future__ import annotations

import dataclasses
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from annotated_types import Ge, Gt, Interval

from ctnet.base.choices import Amp
from ctnet.base.schema import check_json
from ctnet.base.version import __version__
from ctnet.core.recipe import Recipe
from ctnet.data.folds import Fold


@dataclass(frozen=True)
class TrainingConfig:
    """The content of a run's ``config.json``.

    Attributes:
        task, options, backbone, pretrained: the network.
        init: the checkpoint that training started from, if any.
        data: the data directory.
        train_split, val_split: names of its splits; without ``val_split`` there is no evaluation.
        recipe_name: name or file of ``recipe``.
        recipe: schedule and hyperparameters, including the user's changes.
        learning_rate: the learning rate in effect, scaled to the actual batch.
        seed: seed of initialisation, shuffling and augmentation.
        amp: autocast type: off, bf16 or fp16.
        overfit: train and evaluate on this many images of the training split, without augmentation; 0: no.
        strict: refuse bad records instead of skipping them.
        fold: the part of the training split that is left out, if any.
        annotations, val_annotations: digests of the splits' annotation files; a run only resumes on the same
            data.
        images: fingerprint of both splits' image files, see ``Dataset.fingerprint``.
        versions: the versions of Python, ctnet and its libraries.
        commit: the commit of the code, where it is a git checkout.
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
    learning_rate: Annotated[float, Gt(0)]
    seed: Annotated[int, Interval(ge=0, lt=2**64)] = 0
    amp: Amp = "off"
    overfit: Annotated[int, Ge(0)] = 0
    strict: bool = False
    fold: Fold | None = None
    annotations: str = ""
    val_annotations: str = ""
    images: str = ""
    init: str | None = None
    versions: dict[str, str] = field(default_factory=lambda: versions())
    commit: str | None = field(default_factory=lambda: git_commit())

    @property
    def accumulate(self) -> int:
        """Batches per optimizer step."""
        return self.recipe.accumulate

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    def changes(self, before: Mapping[str, Any]) -> list[str]:
        """Differences from an earlier ``to_json`` in settings that may not change within a run.

        Returns:
            One phrase per setting: "learning_rate is 0.1, was 0.2".
        """
        now, then = flat(self.to_json()), flat(before)
        return [
            f"{name} is {value!r}, was {then.get(name)!r}"
            for name, value in now.items()
            if value != then.get(name) and _FREE.isdisjoint((name, name.partition(".")[0]))
        ]

    @classmethod
    def from_json(cls, values: Any, source: Path) -> TrainingConfig:
        """The inverse of ``to_json``.

        Raises:
            CtnetError: for a field that is missing, unknown or out of its range, naming the file.
        """
        fix = f"it is not a run's config.json of ctnet {__version__}: correct it, or train again"
        read: TrainingConfig = check_json(cls, values, source, fix)
        return read


#: What may change between two parts of a run: a setting, or a whole group of them.
_FREE = frozenset(
    (
        "data",
        "init",
        "strict",
        "versions",
        "commit",
        "recipe.epochs",
        "recipe.evaluate_every",
        "recipe.patience",
        "recipe.save_every",
        "recipe.report",
        "recipe.teacher",
    )
)


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by dotted names."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{name}.")
        else:
            found[prefix + name] = list(value) if isinstance(value, tuple) else value
    return found


def scaled_rate(recipe: Recipe, images_per_step: int) -> float:
    """The recipe's learning rate for another number of images per step (linear scaling)."""
    return recipe.learning_rate * images_per_step / recipe.batch_size


def versions() -> dict[str, str]:
    """Versions that can affect results."""
    return {
        "ctnet": __version__,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }


def git_commit() -> str | None:
    """The commit of the code, with "-dirty" if it has local changes; None outside a checkout."""
    folder = Path(__file__).parents[2]
    if not (folder / ".git").exists():  # installed: an enclosing checkout would be another project's
        return None
    try:
        head = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
        done = subprocess.run(head, capture_output=True, text=True, timeout=5, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None
