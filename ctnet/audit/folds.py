"""Trainings that each leave out a part of the data, so that no network judges what it learnt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from annotated_types import Ge

from ctnet.base.errors import CtnetError
from ctnet.base.files import atomic_write, read_json, write_json
from ctnet.base.schema import check_json
from ctnet.data.folds import Fold
from ctnet.training.best import is_over
from ctnet.training.config import TrainingConfig
from ctnet.training.recipe_files import recipe_toml
from ctnet.training.request import Machine, Network, RecipeChoice, TrainingData
from ctnet.training.run import Run
from ctnet.training.session import Session, new_session, resumed_session

_FORMAT: Final = "ctnet audit 1"


class Interrupted(CtnetError):
    """The trainings were stopped before the last was finished."""

    exit_code = 130


@dataclass(frozen=True)
class FoldSettings:
    """What an audit with folds is made of; kept in its folder, which only continues with the same.

    Attributes:
        format: ``_FORMAT``.
        run: the run whose task, network and recipe are used.
        split: the audited split.
        annotations: digest of its annotation file.
        folds, group, seed: see ``Fold``.
        fields: fields of the recipe that are changed, as given.
    """

    format: Literal["ctnet audit 1"]
    run: str
    split: str
    annotations: str
    folds: Annotated[int, Ge(2)]
    group: str | None = None
    seed: Annotated[int, Ge(0)] = 0
    fields: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(
        cls, run: Path, split: str, annotations: str, fold: Fold, fields: Mapping[str, Any]
    ) -> FoldSettings:
        """The settings of an audit of a run's data, by the fold's number of parts, group and seed."""
        return cls(
            _FORMAT, str(run.absolute()), split, annotations, fold.count, fold.group, fold.seed, {**fields}
        )

    def fold(self, number: int) -> Fold:
        """One of the folds, from 0."""
        return Fold(number, self.folds, self.group, self.seed)


def begin(folder: Path, settings: FoldSettings, config: TrainingConfig) -> None:
    """Make the folder of an audit, or see that an existing one is of the same audit.

    Args:
        folder: the folder.
        settings: what the audit is made of.
        config: that of its run.

    Raises:
        CtnetError: when the folder holds an audit with other settings.
    """
    file = folder / "audit.json"
    if file.is_file():
        fix = f"it is not of `ctnet data audit`: choose another --output than {folder}"
        before = check_json(FoldSettings, read_json(file), file, fix)
        now, then = asdict(settings), asdict(before)
        if changed := [name for name in now if now[name] != then[name]]:
            name = changed[0]
            raise CtnetError(
                f"{folder} holds an audit with other settings ({name} is {then[name]!r} there, and "
                f"{now[name]!r} now); choose another --output, or remove it"
            )
        return
    with atomic_write(folder / "recipe.toml", "w") as stream:
        stream.write(recipe_toml(config.recipe))
    write_json(file, asdict(settings))


def train_folds(
    folder: Path, settings: FoldSettings, config: TrainingConfig, data: Path, machine: Machine
) -> list[Path]:
    """Train one network for each fold on everything but that; what is already trained is kept.

    Args:
        folder: from ``begin``; the runs are ``fold-1``, ``fold-2``, ... in it.
        settings: the audit.
        config: that of its run: network, options, recipe, seed.
        data: the data directory.
        machine: what to train on.

    Raises:
        Interrupted: when Ctrl-C or SIGTERM stopped a training; its state is saved.
    """
    paths = [folder / f"fold-{number + 1}" for number in range(settings.folds)]
    for number, path in enumerate(paths):
        if _is_finished(path):
            continue
        session = _session(path, settings.fold(number), folder, settings, config, data, machine)
        session.display.say(f"fold {number + 1} of {settings.folds}: {path}")
        if not session.fit():
            raise Interrupted(
                f"stopped in fold {number + 1} of {settings.folds}; the same command goes on from there"
            )
    return paths


def _is_finished(path: Path) -> bool:
    """Whether a fold was trained to its end; it has no evaluations that could end it early."""
    run = Run(path)
    if not (run.config.is_file() and run.best.is_file() and run.metrics.is_file()):
        return False
    config = TrainingConfig.from_json(run.read_config(), run.config)
    return is_over(run.read_metrics(), "", config.recipe)


def _session(
    path: Path,
    fold: Fold,
    folder: Path,
    settings: FoldSettings,
    config: TrainingConfig,
    data: Path,
    machine: Machine,
) -> Session:
    if Run(path).config.is_file():
        return resumed_session(path, machine=machine, data=data)
    return new_session(
        config.task,
        # Without validation: the weights of the last epoch are taken, so that no label chooses them.
        TrainingData(data, settings.split, None, strict=config.strict, fold=fold),
        Network(config.options, config.backbone, config.pretrained, _start(config)),
        RecipeChoice(str(folder / "recipe.toml"), settings.fields),
        config.seed,
        machine,
        path,
    )


def _start(config: TrainingConfig) -> Path | None:
    return None if config.init is None else Path(config.init)
