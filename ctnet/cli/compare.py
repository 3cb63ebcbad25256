"""``ctnet compare``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ctnet.base.errors import CtnetError
from ctnet.base.output import print_json, print_line, print_note, print_table
from ctnet.cli.parameters import (
    Amp,
    BatchSize,
    Data,
    Device,
    Draws,
    DrawSeed,
    Flip,
    Json,
    Metric,
    Nms,
    Resize,
    Size,
    Split,
    Strict,
    TaskOfResults,
    Topk,
    Workers,
)
from ctnet.cli.parsing import parse_size

if TYPE_CHECKING:
    from ctnet.analysis.comparison import Comparison


def compare(
    models: Annotated[
        list[Path],
        typer.Argument(help="A and B: run folders, checkpoints, exported files, results files (*.json)."),
    ],
    runs: Annotated[
        bool,
        typer.Option("--runs", help="Compare two recipes: trainings A1 A2 A3 of one, B1 B2 B3 of the other."),
    ] = False,
    data: Data = None,
    split: Split = None,
    task: TaskOfResults = None,
    metric: Metric = None,
    draws: Draws = 1000,
    seed: DrawSeed = 0,
    flip: Flip = False,
    nms: Nms = None,
    resize: Resize = "fix",
    size: Size = None,
    topk: Topk = 100,
    batch_size: BatchSize = 8,
    device: Device = "auto",
    workers: Workers = None,
    amp: Amp = "off",
    strict: Strict = False,
    as_json: Json = False,
) -> None:
    """Say whether B is better than A, by how much, and how sure that is.

    Both are evaluated on the same images, which are then drawn again, with replacement, the same for both.
    With --runs, trainings are drawn too: the answer is about recipes, not about two networks.

    Examples:

    * `ctnet compare runs/ctdet-resfpn18-1 runs/ctdet-resfpn18-2`

    * `ctnet compare RUN model.onnx --split test --json`

    * `ctnet compare old.json new.json --data DIR --task TASK`

    * `ctnet compare --runs A1 A2 A3 B1 B2 B3`
    """
    from ctnet.analysis.comparison import Choices, open_all
    from ctnet.analysis.comparison import compare as compare_all
    from ctnet.analysis.subject import Ground
    from ctnet.measuring.reading import Settings

    if runs and (len(models) < 4 or len(models) % 2):
        raise CtnetError(
            f"--runs takes as many trainings of A as of B, two or more of each, not {len(models)} in all"
        )
    if not runs and len(models) != 2:
        raise CtnetError(f"two models are compared, not {len(models)}; trainings of two recipes with --runs")
    settings = Settings(
        flip=flip,
        nms=nms,
        resize=resize,
        size=parse_size(size),
        topk=topk,
        batch_size=batch_size,
        metric=metric,
    )
    subjects = open_all(models, Ground(data, split, strict), task or "ctdet", device)
    found = compare_all(models, runs, subjects, Choices(settings, workers, amp, draws, seed))
    for line in found.warnings:
        print_note(f"warning: {line}")
    if as_json:
        print_json(found.to_json())
    else:
        _print(found)


def _print(found: Comparison) -> None:
    print_line(f"A: {', '.join(found.a)}")
    print_line(f"B: {', '.join(found.b)}")
    print_line(f"on {found.images} images of {found.data}; {found.draws} draws, seed {found.seed}")
    print_line()
    rows = [
        [
            name,
            f"{one.a:.3f}",
            f"{one.b:.3f}",
            f"{one.difference:+.3f}",
            f"{one.percentile[0]:+.3f} to {one.percentile[1]:+.3f}",
            f"{one.probability:.3f}",
            "" if one.distinguishable else "not distinguishable",
        ]
        for name, one in found.by_metric.items()
    ]
    print_table(["metric", "A", "B", "B - A", "95 %", "B better", ""], rows)
    if found.most_different:
        print_line()
        images = [[name, f"{one.effect:+.4f}"] for name, one in found.most_different.items()]
        print_table(["they differ most on", f"part of B - A in {found.main_metric}"], images)
    print_line(f"\n{found.said}")
