"""Setting up a trainer: resolving settings, opening data, creating the run folder."""

from __future__ import annotations

import dataclasses
import multiprocessing
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from ctnet.backbones import BackboneInfo, describe_backbone
from ctnet.base.choices import Amp
from ctnet.base.device import amp_name, choose_amp, choose_device
from ctnet.base.download import is_address
from ctnet.base.errors import CtnetError
from ctnet.base.files import write_json
from ctnet.base.numbers import check_seed
from ctnet.base.output import counted
from ctnet.base.ranks import Ranks, number_of_processes, number_on_machine
from ctnet.core.recipe import Recipe
from ctnet.core.task import load_task_class
from ctnet.data.problems import summarize
from ctnet.data.workers import default_workers
from ctnet.inference.detector import checkpoint_of
from ctnet.model import check_input_size
from ctnet.training.batch_size import choose_batch_size
from ctnet.training.best import best_of
from ctnet.training.config import TrainingConfig
from ctnet.training.data import Splits, open_data
from ctnet.training.display import Display, Silent
from ctnet.training.freezing import check_freeze
from ctnet.training.observers import Observer, load_observers
from ctnet.training.operating import threshold_lines
from ctnet.training.optimization import peak_factor, rate_factor, warmup_steps
from ctnet.training.plan import Plan, plan_training
from ctnet.training.request import Machine, Network, RecipeChoice, TrainingData
from ctnet.training.run import Run
from ctnet.training.teacher import TEACHERS_SHARE
from ctnet.training.trackers import MetricsFile
from ctnet.training.trainer import Trainer

DEFAULT_BACKBONE = "resfpn18"
DEFAULT_PRETRAINED_BACKBONE = "resdcn18"
#: Under this name a job remembers its run, for processes that are started again.
RUN = "run"


@dataclass
class Session:
    """A training run that is ready to start.

    Attributes:
        run: the run folder.
        trainer: the trainer.
        display: shows the progress.
    """

    run: Run
    trainer: Trainer
    display: Display

    @property
    def rows(self) -> list[dict[str, Any]]:
        """Metrics of all finished epochs."""
        return self.trainer.position.rows

    @property
    def summary(self) -> str:
        """One line about a finished training: epochs, best metric, run folder."""
        main, epochs = self.trainer.main_metric, counted(self.trainer.position.epoch, "epoch")
        if self.trainer.out_of_patience:
            epochs += f" ({_lost_patience(self.trainer)})"
        smooth = self.trainer.config.recipe.smooth
        best, highest = (best_of(self.rows, main, evaluations) for evaluations in (smooth, 1))
        if best is None or highest is None:
            return f"trained {epochs}: {self.run.path}"
        alone = f" (by the mean of {smooth}; epoch {highest.epoch} alone has {highest.value:.3f})"
        why = "" if best.epoch == highest.epoch else alone
        return f"trained {epochs}, best {main} {best.value:.3f} at epoch {best.epoch}{why}: {self.run.path}"

    def fit(self) -> bool:
        """Train, and say how to continue if interrupted. Returns whether training finished."""
        try:
            finished = self.trainer.fit()
        finally:
            self.run.release()
        if finished:
            for line in threshold_lines(self.run):
                self.display.say(line)
        else:
            resume = f"`ctnet train --resume {self.run.path}`"
            self.display.say(f"stopped after step {self.trainer.position.step}; continue with {resume}")
        return finished


def _lost_patience(trainer: Trainer) -> str:
    """Why a run ended before its last epoch."""
    evaluations = counted(trainer.config.recipe.patience, "evaluation")
    return f"ended early: {evaluations} without a better {trainer.main_metric}"


def new_session(
    task_name: str,
    data: TrainingData | None = None,
    network: Network | None = None,
    recipe: RecipeChoice | None = None,
    seed: int = 0,
    machine: Machine | None = None,
    output: Path | None = None,
) -> Session:
    """Prepare a new run.

    Args:
        task_name: name of the task.
        data, network, recipe, machine: the requested settings.
        seed: seed of all randomness.
        output: the run folder; a new one under ``runs`` when None.

    Raises:
        CtnetError: for unknown names, unusable data, and an output folder that contains a run.
    """
    data, network, recipe = data or TrainingData(), network or Network(), recipe or RecipeChoice()
    machine = machine or Machine()
    _require_one_process(ranks := machine.ranks)
    with ranks.agreed():
        load_task_class(task_name)  # report a wrong name before anything else
        check_seed(seed)
        backbone = _backbone(network)
        observers = _observers(machine)
        device = choose_device(machine.device)
    # The first process goes first: it may have to draw the scenes, and indexes the annotations for all.
    for turn in (True, False):
        with ranks.agreed():
            if ranks.is_first == turn:
                splits = open_data(task_name, data, network.options)
    with ranks.agreed():
        plan = plan_training(splits, backbone.name, recipe, network, data.overfit)
        check_input_size(plan.recipe.size, backbone.divisor, backbone.name)
        check_freeze(plan.recipe.freeze, backbone)
    amp = amp_name(choose_amp(plan.recipe.amp, device))  # "auto" could differ on another machine
    if recipe.largest_batch:
        plan = _with_largest_batch(plan, backbone.name, recipe, network, data.overfit, amp, machine)
    with ranks.agreed():
        config = _config(backbone, data, network, seed, plan, amp)
    _require_one_job(ranks, config)
    with ranks.agreed():
        splits = _kept(plan.splits, machine, device)
    run = _created(ranks, output, f"{task_name}-{backbone.name}", config)
    try:
        with ranks.agreed():
            if ranks.is_first:
                run.write_recipe(plan.recipe)
            trainer = Trainer(config, run, splits, device, machine.workers, _display(machine, run), ranks)
    except BaseException:
        run.discard()  # nothing was trained yet (ImageNet weights may be unavailable, for example)
        raise
    trainer.observers.add(observers)
    ranks.remember(RUN, str(run.path.absolute()))
    for line in _announcement(trainer, backbone, plan):
        trainer.display.say(line)
    return Session(run, trainer, trainer.display)


def resumed_session(
    path: Path,
    task_name: str | None = None,
    machine: Machine | None = None,
    epochs: int | None = None,
    data: Path | None = None,
) -> Session:
    """Continue a run with the settings of its config.json.

    Args:
        path: the run folder.
        task_name: must be the run's task, if given.
        machine: settings of this machine; they may differ from before.
        epochs: a new total number of epochs, also for a finished run; the config is rewritten.
        data: the new location of the run's data, which must be the same; the config is rewritten.

    Raises:
        CtnetError: when there is no run, another process is training it, it has another task, there is
            nothing to continue from, its data has changed, or it already has as many epochs.
    """
    machine = machine or Machine()
    _require_one_process(machine.ranks)
    with machine.ranks.agreed():
        run = Run.existing(path)
        if machine.ranks.is_first:
            run = run.locked()
    try:
        return _resumed(run, task_name, machine, epochs, data)
    except BaseException:
        run.release()
        raise


def _resumed(
    run: Run, task_name: str | None, machine: Machine, epochs: int | None, moved: Path | None
) -> Session:
    ranks = machine.ranks
    with ranks.agreed():
        if ranks.is_first:
            run.remove_leftovers()
        observers = _observers(machine)
        stored, config, trainer, display = _restored(run, task_name, machine, epochs, moved)
    _require_one_job(ranks, config)
    with ranks.agreed():
        for line in _continuation(trainer, stored, epochs is not None):
            display.say(line)
        if epochs is not None and trainer.out_of_patience:
            trainer.position.waits_from = trainer.position.epoch
        if config != stored and ranks.is_first:
            write_json(run.config, config.to_json())
            run.write_recipe(config.recipe)
    trainer.observers.add(observers)
    ranks.remember(RUN, str(run.path.absolute()))
    return Session(run, trainer, display)


def _restored(
    run: Run, task_name: str | None, machine: Machine, epochs: int | None, moved: Path | None
) -> tuple[TrainingConfig, TrainingConfig, Trainer, Display]:
    """The config that a run had, the one that it has now, its trainer and display."""
    path = run.path
    if not run.last.is_file() and (kept := [file for file in (run.best, run.metrics) if file.exists()]):
        raise CtnetError(
            f"{path} has no last.pt, so there is nothing to continue from; {kept[0].name} shows that it was "
            f"trained: start another run with --init {path}, or restore last.pt"
        )
    stored = TrainingConfig.from_json(run.read_config(), run.config)
    config = _with_changes(stored, epochs, moved)
    if task_name is not None and task_name != config.task:
        raise CtnetError(f"{path} is a run of task {config.task}, not {task_name}")
    data = TrainingData(
        Path(config.data), config.train_split, config.val_split, config.overfit, config.strict, config.fold
    )
    if not Path(config.data).exists():
        raise CtnetError(
            f"the data of {path}, {config.data}, does not exist; if it was moved, give its new location: "
            f"--resume {path} --data DIR"
        )
    splits = open_data(config.task, data, config.options)
    _refuse_other_data(config, splits, path)
    display, device = _display(machine, run), choose_device(machine.device)
    splits = _kept(splits, machine, device)
    trainer = Trainer(config, run, splits, device, machine.workers, display, machine.ranks)
    return stored, config, trainer, display


def _with_changes(config: TrainingConfig, epochs: int | None, moved: Path | None) -> TrainingConfig:
    """The config of a run that continues with another number of epochs or another location of its data."""
    recipe = config.recipe if epochs is None else replace(config.recipe, epochs=epochs)
    return replace(config, recipe=recipe, data=str(moved.absolute()) if moved else config.data)


def _continuation(trainer: Trainer, before: TrainingConfig, asked: bool) -> Iterator[str]:
    """A description of where a run continues, line by line.

    Args:
        trainer: the run's trainer, with the new config.
        before: the run's previous config.
        asked: whether a number of epochs was given.

    Raises:
        CtnetError: when the run already has the given number of epochs.
    """
    position, path, config = trainer.position, trainer.run.path, trainer.config
    epochs = config.recipe.epochs
    fresh = f"start a new run from its weights with --init {path}"
    if position.epoch >= epochs and asked:
        raise CtnetError(
            f"{path} already has {position.epoch} epochs, so it cannot be trained to {epochs}; give "
            f"--epochs {position.epoch + 1} or more, or {fresh}"
        )
    if position.epoch >= epochs:
        yield (
            f"{path} has already finished its {epochs} epochs; train it further with "
            f"--resume {path} --epochs {2 * epochs}, or {fresh}"
        )
        return
    if trainer.out_of_patience and not asked:
        yield (
            f"{path} {_lost_patience(trainer)}; train it further with --resume {path} --epochs {epochs}, or "
            f"{fresh}"
        )
        return
    yield f"resuming {path} at epoch {position.epoch + 1}/{epochs}, batch {position.batch + 1}"
    if epochs != before.recipe.epochs and position.step:
        factors = (
            rate_factor(recipe, position.step, trainer.steps_per_epoch)
            for recipe in (before.recipe, config.recipe)
        )
        then, now = (config.learning_rate * factor for factor in factors)
        yield f"{before.recipe.epochs} epochs become {epochs}: the learning rate continues at {now:.2g}" + (
            f" ({then:.2g} so far)" if f"{now:.2g}" != f"{then:.2g}" else ""
        )


def _with_largest_batch(
    plan: Plan,
    backbone: str,
    recipe: RecipeChoice,
    network: Network,
    overfit: int,
    amp: Amp,
    machine: Machine,
) -> Plan:
    """The plan with the largest batch size that fits."""
    splits, device = plan.splits, choose_device(machine.device)
    cached = [splits.train, *([] if splits.val is None or overfit else [splits.val])]
    cache = sum(split.decoded_bytes() for split in cached) if machine.cache == "ram" else 0
    chosen = choose_batch_size(plan, backbone, device, amp, machine.ranks, cache)
    recipe = replace(recipe, fields={**recipe.fields, "batch_size": chosen.size})
    with machine.ranks.agreed():
        again = plan_training(splits, backbone, recipe, network, overfit)
    return replace(again, note=f"batch size {chosen.size}: {chosen.why}")


def _require_one_process(ranks: Ranks) -> None:
    if number_of_processes() > ranks.count:
        raise CtnetError("this training runs in one process; leave out torchrun (and WORLD_SIZE)")


def _require_one_job(ranks: Ranks, config: TrainingConfig) -> None:
    """Refuse processes that would not do the same: too many of them, or with other code, settings or data.

    Raises:
        CtnetError: in all processes.
    """
    batch = min(config.recipe.batch_size, config.overfit or config.recipe.batch_size)
    if ranks.count > batch:
        raise CtnetError(
            f"{ranks.count} processes cannot share batches of {batch}; start at most {batch}, or give a "
            "larger --batch-size, which is that of all processes together"
        )
    values = config.to_json()
    # Data may lie elsewhere on each machine, as long as it is the same.
    known = {name: values[name] for name in values if name not in ("data", "init")}
    ranks.require_same(known, "install the same ctnet and copy the same data to all machines")


def _created(ranks: Ranks, output: Path | None, stem: str, config: TrainingConfig) -> Run:
    """The new run folder, made by the first process and seen by all."""
    run = None
    with ranks.agreed():
        if ranks.is_first:
            run = Run.create(output, stem, config.to_json())
    path = ranks.broadcast(None if run is None else run.path.absolute())
    try:
        with ranks.agreed():
            return run or _seen(path)
    except CtnetError:
        if run is not None:
            run.discard()
        raise


def _seen(path: Path | None) -> Run:
    assert path is not None
    if not (path / "config.json").is_file():
        raise CtnetError(
            f"the run folder {path} cannot be seen from every machine; choose an --output that all of them "
            "share"
        )
    return Run(path)


def _display(machine: Machine, run: Run) -> Display:
    """The display that was asked for; of several processes the first one's shows something."""
    if machine.display is not None:
        return machine.display
    return Display() if machine.ranks.is_first else Silent()


def _observers(machine: Machine) -> dict[str, Observer]:
    """Our own observer and those that were asked for, in the first process."""
    if not machine.ranks.is_first:
        return {}
    return {"metrics.csv": MetricsFile(), **load_observers(machine.observers)}


def _kept(splits: Splits, machine: Machine, device: torch.device) -> Splits:
    """The splits as the machine keeps them: their images in memory, or read when they are needed."""
    if machine.cache == "none":
        return splits
    workers = default_workers(device) if machine.workers is None else machine.workers
    forked = multiprocessing.get_start_method() == "fork"
    return splits.cached(number_on_machine() * (1 if forked else 1 + workers))


def _refuse_other_data(config: TrainingConfig, splits: Splits, path: Path) -> None:
    """Refuse changed data: metrics are compared over epochs, and batches are counted."""
    changed, val = None, splits.val
    if config.annotations not in ("", splits.train.coco.digest):
        changed = f"{splits.train.coco.path} was"
    elif val is not None and config.val_annotations not in ("", val.coco.digest):
        changed = f"{val.coco.path} was"
    elif config.images not in ("", splits.fingerprint()):
        changed = f"images of {config.data} were"
    if changed:
        raise CtnetError(
            f"{changed} changed after {path} was started, so the run cannot be continued; start a new run "
            f"from its weights with --init {path}"
        )


def _backbone(network: Network) -> BackboneInfo:
    name = network.backbone or (DEFAULT_PRETRAINED_BACKBONE if network.pretrained else DEFAULT_BACKBONE)
    backbone = describe_backbone(name)
    if backbone.error:
        raise CtnetError(backbone.error)
    return backbone


def _where(init: str | Path) -> str:
    """A checkpoint's whole path, or its address on the web."""
    return str(init) if is_address(str(init)) else str(checkpoint_of(init).absolute())


def _taught(recipe: Recipe) -> Recipe:
    """The recipe, in which a teacher has its whole path, and teaches."""
    if recipe.teacher is None:
        return recipe
    return replace(recipe, teacher=_where(recipe.teacher), teach=recipe.teach or TEACHERS_SHARE)


def _config(
    backbone: BackboneInfo, data: TrainingData, network: Network, seed: int, plan: Plan, amp: Amp
) -> TrainingConfig:
    task = plan.splits.task
    return TrainingConfig(
        task=task.name,
        options=dataclasses.asdict(task.options),
        backbone=backbone.name,
        pretrained=network.pretrained,
        init=None if network.init is None else _where(network.init),
        data=str(plan.splits.directory.absolute()),
        train_split=data.train_split,
        val_split=data.val_split,
        overfit=data.overfit,
        strict=data.strict,
        fold=data.fold,
        recipe_name=plan.recipe_name,
        recipe=_taught(plan.recipe),
        learning_rate=plan.rate,
        annotations=plan.splits.train.coco.digest,
        val_annotations="" if plan.splits.val is None else plan.splits.val.coco.digest,
        images=plan.splits.fingerprint(),
        seed=seed,
        amp=amp,
    )


def _announcement(trainer: Trainer, backbone: BackboneInfo, plan: Plan) -> Iterator[str]:
    """A description of the run, line by line."""
    config, train, val = trainer.config, plan.splits.train, plan.splits.val
    yield f"{config.task} with {backbone.name}, recipe {plan.recipe_name}: {_in_words(plan)}"
    origin = plan.origin
    source = f" (recipe: {origin.learning_rate:.3g} at {origin.batch_size})" if origin else ""
    steps = trainer.steps_per_epoch
    warm = warmup_steps(plan.recipe, steps)
    rising = f" after {counted(warm, 'step')} of warm-up" if warm else ""
    reached = plan.rate * peak_factor(plan.recipe, steps)
    images = counted(plan.images_per_step, "image")
    yield f"learning rate {reached:.3g}{rising} at {images} per step{source}"
    if plan.note:
        yield plan.note
    if not config.pretrained and config.init is None and not backbone.learns_from_scratch:
        yield (
            f"warning: {backbone.name} without ImageNet weights hardly learns on small data sets; use "
            f"--pretrained, or --backbone {DEFAULT_BACKBONE}"
        )
    yield from trainer.started
    if plan.recipe.freeze:
        stages = ", ".join(backbone.stages[: plan.recipe.freeze])
        yield f"frozen: {stages} of {backbone.name}, batch norm statistics included"
        if not config.pretrained and config.init is None:
            yield "warning: the frozen stages have random weights; give --pretrained or --init"
    to_evaluate = counted(len(val), "validation image") if val else "no validation images"
    yield f"{counted(len(train), 'training image')}, {to_evaluate}; run folder {trainer.run.path}"
    different = [train, *([val] if val is not None and val is not train else [])]
    problems = [problem for dataset in different for problem in dataset.problems]
    for line in [*summarize(problems), *(line for dataset in different for line in dataset.warnings)]:
        yield f"warning: {line}"
    if problems:
        yield f"warning: see all with `ctnet data check {plan.splits.directory}`"


def _in_words(plan: Plan) -> str:
    recipe = plan.recipe
    milestones = (
        f", milestones {' and '.join(map(str, recipe.milestones))}"
        if recipe.milestones and recipe.schedule == "step"
        else ""
    )
    width, height = recipe.size
    return (
        f"{counted(recipe.epochs, 'epoch')} of {recipe.optimizer}, {recipe.schedule} schedule{milestones}, "
        f"batch {recipe.batch_size}, input {width}x{height}"
        + "".join(f", {name} {value}" for name, value in plan.wanted.items())
    )
