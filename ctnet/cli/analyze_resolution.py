"""``ctnet analyze resolution``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ctnet.base.errors import CtnetError
from ctnet.base.output import print_json, print_line, print_table
from ctnet.cli.measured import about, figure, overall, print_about, warn
from ctnet.cli.parameters import Amp, Data, Device, Flip, Json, Metric, Run, Split, Topk, Workers
from ctnet.cli.parsing import parse_size

if TYPE_CHECKING:
    from ctnet.analysis import ResolutionComparison


def resolution(
    run: Run = None,
    data: Data = None,
    split: Split = None,
    sizes: Annotated[
        str, typer.Option(help="Inputs to compare: original, 512, WIDTHxHEIGHT, separated by commas.")
    ] = "original,512,384",
    metric: Metric = None,
    flip: Flip = False,
    topk: Topk = 100,
    batch_size: Annotated[
        int, typer.Option(min=1, help="Images per forward pass; with more than 1, times are not comparable.")
    ] = 1,
    device: Device = "auto",
    workers: Workers = None,
    amp: Amp = "off",
    as_json: Json = False,
) -> None:
    """Evaluate a detector at several input sizes: AP and time per image (the paper's table 3a).

    `ms` is the time per image from file to detections, wall time; `network` is the part of the network.

    Examples:

    * `ctnet analyze resolution`

    * `ctnet analyze resolution best.pt --data DIR --sizes original,640x480,320x256 --flip`
    """
    from ctnet.analysis import compare_resolutions
    from ctnet.analysis.speed import hardware
    from ctnet.analysis.subject import DetectorSubject, Ground
    from ctnet.measuring.reading import Settings

    chosen = _parse_sizes(sizes)
    subject = DetectorSubject.open(run, Ground(data, split), device)
    settings = Settings(flip=flip, topk=topk, batch_size=batch_size, metric=metric)
    settings = subject.on_device(settings, workers, amp)
    done = compare_resolutions(subject.detector, subject.dataset, settings, chosen)
    problems = [*subject.dataset.problems, *done.problems]
    place = hardware(subject.detector.device)
    warn(problems, subject.dataset)
    if as_json:
        print_json({**about(subject, problems), "hardware": place, **done.as_dict()})
    else:
        print_about(subject)
        _print_resolutions(done)
        print_line(f"batches of {batch_size} on {place}")


def _parse_sizes(text: str) -> list[tuple[int, int] | None]:
    parts = [part.strip() for part in text.split(",")]
    try:
        return [None if part == "original" else parse_size(part) for part in parts]
    except CtnetError as error:
        raise CtnetError(
            f"--sizes is {text!r}; write original, 512 or WIDTHxHEIGHT, separated by commas"
        ) from error


def _print_resolutions(done: ResolutionComparison) -> None:
    names = overall(done.rows[0].metrics)
    print_line()
    print_table(
        ["resolution", *names, "ms", "network", "images/s"],
        [
            [
                row.name,
                *(figure(row.metrics, name) for name in names),
                f"{1000 * row.times.passed / max(row.times.images, 1):.1f}",
                f"{row.times.milliseconds()['network']:.1f}",
                f"{row.times.images_per_second:.1f}",
            ]
            for row in done.rows
        ],
    )
