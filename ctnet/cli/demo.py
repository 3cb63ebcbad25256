"""``ctnet demo``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ctnet.base.output import print_json, print_line
from ctnet.cli.parameters import Device
from ctnet.cli.report import report_after_training


def demo(
    task: Annotated[str, typer.Argument(help="Task, see `ctnet tasks list`.")] = "ctdet",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Run folder; runs/TASK-BACKBONE-N.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Passes over the scenes.")] = None,
    device: Device = "auto",
    json: Annotated[bool, typer.Option("--json", help="Metrics as JSON on stdout.")] = False,
) -> None:
    """See a task at work in minutes on a CPU: synthetic scenes, training, evaluation, pictures.

    Example: `ctnet demo`
    """
    from ctnet.training.demo import demonstrate

    done = demonstrate(task, output, epochs, device)
    if done is None:
        raise typer.Exit(130)
    report = report_after_training(done.session)
    if json:
        print_json(
            {
                "run": str(done.run),
                "data": str(done.data),
                "picture": str(done.picture),
                **({} if done.video is None else {"video": str(done.video)}),
                "report": None if report is None else str(report),
                "seconds": done.seconds,
                "metrics": done.metrics,
            }
        )
        return
    from ctnet.report.tables import print_metrics

    print_metrics(done.metrics, "on scenes that were not trained on", units=done.units)
    print_line(f"done in {done.seconds / 60:.1f} minutes")
    print_line(f"picture:   {done.picture}")
    if done.video is not None:
        print_line(f"video:     {done.video}")
    if report is not None:
        print_line(f"report:    {report}")
    print_line(f"run:       {done.run}  (try: ctnet predict {done.run} {done.data}/val)")
    print_line(f"data:      {done.data}")
