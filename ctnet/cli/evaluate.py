"""``ctnet eval``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ctnet.cli.output import print_json, print_line
from ctnet.cli.parsing import DEVICE_HELP, SIZE_HELP, parse_size


def evaluate(
    run: Annotated[
        Path | None, typer.Argument(help="Run folder or checkpoint; the latest run when left out.")
    ] = None,
    data: Annotated[Path | None, typer.Option(help="Data directory; the run's own when left out.")] = None,
    split: Annotated[
        str | None, typer.Option(help="Split; the run's validation split when left out.")
    ] = None,
    metric: Annotated[
        str | None, typer.Option(help="One of the task's metrics, see `ctnet tasks show`.")
    ] = None,
    engine: Annotated[
        str | None, typer.Option(help="COCO metrics by faster-coco-eval (default) or pycocotools.")
    ] = None,
    resize: Annotated[
        str, typer.Option(help="fix: fit into the training size; keep: the image's own resolution.")
    ] = "fix",
    size: Annotated[str | None, typer.Option(help=SIZE_HELP + " For --resize fix.")] = None,
    topk: Annotated[int, typer.Option(min=1, help="Detections per image.")] = 100,
    batch_size: Annotated[int, typer.Option(min=1, help="Images a forward pass.")] = 8,
    device: Annotated[str, typer.Option(help=DEVICE_HELP)] = "auto",
    workers: Annotated[int | None, typer.Option(min=0, help="Loading processes.")] = None,
    amp: Annotated[str, typer.Option(help="Mixed precision: off, auto, bf16, fp16.")] = "off",
    strict: Annotated[
        bool, typer.Option("--strict", help="Refuse bad records instead of skipping them.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Figures as JSON on stdout.")] = False,
) -> None:
    """Measure a trained detector on a data set.

    Examples:

    * `ctnet eval`

    * `ctnet eval runs/ctdet-resfpn18-1 --split test --metric voc07`

    * `ctnet eval best.pt --data DIR --resize keep --json`
    """
    from ctnet.data.loader import default_workers
    from ctnet.data.problems import refuse, summarize
    from ctnet.device import choose_amp
    from ctnet.evaluation.run import Settings, evaluate
    from ctnet.inference import Detector
    from ctnet.inference.detector import checkpoint_of, resize_mode
    from ctnet.training import latest_run
    from ctnet.training.data import evaluation_data

    path = run or latest_run()
    detector = Detector.load(path, device)
    dataset = evaluation_data(detector, path, data, split)
    source = dataset.coco.path
    problems = list(dataset.problems)
    if strict:
        refuse(problems, source)
    settings = Settings(
        resize=resize_mode(resize),
        size=parse_size(size),
        topk=topk,
        batch_size=batch_size,
        workers=default_workers(detector.device) if workers is None else workers,
        metric=metric,
        engine=engine,
        amp=choose_amp(amp, detector.device),
    )
    done = evaluate(detector, dataset, settings)
    if strict:
        refuse(done.problems, source)
    problems += done.problems
    for line in summarize(problems):
        print_line(f"warning: {line}")
    if json:
        print_json(
            {
                "checkpoint": str(checkpoint_of(path)),
                "data": str(source),
                "images": len(dataset),
                "skipped": len(problems),
                "metrics": done.metrics,
            }
        )
        return
    from rich.console import Console

    from ctnet.report.tables import metrics_table

    print_line(f"{checkpoint_of(path)} on {len(dataset)} images of {source}")
    Console(stderr=True).print(metrics_table(done.metrics))
