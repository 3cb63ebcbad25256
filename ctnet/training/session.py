"""From what the user asked for to a trainer: settings resolved, data opened, the run folder made."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from ctnet.backbones import describe_backbone, list_backbones
from ctnet.data.dataset import Dataset
from ctnet.data.problems import Problem, refuse, summarize
from ctnet.data.synthetic import write_dataset
from ctnet.device import amp_name, choose_amp, choose_device
from ctnet.errors import CtnetError, unknown_name
from ctnet.inference.detector import Detector
from ctnet.model import check_input_size
from ctnet.recipe import Recipe
from ctnet.task import Task, create_task, load_task_class
from ctnet.training.config import TrainingConfig, scaled_rate
from ctnet.training.display import Display
from ctnet.training.run import RUNS, Run
from ctnet.training.trainer import Trainer

#: Backbones that learn from scratch on small data; the others want ImageNet weights.
LEARNS_FROM_SCRATCH = "resfpn*"
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
    optimizer: str | None = None
    weight_decay: float | None = None
    warmup: int | None = None
    clip_norm: float | None = None
    ema: float | None = None


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
        finished = self.trainer.fit()
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
    load_task_class(task_name)  # a wrong name is the first thing to hear of
    backbone = backbone or (DEFAULT_PRETRAINED_BACKBONE if pretrained else DEFAULT_BACKBONE)
    if backbone not in list_backbones():
        raise unknown_name("backbone", backbone, list_backbones())
    chosen_device = choose_device(device)
    amp = amp_name(choose_amp(amp, chosen_device))  # "auto" would mean something else on another machine
    if data is None:
        data = example_data(task_name)
    train, val, task = _open_data(
        task_name, data, train_split, val_split, overfit, strict, dict(options or {})
    )
    recipe_name = recipe_name or ("paper" if pretrained else "small")
    recipes = task.recipes(backbone)
    if recipe_name not in recipes:
        raise unknown_name(f"recipe of task {task_name}", recipe_name, recipes)
    overrides = overrides or Overrides()
    recipe = _overridden(recipes[recipe_name], overrides)
    check_input_size(recipe.size, describe_backbone(backbone).divisor, backbone)
    # A step cannot hold more images than there are: the rate follows what it really holds.
    images_per_step = min(recipe.batch_size, len(train)) * accumulate
    rate = overrides.learning_rate or scaled_rate(recipes[recipe_name], images_per_step)
    config = TrainingConfig(
        task=task_name,
        options=dataclasses.asdict(task.options),
        backbone=backbone,
        pretrained=pretrained,
        data=str(data.absolute()),
        train_split=train_split,
        val_split=val_split,
        recipe_name=recipe_name,
        recipe=recipe,
        learning_rate=rate,
        accumulate=accumulate,
        seed=seed,
        amp=amp,
        overfit=overfit,
        evaluate_every=evaluate_every,
        save_every=save_every,
        strict=strict,
    )
    run = Run.create(output, f"{task_name}-{backbone}", config.to_json())
    display = display or Display(run.path)
    display.say(f"{task_name} with {backbone}, recipe {recipe_name}: {_in_words(recipe)}")
    display.say(
        f"learning rate {rate:.3g} at {images_per_step} images a step"
        + (
            ""
            if overrides.learning_rate
            else f" (recipe: {recipes[recipe_name].learning_rate:.3g} at {recipes[recipe_name].batch_size})"
        )
    )
    if not pretrained and backbone not in list_backbones(LEARNS_FROM_SCRATCH):
        display.say(
            f"warning: {backbone} without ImageNet weights does not take off on small data; "
            f"use --pretrained, or --backbone {DEFAULT_BACKBONE}"
        )
    display.say(
        f"{len(train)} training images, {len(val) if val else 'no'} to evaluate on; run folder {run.path}"
    )
    _report(train.problems, data, display)
    return Session(run, Trainer(config, run, task, train, val, chosen_device, workers, display), display)


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
        CtnetError: when there is no run, or it is of another task.
    """
    run = Run.existing(path)
    run.remove_leftovers()
    config = TrainingConfig.from_json(run.read_config(), run.config)
    if task_name is not None and task_name != config.task:
        raise CtnetError(f"{path} is a run of task {config.task}, not {task_name}")
    train, val, task = _open_data(
        config.task,
        Path(config.data),
        config.train_split,
        config.val_split,
        config.overfit,
        config.strict,
        config.options,
    )
    display = display or Display(run.path)
    trainer = Trainer(config, run, task, train, val, choose_device(device), workers, display)
    position = trainer.position
    display.say(
        f"resuming {path} at epoch {position.epoch + 1}/{config.recipe.epochs}, batch {position.batch + 1}"
    )
    return Session(run, trainer, display)


def example_data(task_name: str, counts: Mapping[str, int] | None = None, size: int = 192) -> Path:
    """The data directory of a task's synthetic scenes under ``runs``; drawn when it does not exist yet.

    Args:
        task_name: whose ``Task.example`` draws them.
        counts: scenes per split.
        size: width and height of a scene, pixels.
    """
    counts = dict(counts or {"train": 480, "val": 80})
    cls = load_task_class(task_name)
    name = f"{task_name}-scenes-{size}-{'-'.join(str(count) for count in counts.values())}"
    folder = RUNS / "data" / name
    # The annotation files come last, so the folder is whole where they all exist.
    if not all(
        (folder / "annotations" / f"{cls.annotation_prefix}_{split}.json").is_file() for split in counts
    ):
        task = create_task(task_name, cls.example_categories)
        write_dataset(task, folder, counts, (size, size), prefix=cls.annotation_prefix)
    return folder


def evaluation_data(detector: Detector, path: Path, data: Path | None, split: str | None) -> Dataset:
    """The data set that a detector is to be measured on.

    Args:
        detector: its categories must be the data's.
        path: its run folder, or a checkpoint in one, which knows the data; or a checkpoint anywhere.
        data: a data directory instead of the run's.
        split: of it; the run's validation split when None.

    Raises:
        CtnetError: when nothing says which data, or the data has other categories.
    """
    task = detector.task
    folder = path if path.is_dir() else path.parent
    overfit = 0
    if data is None:
        run = Run(folder)
        if not run.config.is_file():
            raise CtnetError(f"{path} is in no run folder that names its data; say --data DIR")
        config = TrainingConfig.from_json(run.read_config(), run.config)
        data = Path(config.data)
        if split is None and config.overfit:
            split, overfit = config.train_split, config.overfit
        split = split or config.val_split
    dataset = Dataset.open(data, split or "val", task)
    _check_categories(dataset, task, data)
    return dataset.subset(range(min(overfit, len(dataset)))) if overfit else dataset


def _check_categories(dataset: Dataset, task: Task, source: Path) -> None:
    """Refuse data whose category ids or names are not the task's."""
    theirs = {int(category["id"]): str(category["name"]) for category in dataset.categories}
    ours = dict(zip(task.category_ids.tolist(), task.class_names, strict=True))
    if theirs != ours:
        different = sorted(theirs.keys() ^ ours.keys()) or [key for key in ours if ours[key] != theirs[key]]
        raise CtnetError(
            f"split {dataset.split!r} of {source} has other categories than the detector (category "
            f"id {different[0]} is {theirs.get(different[0], 'missing')!r} there and "
            f"{ours.get(different[0], 'missing')!r} here); give data with the same categories"
        )


def _open_data(
    task_name: str,
    data: Path,
    train_split: str,
    val_split: str | None,
    overfit: int,
    strict: bool,
    options: Mapping[str, Any],
) -> tuple[Dataset, Dataset | None, Task]:
    cls = load_task_class(task_name)
    train = Dataset.open(data, train_split, cls)
    task = create_task(task_name, train.categories, **options)
    train = train.with_task(task)
    if overfit:
        train = train.subset(range(min(overfit, len(train))))
        val: Dataset | None = train
    else:
        val = Dataset.open(data, val_split, task) if val_split else None
    if val is not None:
        _check_categories(val, task, data)
    if strict:
        refuse([*train.problems, *(val.problems if val else [])], data)
    return train, val, task


def _overridden(recipe: Recipe, overrides: Overrides) -> Recipe:
    changes = {
        name: value
        for name, value in vars(overrides).items()
        if value is not None and name != "learning_rate"
    }
    for name, kind in (("schedule", Literal["step", "cosine"]), ("optimizer", Literal["adam", "adamw"])):
        if name in changes and changes[name] not in get_args(kind):
            raise CtnetError(f"--{name} is {changes[name]!r}; it must be {' or '.join(get_args(kind))}")
    if changes.get("clip_norm") == 0:
        changes["clip_norm"] = None
    # The rate belongs to the recipe's own batch; it is scaled to the real one apart from this.
    return dataclasses.replace(recipe, **changes)


def _in_words(recipe: Recipe) -> str:
    drops = (
        f", drops at {' and '.join(map(str, recipe.drops))}"
        if recipe.drops and recipe.schedule == "step"
        else ""
    )
    width, height = recipe.size
    return (
        f"{recipe.epochs} epochs of {recipe.optimizer}, {recipe.schedule} schedule{drops}, "
        f"batch {recipe.batch_size}, input {width}x{height}"
    )


def _report(problems: list[Problem], data: Path, display: Display) -> None:
    for line in summarize(problems):
        display.say(f"warning: {line}")
    if problems:
        display.say(f"warning: see all with `ctnet data check {data}`")
