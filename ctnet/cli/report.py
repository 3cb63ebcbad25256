"""``ctnet report``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ctnet.base.output import print_json, print_line, print_note
from ctnet.cli.parameters import Amp, BatchSize, Data, Device, Draws, Json, Size, Split, Workers
from ctnet.cli.parsing import parse_size

if TYPE_CHECKING:
    from ctnet.analysis.reporting import Written
    from ctnet.training.session import Session


def report(
    runs: Annotated[
        list[Path],
        typer.Argument(help="Run folders, checkpoints or exported files; several are put side by side."),
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The file; default: report.html in the run's folder."),
    ] = None,
    data: Data = None,
    split: Split = None,
    images: Annotated[
        int, typer.Option(min=1, help="Images to evaluate at most; of more, some are chosen evenly.")
    ] = 5000,
    pictures: Annotated[int, typer.Option(min=0, help="Images to show of each kind of error.")] = 5,
    plots: Annotated[
        bool, typer.Option("--plots", help="Also write PNG plots into the folders of the runs.")
    ] = False,
    draws: Draws = 1000,
    size: Size = None,
    batch_size: BatchSize = 8,
    device: Device = "auto",
    workers: Workers = None,
    amp: Amp = "off",
    as_json: Json = False,
) -> None:
    """Write a report of runs: one HTML file with curves, figures, errors and the worst images.

    Everything is in the file; it opens without a network or a server. `ctnet train` and `ctnet demo` write
    one too.

    Examples:

    * `ctnet report runs/ctdet-resfpn18-1`

    * `ctnet report runs/ctdet-resfpn18-1 runs/ctdet-resfpn18-2 -o both.html`

    * `ctnet report RUN --data DIR --split test --images 500 -o test.html`
    """
    from ctnet.analysis.reported import ReportChoices
    from ctnet.analysis.reporting import write_report
    from ctnet.measuring.reading import Settings

    settings = Settings(size=parse_size(size), batch_size=batch_size)
    choices = ReportChoices(
        data=data,
        split=split,
        device=device,
        images=images,
        pictures=pictures,
        draws=draws,
        settings=settings,
        workers=workers,
        amp=amp,
        plots=plots,
    )
    written = write_report(runs, output, choices)
    _note(written)
    if as_json:
        print_json(
            {
                "report": str(written.path),
                "bytes": written.size,
                "plots": [str(path) for path in written.plots],
                "left_out": written.left_out,
            }
        )
        return
    for path in (*written.plots, written.path):
        print_line(str(path))


def _note(written: Written) -> None:
    for name, lines in written.left_out.items():
        for line in lines:
            print_note(f"{name}: left out: {line}")
    for line in written.notes:
        print_note(line)


def report_after_training(session: Session) -> Path | None:
    """Write a finished training's report and plots into its folder; None where that is switched off or fails.

    Whatever goes wrong is said on stderr: the training has succeeded.
    """
    from ctnet.analysis.reporting import after_training

    if not session.trainer.config.recipe.report:
        return None
    try:
        written = after_training(session.trainer)
    except (Exception, KeyboardInterrupt) as error:
        text = " ".join(str(error).split()) or type(error).__name__
        print_note(f"no report was written: {text}; `ctnet report {session.run.path}` writes it")
        return None
    for line in written.notes:
        print_note(line)
    return written.path
