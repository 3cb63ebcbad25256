"""``ctnet analyze speed``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ctnet.base.errors import CtnetError
from ctnet.base.output import print_json, print_line, print_table
from ctnet.cli.parameters import SIZE_HELP, Amp, BatchSize, Device, Flip, Json, Run
from ctnet.cli.parsing import parse_size

if TYPE_CHECKING:
    from ctnet.analysis import Speed


def speed(
    run: Run = None,
    backbone: Annotated[
        str | None,
        typer.Option(help="Instead of a run, an untrained ctdet for 80 classes with this backbone."),
    ] = None,
    size: Annotated[str | None, typer.Option(help=SIZE_HELP + " The training size, or 512.")] = None,
    batch_size: BatchSize = 1,
    flip: Flip = False,
    device: Device = "auto",
    amp: Amp = "off",
    repeats: Annotated[int, typer.Option(min=1, help="Measured batches.")] = 30,
    warm_up: Annotated[int, typer.Option(min=0, help="Warm-up batches before measuring.")] = 5,
    as_json: Json = False,
) -> None:
    """Time a detector from files to detections, stage by stage: median and 95th percentile per image.

    The images are synthetic scenes of 640x480, so that different detectors are comparable. Accelerators are
    synchronised at the end of every stage.

    Examples:

    * `ctnet analyze speed`

    * `ctnet analyze speed runs/ctdet-resfpn18-1 --flip --batch-size 8`

    * `ctnet analyze speed --backbone dla34 --size 512 --device cuda --amp bf16 --json`
    """
    from ctnet.analysis.speed import measure_speed, untrained_detector
    from ctnet.analysis.subject import open_detector
    from ctnet.base.device import choose_amp
    from ctnet.inference import DetectionSettings
    from ctnet.inference.detector import checkpoint_of

    if backbone is None:
        path, detector = open_detector(run, device)
        source = str(checkpoint_of(path))
    elif run is None:
        source, detector = f"untrained {backbone}", untrained_detector("ctdet", backbone, device)
    else:
        raise CtnetError(f"{run} has its own backbone; leave out the run or --backbone")
    settings = DetectionSettings(flip=flip, size=parse_size(size), amp=choose_amp(amp, detector.device))
    done = measure_speed(detector, settings, batch_size, repeats, warm_up)
    if as_json:
        print_json({"detector": source, **done.as_dict()})
    else:
        print_line(source)
        _print_speed(done)


def _print_speed(done: Speed) -> None:
    print_line()
    print_table(
        ["ms per image", "median", "95 %"],
        [
            [name, f"{duration.median:.2f}", f"{duration.p95:.2f}"]
            for name, duration in [*done.stages.items(), ("total", done.total)]
        ],
    )
    width, height = done.size
    versions = ", ".join(f"{name} {version}" for name, version in done.versions.items())
    print_line(f"{done.images_per_second:.1f} images/s on {done.hardware}")
    print_line(
        f"{done.task} with {done.backbone} ({done.parameters / 1e6:.1f} M parameters), {width}x{height}"
        f"{', mirrored too' if done.flip else ''}, {done.dtype}, {done.repeats} batches of {done.batch_size}"
    )
    print_line(versions)
