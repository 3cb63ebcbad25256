"""``ctnet train``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ctnet.base.choices import BatchNorm, Cache
from ctnet.base.errors import CtnetError
from ctnet.base.output import print_json, print_line
from ctnet.cli.parameters import SIZE_HELP, Amp, Device, Strict, TaskOptions, Workers
from ctnet.cli.parsing import (
    parse_assignments,
    parse_size,
    recipe_fields,
    refuse_other_settings,
    require_finite,
)
from ctnet.cli.report import report_after_training

_BATCH_NORMS: dict[bool | None, BatchNorm] = {None: "own", True: "sync", False: "frozen"}


def train(
    context: typer.Context,
    task: Annotated[
        str | None, typer.Argument(help="Task, see `ctnet tasks list`; not needed with --resume.")
    ] = None,
    data: Annotated[Path | None, typer.Option(help="Data directory (COCO JSON and images).")] = None,
    backbone: Annotated[
        str | None, typer.Option(help="See `ctnet backbones`; default: resfpn18 (resdcn18 if --pretrained).")
    ] = None,
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
            help="A field of the recipe, FIELD=VALUE (repeatable): milestones=90,120, rotate=15.",
        ),
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Instead of the recipe's.")] = None,
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Instead of the recipe's; the learning rate is scaled with it.")
    ] = None,
    lr: Annotated[float | None, typer.Option(help="Learning rate in effect, not scaled.")] = None,
    size: Annotated[str | None, typer.Option(help=SIZE_HELP)] = None,
    pretrained: Annotated[
        bool, typer.Option("--pretrained", help="Start the backbone from ImageNet weights.")
    ] = False,
    init: Annotated[
        Path | None,
        typer.Option(help="Start from the matching weights of this checkpoint, of any task."),
    ] = None,
    amp: Amp = "auto",
    sync_bn: Annotated[
        bool | None,
        typer.Option(
            "--sync-bn/--freeze-bn",
            help="Batch norms over the images of all processes, or kept as they are (with --init or "
            "--pretrained); default: each process's own images.",
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
    device: Device = "auto",
    workers: Workers = None,
    cache: Annotated[Cache, typer.Option(help="ram: keep all decoded images in memory.")] = "none",
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

    * `ctnet train ctdet --data DIR --epochs 40`

    * `ctnet train ctdet --data DIR --backbone resdcn18 --pretrained --recipe paper --batch-size 32`

    * `ctnet train ctdet --data DIR -R schedule=step -R milestones=30,35 -R scale=0.6..1.4`

    * `ctnet train ctdet --data DIR --recipe runs/ctdet-resfpn18-1/recipe.toml`

    * `ctnet train ctdet --data DIR --init runs/ctdet-resfpn18-1`

    * `ctnet train --resume runs/ctdet-resfpn18-1`

    * `ctnet train --resume runs/ctdet-resfpn18-1 --epochs 80`

    * `torchrun --nproc-per-node 8 -m ctnet train ctdet --data DIR --batch-size 128`

    * `ctnet train --resume runs/ctdet-resfpn18-1 --data /new/place`
    """
    from ctnet.base.ranks import device_of_rank, launched_ranks
    from ctnet.training.request import Loop, Machine, Network, RecipeChoice, TrainingData
    from ctnet.training.session import RUN, new_session, resumed_session

    require_finite(lr=lr)
    if resume is not None:
        refuse_other_settings(
            context, "resume", ("task", "epochs", "data", "device", "workers", "cache", "json")
        )
    given = {"epochs": epochs, "batch_size": batch_size, "learning_rate": lr, "size": parse_size(size)}
    settings = (
        TrainingData(data, train_split, None if val_split == "none" else val_split, overfit, strict),
        Network(parse_assignments(option or [], "-O"), backbone, pretrained, init),
        RecipeChoice(recipe, recipe_fields(field or [], given), lr),
        Loop(amp, seed, _BATCH_NORMS[sync_bn]),
    )
    with launched_ranks(device_of_rank(device)) as ranks:
        machine = Machine(device_of_rank(device), workers, ranks=ranks, cache=cache)
        if resume is None and (begun := ranks.recall(RUN)):  # torchrun started the job again
            resume, epochs, data = Path(begun), None, None
        if resume is not None:
            session = resumed_session(resume, task, machine, epochs, data)
        elif task is not None:
            session = new_session(task, *settings, machine, output)
        else:
            raise CtnetError("name a task (ctnet train ctdet), or a run to continue (--resume RUN)")
        finished = session.fit()
        first = ranks.is_first
    written = report_after_training(session) if finished and first else None
    if json:
        print_json({"run": str(session.run.path), "finished": finished, "epochs": session.rows})
    elif finished:
        print_line(session.summary)
        if written is not None:
            print_line(f"report: {written}")
    if not finished:
        raise typer.Exit(130)
