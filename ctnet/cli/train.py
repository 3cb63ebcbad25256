"""``ctnet train``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ctnet.base.errors import CtnetError
from ctnet.base.numbers import whole_number
from ctnet.base.output import print_json
from ctnet.cli.parsing import (
    DEVICE_HELP,
    OPTION_HELP,
    SIZE_HELP,
    parse_assignments,
    parse_size,
    refuse_other_settings,
    require_finite,
)


def train(
    context: typer.Context,
    task: Annotated[
        str | None, typer.Argument(help="Task, see `ctnet tasks list`; not needed with --resume.")
    ] = None,
    data: Annotated[Path | None, typer.Option(help="Data directory (COCO JSON and images).")] = None,
    backbone: Annotated[
        str | None, typer.Option(help="See `ctnet backbones`; resfpn18, or resdcn18 with --pretrained.")
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            help="Schedule by name; small, or paper with --pretrained. See `ctnet tasks show TASK`."
        ),
    ] = None,
    pretrained: Annotated[
        bool, typer.Option("--pretrained", help="Start the backbone from ImageNet weights.")
    ] = False,
    epochs: Annotated[int | None, typer.Option(min=1, help="Instead of the recipe's.")] = None,
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Instead of the recipe's; the learning rate is scaled with it.")
    ] = None,
    lr: Annotated[float | None, typer.Option(help="Learning rate as it is, not scaled.")] = None,
    size: Annotated[str | None, typer.Option(help=SIZE_HELP)] = None,
    drops: Annotated[
        str | None, typer.Option(help="Epochs after which the rate falls by 10: 90,120.")
    ] = None,
    schedule: Annotated[str | None, typer.Option(help="step or cosine.")] = None,
    final_rate: Annotated[
        float | None, typer.Option(min=0, max=1, help="What a cosine schedule ends with, in parts of --lr.")
    ] = None,
    optimizer: Annotated[str | None, typer.Option(help="adam or adamw.")] = None,
    weight_decay: Annotated[float | None, typer.Option(min=0, help="Of the optimizer.")] = None,
    warmup: Annotated[int | None, typer.Option(min=0, help="Iterations of rising rate.")] = None,
    clip_norm: Annotated[float | None, typer.Option(min=0, help="Largest gradient norm; 0 for none.")] = None,
    offset_rate: Annotated[
        float | None,
        typer.Option(
            min=0, max=1, help="Rate of the layers that place deformable convolutions' samples, in parts."
        ),
    ] = None,
    small_heads: Annotated[
        bool | None,
        typer.Option(
            "--small-heads/--wide-heads",
            help="Start regression heads as the paper's backbones ask, or wider.",
        ),
    ] = None,
    ema: Annotated[
        float | None,
        typer.Option(min=0, max=0.99999, help="Decay of the weights' moving average; 0 for none."),
    ] = None,
    rotate: Annotated[
        float | None, typer.Option(min=0, max=180, help="Largest turn of an image, degrees.")
    ] = None,
    init: Annotated[
        Path | None,
        typer.Option(help="Start from this checkpoint's weights, of any task: what fits is taken and named."),
    ] = None,
    accumulate: Annotated[int, typer.Option(min=1, help="Batches whose gradients make one step.")] = 1,
    amp: Annotated[str, typer.Option(help="Mixed precision: auto, off, bf16, fp16.")] = "auto",
    option: Annotated[list[str] | None, typer.Option("-O", "--option", help=OPTION_HELP)] = None,
    train_split: Annotated[str, typer.Option(help="Split to train on.")] = "train",
    val_split: Annotated[str, typer.Option(help="Split to evaluate on; none for no evaluation.")] = "val",
    evaluate_every: Annotated[int, typer.Option(min=1, help="Epochs between evaluations.")] = 1,
    save_every: Annotated[
        float, typer.Option(min=0, help="Seconds between checkpoints within an epoch.")
    ] = 600.0,
    overfit: Annotated[
        int, typer.Option(min=0, help="Train and evaluate on the first N training images, as they are.")
    ] = 0,
    strict: Annotated[
        bool, typer.Option("--strict", help="Refuse bad records instead of skipping them.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Of everything random.")] = 0,
    device: Annotated[str, typer.Option(help=DEVICE_HELP)] = "auto",
    workers: Annotated[int | None, typer.Option(min=0, help="Loading processes.")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Run folder; runs/TASK-BACKBONE-N.")
    ] = None,
    resume: Annotated[
        Path | None, typer.Option(help="Continue this run folder with its own settings.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the final figures as JSON on stdout.")] = False,
) -> None:
    """Train a detector.

    Without --data the task's own synthetic scenes are used. The run folder holds config.json, metrics.csv,
    last.pt and best.pt. Ctrl-C or SIGTERM ends after the present step and saves; --resume continues exactly
    there.

    Examples:

    * `ctnet train ctdet --data DIR --epochs 40`

    * `ctnet train ctdet --data DIR --backbone resdcn18 --pretrained --recipe paper --batch-size 32`

    * `ctnet train ctdet --data DIR -O size_loss=giou -O size_weight=1`

    * `ctnet train ctdet --data DIR --init runs/ctdet-resfpn18-1`

    * `ctnet train --resume runs/ctdet-resfpn18-1`
    """
    from ctnet.training.session import Overrides, new_session, resumed_session

    require_finite(
        lr=lr,
        weight_decay=weight_decay,
        clip_norm=clip_norm,
        final_rate=final_rate,
        offset_rate=offset_rate,
        ema=ema,
        save_every=save_every,
        rotate=rotate,
    )
    if lr is not None and lr <= 0:
        raise CtnetError(f"--lr is {lr:g}; it must be above 0")
    if resume is not None:
        # The run continues with its own settings.
        refuse_other_settings(context, "resume", ("task", "device", "workers", "json"))
        session = resumed_session(resume, task, device=device, workers=workers)
    else:
        if task is None:
            raise CtnetError(
                "say which task to train, `ctnet train ctdet`, or continue a run with --resume RUN"
            )
        overrides = Overrides(
            epochs=epochs,
            batch_size=batch_size,
            learning_rate=lr,
            size=parse_size(size),
            drops=_epochs(drops),
            schedule=schedule,
            final_rate=final_rate,
            optimizer=optimizer,
            weight_decay=weight_decay,
            warmup=warmup,
            clip_norm=clip_norm,
            offset_rate=offset_rate,
            small_heads=small_heads,
            ema=ema,
            rotate=rotate,
        )
        session = new_session(
            task,
            data=data,
            backbone=backbone,
            recipe_name=recipe,
            overrides=overrides,
            options=parse_assignments(option or []),
            pretrained=pretrained,
            init=init,
            train_split=train_split,
            val_split=None if val_split == "none" else val_split,
            accumulate=accumulate,
            amp=amp,
            evaluate_every=evaluate_every,
            save_every=save_every,
            overfit=overfit,
            strict=strict,
            seed=seed,
            output=output,
            device=device,
            workers=workers,
        )
    finished = session.fit()
    if json:
        print_json({"run": str(session.run.path), "finished": finished, "epochs": session.rows})
    if not finished:
        raise typer.Exit(130)


def _epochs(text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    epochs = [whole_number(part.strip()) for part in text.split(",") if part]
    if None in epochs:
        raise CtnetError(f"--drops is {text!r}; write epochs separated by commas: 90,120")
    return tuple(sorted(epoch for epoch in epochs if epoch is not None))
