"""``ctnet train``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ctnet.base.choices import Cache
from ctnet.base.errors import CtnetError
from ctnet.base.output import counted, print_json, print_line, print_table
from ctnet.cli.parameters import Device, Strict, TaskOptions, Threads, Workers
from ctnet.cli.parsing import (
    parse_assignments,
    parse_budget,
    parse_names,
    recipe_fields,
    refuse_other_settings,
    require_finite,
)
from ctnet.cli.report import report_after_training

if TYPE_CHECKING:
    from ctnet.training.request import Machine, Network, RecipeChoice, TrainingData
    from ctnet.training.seeds import Series
    from ctnet.training.session import Session

    Settings = tuple[TrainingData, Network, RecipeChoice]
#: What may be given with --resume.
_WITH_RESUME = ("task", "epochs", "data", "device", "workers", "cache", "observe", "json")


def train(
    context: typer.Context,
    task: Annotated[
        str | None, typer.Argument(help="Task, see `ctnet tasks list`; not needed with --resume.")
    ] = None,
    data: Annotated[Path | None, typer.Option(help="Data directory (COCO JSON and images).")] = None,
    backbone: Annotated[
        str | None, typer.Option(help="See `ctnet backbones`; default: resfpn18 (resdcn18 if --pretrained).")
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option(
            help="Choose backbone and size for this time per image on this CPU: 30ms. Without --backbone.",
            metavar="TIME",
        ),
    ] = None,
    threads: Threads = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            help="A recipe of the task (`ctnet tasks show TASK`), or a TOML file; "
            "default: small (paper if --pretrained)."
        ),
    ] = None,
    field: Annotated[
        list[str] | None,
        typer.Option(
            "-R",
            "--set",
            help="A field of the recipe, FIELD=VALUE (repeatable): size=512, batch_size=auto, "
            "milestones=90,120. `--size 512` and `--batch-size auto` say the same.",
        ),
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Instead of the recipe's.")] = None,
    lr: Annotated[float | None, typer.Option(help="Learning rate in effect, not scaled.")] = None,
    pretrained: Annotated[
        bool, typer.Option("--pretrained", help="Start the backbone from ImageNet weights.")
    ] = False,
    init: Annotated[
        str | None,
        typer.Option(
            help="Start from the matching weights of this run, checkpoint, or address of one, of any task."
        ),
    ] = None,
    option: TaskOptions = None,
    train_split: Annotated[str, typer.Option(help="Split to train on.")] = "train",
    val_split: Annotated[str, typer.Option(help="Split to evaluate on, or none.")] = "val",
    overfit: Annotated[
        int, typer.Option(min=0, help="Train and evaluate on the first N training images, not augmented.")
    ] = 0,
    strict: Strict = False,
    seed: Annotated[int, typer.Option(help="Seed of all randomness.")] = 0,
    seeds: Annotated[
        int | None,
        typer.Option(min=1, help="Train so many runs, with --seed and those after it, and summarise them."),
    ] = None,
    device: Device = "auto",
    workers: Workers = None,
    cache: Annotated[Cache, typer.Option(help="ram: keep all decoded images in memory.")] = "none",
    observe: Annotated[
        str,
        typer.Option(
            help="Observers of the run: tensorboard, wandb, mlflow, a plugin's, or none; "
            "auto: tensorboard, where installed."
        ),
    ] = "auto",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Run folder; default: runs/TASK-BACKBONE-N.")
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option(
            help="Continue this run folder with its own settings; --epochs trains it further, --data says "
            "where its data lies now."
        ),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the final metrics as JSON on stdout.")] = False,
) -> None:
    """Train a detector.

    Without --data the task's own synthetic scenes are used. The run folder holds config.json, recipe.toml,
    metrics.csv, last.pt and best.pt. Ctrl-C or SIGTERM stops after the current step and saves; --resume
    continues from exactly there.

    Examples:

    * `ctnet train ctdet --data DIR --patience 10 --observe tensorboard,wandb`

    * `ctnet train ctdet --data DIR --budget 30ms --threads 2`

    * `ctnet train ctdet --data DIR --backbone resdcn18 --pretrained --recipe paper --batch-size 32`

    * `ctnet train ctdet --data DIR -R schedule=step -R milestones=30,35 -R scale=0.6..1.4`

    * `ctnet train ctdet --data DIR --recipe runs/ctdet-resfpn18-1/recipe.toml`

    * `ctnet train ctdet --data DIR --init runs/ctdet-resfpn18-1`

    * `ctnet train ctdet --data DIR --seeds 3`

    * `ctnet train --resume runs/ctdet-resfpn18-1 --epochs 80`

    * `torchrun --nproc-per-node 8 -m ctnet train ctdet --data DIR --batch-size 128`

    * `ctnet train --resume runs/ctdet-resfpn18-1 --data /new/place`
    """
    from ctnet.base.ranks import device_of_rank, launched_ranks
    from ctnet.budget.proposal import Budget
    from ctnet.training.budget import within_budget
    from ctnet.training.request import Machine, Network, RecipeChoice, TrainingData
    from ctnet.training.session import RUN, new_session, resumed_session

    require_finite(lr=lr)
    if resume is not None:
        refuse_other_settings(context, "resume", _WITH_RESUME)
    milliseconds = parse_budget(context, budget)
    settings = (
        TrainingData(data, train_split, None if val_split == "none" else val_split, overfit, strict),
        Network(parse_assignments(option or [], "-O"), backbone, pretrained, init),
        RecipeChoice.of(recipe, recipe_fields(field or [], {"epochs": epochs, "learning_rate": lr}), lr),
    )
    observers = parse_names(observe, "--observe")
    with launched_ranks(place := device_of_rank(device)) as ranks:
        machine = Machine(place, workers, None, ranks, cache, observers)
        if resume is None and (begun := ranks.recall(RUN)):  # torchrun started the job again
            resume, epochs, data = Path(begun), None, None
        if resume is not None:
            finished = _fit(resumed_session(resume, task, machine, epochs, data), json)
        elif task is None:
            raise CtnetError("name a task (ctnet train ctdet), or a run to continue (--resume RUN)")
        else:
            if milliseconds is not None:
                settings = within_budget(task, settings, Budget.of(milliseconds, threads), ranks)
            if seeds is not None:
                finished = _train_seeds(task, settings, machine, range(seed, seed + seeds), output, json)
            else:
                finished = _fit(new_session(task, *settings, seed, machine, output), json)
    raise typer.Exit(0 if finished else 130)


def _fit(session: Session, json: bool) -> bool:
    """Train, write the report, print what came out, and say whether training finished."""
    finished = session.fit()
    first = session.trainer.ranks.is_first
    written = report_after_training(session) if finished and first else None
    if json:
        print_json({"run": str(session.run.path), "finished": finished, "epochs": session.rows})
    elif finished:
        print_line(session.summary)
        if written is not None:
            print_line(f"report: {written}")
    return finished


def _train_seeds(
    task: str, settings: Settings, machine: Machine, seeds: range, output: Path | None, json: bool
) -> bool:
    """Train with several seeds, print the table of what came out, and say whether all finished."""
    from ctnet.training.run import fresh_folder
    from ctnet.training.seeds import train_seeds
    from ctnet.training.session import new_session

    if machine.ranks.count > 1:
        raise CtnetError("--seeds trains one run after the other in one process; under torchrun give --seed")
    folder = output or fresh_folder(f"{task}-seeds")
    series = train_seeds(lambda seed, path: new_session(task, *settings, seed, machine, path), seeds, folder)
    if series is None:
        return False
    if json:
        print_json(series.to_json())
    else:
        _print_series(series, folder)
    return True


def _print_series(series: Series, folder: Path) -> None:
    print_line(f"trained {counted(len(series.runs), 'seed')}: {folder}")
    rows = [
        [name, f"{mean:.3f}", "" if spread is None else f"{spread:.3f}"]
        + [f"{run.metrics[name]:.3f}" for run in series.runs]
        for name, (mean, spread) in series.summary().items()
        if name != "learning_rate"
    ]
    print_table(["", "mean", "std", *(f"seed {run.seed}" for run in series.runs)], rows)
