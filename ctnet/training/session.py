"""From what the user asked for to a trainer: settings resolved, data opened, the run folder made."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from ctnet.backbones import describe_backbone
from ctnet.base.device import amp_name, choose_amp, choose_device
from ctnet.base.errors import CtnetError, unknown_name
from ctnet.base.numbers import check_seed
from ctnet.base.ranks import number_of_processes
from ctnet.core.recipe import Recipe
from ctnet.core.task import create_task, load_task_class
from ctnet.data.dataset import Dataset
from ctnet.data.problems import summarize
from ctnet.inference.detector import checkpoint_of
from ctnet.model import check_input_size
from ctnet.training.config import TrainingConfig, scaled_rate
from ctnet.training.data import example_data, open_data
from ctnet.training.display import Display
from ctnet.training.run import Run
from ctnet.training.trainer import Trainer

DEFAULT_BACKBONE = "resfpn18"
DEFAULT_PRETRAINED_BACKBONE = "resdcn18"


@dataclass(frozen=True)
class Overrides:
    """Fields of a recipe that the user set; None leaves the recipe's value."""

    epochs: int | None = None
    batch_size: int | None = None
    learning_rate: float | None = None
    size: tuple[int, int] | None = None
    drops: tuple[int, ...] | None = None
    schedule: str | None = None
    final_rate: float | None = None
    optimizer: str | None = None
    weight_decay: float | None = None
    warmup: int | None = None
    clip_norm: float | None = None
    offset_rate: float | None = None
    small_heads: bool | None = None
    ema: float | None = None
    rotate: float | None = None


@dataclass
class Session:
    """A training that is ready to go.

    Attributes:
        run: its folder.
        trainer: does the work.
        display: shows it.
    """

    run: Run
    trainer: Trainer
    display: Display

    @property
    def rows(self) -> list[dict[str, Any]]:
        """Figures of all finished epochs."""
        return self.trainer.position.rows

    def fit(self) -> bool:
        """Train; says where the results lie. True when finished, False when interrupted."""
        try:
            finished = self.trainer.fit()
        finally:
            self.run.release()
        position = self.trainer.position
        if finished:
            best = f", best {position.best:.4f}" if position.rows and position.best > float("-inf") else ""
            self.display.say(f"trained {position.epoch} epochs{best}: {self.run.path}")
        else:
            self.display.say(
                f"stopped after step {position.step}; continue with: ctnet train --resume {self.run.path}"
            )
        return finished


def new_session(
    task_name: str,
    *,
    data: Path | None,
    backbone: str | None = None,
    recipe_name: str | None = None,
    overrides: Overrides | None = None,
    options: Mapping[str, Any] | None = None,
    pretrained: bool = False,
    init: Path | None = None,
    train_split: str = "train",
    val_split: str | None = "val",
    accumulate: int = 1,
    amp: str = "auto",
    evaluate_every: int = 1,
    save_every: float = 600.0,
    overfit: int = 0,
    strict: bool = False,
    seed: int = 0,
    output: Path | None = None,
    device: str = "auto",
    workers: int | None = None,
    display: Display | None = None,
) -> Session:
    """Prepare a new run; arguments as the options of ``ctnet train``.

    Raises:
        CtnetError: for names that do not exist, data that cannot be used, an output that holds a run.
    """
    _insist_on_one_process()
    load_task_class(task_name)  # a wrong name is the first thing to hear of
    check_seed(seed)
    backbone = backbone or (DEFAULT_PRETRAINED_BACKBONE if pretrained else DEFAULT_BACKBONE)
    about = describe_backbone(backbone)
    if about.error:
        raise CtnetError(about.error)
    chosen_device = choose_device(device)
    amp_kind = amp_name(choose_amp(amp, chosen_device))  # "auto" would mean something else elsewhere
    if data is None:
        data = example_data(task_name)
    train, val, task = open_data(
        task_name, data, train_split, val_split, overfit, strict, dict(options or {})
    )
    recipes = dict(task.recipes(backbone))
    if task.scenes is not None:
        recipes["demo"] = task.scenes.recipe
    if recipe_name is None:
        recipe_name = next(iter(recipes)) if pretrained or "small" not in recipes else "small"
    if recipe_name not in recipes:
        raise unknown_name(f"recipe of task {task_name}", recipe_name, recipes)
    overrides = overrides or Overrides()
    recipe = _overridden(recipes[recipe_name], overrides)
    chosen = dict(options or {})
    wanted = {name: value for name, value in recipe.options.items() if name not in chosen}
    if wanted:
        task = create_task(task_name, task.categories, **chosen, **wanted)
        train, val = train.with_task(task), None if val is None else val.with_task(task)
    if overfit and overrides.final_rate is None:
        recipe = dataclasses.replace(recipe, final_rate=0.0)  # here learning by heart is what is wanted
    check_input_size(recipe.size, about.divisor, backbone)
    if recipe.augmentation.rotate and not task.layout.turns:
        raise CtnetError(f"task {task_name} cannot be trained on turned images; leave --rotate out")
    # A step cannot hold more images than there are: the rate follows what it really holds.
    images_per_step = min(recipe.batch_size, len(train)) * accumulate
    scaled = scaled_rate(recipes[recipe_name], images_per_step)
    rate = scaled if overrides.learning_rate is None else overrides.learning_rate
    config = TrainingConfig(
        task=task_name,
        options=dataclasses.asdict(task.options),
        backbone=backbone,
        pretrained=pretrained,
        init=None if init is None else str(checkpoint_of(init).absolute()),
        data=str(data.absolute()),
        train_split=train_split,
        val_split=val_split,
        recipe_name=recipe_name,
        recipe=recipe,
        learning_rate=rate,
        accumulate=accumulate,
        seed=seed,
        amp=amp_kind,
        overfit=overfit,
        evaluate_every=evaluate_every,
        save_every=save_every,
        strict=strict,
        annotations=train.coco.digest,
        val_annotations="" if val is None else val.coco.digest,
        images=_fingerprint(train, val),
    )
    run = Run.create(output, f"{task_name}-{backbone}", config.to_json())
    try:
        trainer = Trainer(config, run, task, train, val, chosen_device, workers, display)
    except BaseException:
        run.discard()  # ImageNet weights that cannot be had, say: nothing was trained yet
        raise
    display = trainer.display
    display.say(f"{task_name} with {backbone}, recipe {recipe_name}: {_in_words(recipe, wanted)}")
    source = (
        f" (recipe: {recipe.learning_rate:.3g} at {recipes[recipe_name].batch_size})"
        if rate == scaled
        else ""
    )
    display.say(f"learning rate {rate:.3g} at {images_per_step} images a step{source}")
    if not pretrained and init is None and not about.learns_from_scratch:
        display.say(
            f"warning: {backbone} without ImageNet weights does not take off on small data; "
            f"use --pretrained, or --backbone {DEFAULT_BACKBONE}"
        )
    for line in trainer.started:
        display.say(line)
    to_evaluate = f"{len(val)} to evaluate on" if val else "none to evaluate on"
    display.say(f"{len(train)} training images, {to_evaluate}; run folder {run.path}")
    _report(train, val, data, display)
    return Session(run, trainer, display)


def resumed_session(
    path: Path,
    task_name: str | None = None,
    device: str = "auto",
    workers: int | None = None,
    display: Display | None = None,
) -> Session:
    """Continue a run with the settings of its config.json.

    Args:
        path: the run folder.
        task_name: checked against the run's, when given.
        device, workers: may differ from before.
        display: where progress is shown.

    Raises:
        CtnetError: when there is no run, another process trains it, it is of another task, there is nothing
            to continue from, or its data has changed.
    """
    _insist_on_one_process()
    run = Run.existing(path).locked()
    try:
        return _resumed(run, task_name, device, workers, display)
    except BaseException:
        run.release()
        raise


def _resumed(
    run: Run, task_name: str | None, device: str, workers: int | None, display: Display | None
) -> Session:
    path = run.path
    run.remove_leftovers()
    if not run.last.is_file() and (kept := [file for file in (run.best, run.metrics) if file.exists()]):
        raise CtnetError(
            f"{path} has no last.pt, so there is nothing to continue from; {kept[0].name} shows that it has "
            f"trained: start another run with --init {path}, or restore last.pt"
        )
    config = TrainingConfig.from_json(run.read_config(), run.config)
    if task_name is not None and task_name != config.task:
        raise CtnetError(f"{path} is a run of task {config.task}, not {task_name}")
    data = Path(config.data)
    if not data.exists():
        raise CtnetError(
            f"the data of {path}, {data}, is not there; if it was moved, write its new place into 'data' of "
            f"{run.config}"
        )
    train, val, task = open_data(
        config.task,
        data,
        config.train_split,
        config.val_split,
        config.overfit,
        config.strict,
        config.options,
    )
    _refuse_other_data(config, train, val, path)
    display = display or Display(run.path)
    trainer = Trainer(config, run, task, train, val, choose_device(device), workers, display)
    position, epochs = trainer.position, config.recipe.epochs
    if position.epoch >= epochs:
        display.say(f"{path} has finished its {epochs} epochs already")
    else:
        display.say(f"resuming {path} at epoch {position.epoch + 1}/{epochs}, batch {position.batch + 1}")
    return Session(run, trainer, display)


def _insist_on_one_process() -> None:
    if number_of_processes() > 1:
        raise CtnetError("a training runs in one process; leave out torchrun (and WORLD_SIZE)")


def _fingerprint(train: Dataset, val: Dataset | None) -> str:
    return train.fingerprint() if val is None else f"{train.fingerprint()} {val.fingerprint()}"


def _refuse_other_data(config: TrainingConfig, train: Dataset, val: Dataset | None, path: Path) -> None:
    """Continue on the very data that the run began with: its figures are compared, its batches counted."""
    changed = None
    if config.annotations not in ("", train.coco.digest):
        changed = f"{train.coco.path} was"
    elif val is not None and config.val_annotations not in ("", val.coco.digest):
        changed = f"{val.coco.path} was"
    elif config.images not in ("", _fingerprint(train, val)):
        changed = f"images of {config.data} were"
    if changed:
        raise CtnetError(
            f"{changed} changed since {path} began, so the run cannot be continued; train anew, from its "
            f"weights with --init {path}"
        )


def _overridden(recipe: Recipe, overrides: Overrides) -> Recipe:
    changes = {
        name: value
        for name, value in vars(overrides).items()
        if value is not None and name not in ("learning_rate", "rotate")
    }
    if overrides.rotate is not None:
        changes["augmentation"] = dataclasses.replace(recipe.augmentation, rotate=overrides.rotate)
    for name, kind in (("schedule", Literal["step", "cosine"]), ("optimizer", Literal["adam", "adamw"])):
        if name in changes and changes[name] not in get_args(kind):
            raise CtnetError(f"--{name} is {changes[name]!r}; it must be {' or '.join(get_args(kind))}")
    if changes.get("clip_norm") == 0:
        changes["clip_norm"] = None
    # The rate belongs to the recipe's own batch; it is scaled to the real one apart from this.
    return dataclasses.replace(recipe, **changes)


def _in_words(recipe: Recipe, options: Mapping[str, Any]) -> str:
    drops = (
        f", drops at {' and '.join(map(str, recipe.drops))}"
        if recipe.drops and recipe.schedule == "step"
        else ""
    )
    width, height = recipe.size
    return (
        f"{recipe.epochs} epochs of {recipe.optimizer}, {recipe.schedule} schedule{drops}, "
        f"batch {recipe.batch_size}, input {width}x{height}"
        + "".join(f", {name} {value}" for name, value in options.items())
    )


def _report(train: Dataset, val: Dataset | None, data: Path, display: Display) -> None:
    """Say which records are left out."""
    different = [train, *([val] if val is not None and val is not train else [])]
    problems = [problem for dataset in different for problem in dataset.problems]
    for line in [*summarize(problems), *(line for dataset in different for line in dataset.warnings)]:
        display.say(f"warning: {line}")
    if problems:
        display.say(f"warning: see all with `ctnet data check {data}`")
