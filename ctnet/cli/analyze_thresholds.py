"""``ctnet analyze thresholds``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ctnet.base.errors import CtnetError
from ctnet.base.output import print_json, print_line, print_note, print_table
from ctnet.cli.measured import about, print_about, warn
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
    Multiscale,
    Nms,
    Resize,
    Run,
    Scales,
    Size,
    Split,
    Topk,
    Workers,
)
from ctnet.cli.parsing import parse_size

if TYPE_CHECKING:
    from ctnet.analysis.thresholds import ThresholdStudy
    from ctnet.core.operating import OperatingPoint
    from ctnet.evaluation.calibration import Reliability
    from ctnet.evaluation.operating import Aim


def thresholds(
    run: Run = None,
    data: Data = None,
    split: Split = None,
    f1: Annotated[bool, typer.Option("--f1", help="The best F1 of each class (the default).")] = False,
    precision: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Find as much as possible with at least this precision."),
    ] = None,
    recall: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="The highest thresholds with at least this recall."),
    ] = None,
    calibrate: Annotated[
        bool, typer.Option("--calibrate", help="Also learn the probability of being right from scores.")
    ] = False,
    write: Annotated[
        bool, typer.Option("--write", help="Store them in the run's best.pt, or in the exported file.")
    ] = False,
    metric: Metric = None,
    flip: Flip = False,
    multiscale: Multiscale = False,
    scales: Scales = None,
    nms: Nms = None,
    resize: Resize = "fix",
    size: Size = None,
    topk: Topk = 100,
    batch_size: BatchSize = 8,
    device: Device = "auto",
    workers: Workers = None,
    amp: Amp = "off",
    draws: Draws = 1000,
    seed: DrawSeed = 0,
    as_json: Json = False,
) -> None:
    """Choose the score of each class above which detections are kept: the operating points.

    A training chooses them for the best F1 on its validation images and stores them in best.pt;
    `ctnet predict` and `Detector` use those that are stored.

    Examples:

    * `ctnet analyze thresholds`

    * `ctnet analyze thresholds runs/ctdet-resfpn18-1 --precision 0.9 --write`

    * `ctnet analyze thresholds model.onnx --data DIR --split val --recall 0.95 --write`

    * `ctnet analyze thresholds RUN --calibrate --json`
    """
    from ctnet.analysis.subject import DetectorSubject, Ground
    from ctnet.analysis.thresholds import choose_thresholds, write_points
    from ctnet.inference.settings import choose_scales
    from ctnet.measuring.reading import Settings

    settings = Settings(
        flip=flip,
        scales=choose_scales(multiscale, scales),
        nms=nms,
        topk=topk,
        resize=resize,
        size=parse_size(size),
        batch_size=batch_size,
        metric=metric,
    )
    aim = _aim(f1, precision, recall)
    subject = DetectorSubject.open(run, Ground(data, split), device)
    settings = subject.on_device(settings, workers, amp)
    done = choose_thresholds(subject, settings, aim, draws, seed, calibrate)
    problems = [*subject.dataset.problems, *done.problems]
    warn(problems, subject.dataset)
    for line in done.warnings:
        print_note(f"warning: {line}")
    if as_json:
        print_json({**about(subject, problems), **done.as_dict()})
    else:
        print_about(subject)
        _print(done)
    if write:
        print_note(f"written: {write_points(subject.source, done.points)}")


def _aim(f1: bool, precision: float | None, recall: float | None) -> Aim:
    from ctnet.evaluation.operating import Aim

    if f1 + (precision is not None) + (recall is not None) > 1:
        raise CtnetError("--f1, --precision and --recall exclude each other; give one of them")
    if precision is not None:
        return Aim("precision", precision)
    return Aim() if recall is None else Aim("recall", recall)


def _print(done: ThresholdStudy) -> None:
    points = done.points
    several = {"all together": points.everything} if len(points.classes) > 1 else {}
    rows = {**points.classes, **several}
    print_line(f"{points.chosen_for}, with 95 % intervals; a detection is right by {points.matched}")
    print_line()
    print_table(
        ["class", "objects", "keep above", "precision", "recall", "F1"],
        [[name, point.objects, *_cells(point)] for name, point in rows.items()],
    )
    print_line(f"\n{points.said}")
    _print_reliability(done.before, done.after)


def _cells(point: OperatingPoint) -> list[str]:
    between = {} if point.intervals is None else vars(point.intervals)
    cells = []
    for name in ("score", "precision", "recall", "f1"):
        value, bounds = getattr(point, name), between.get(name)
        cell = "" if value is None else f"{value:.2f}"
        cells.append(cell if bounds is None else f"{cell} ({bounds[0]:.2f} to {bounds[1]:.2f})")
    return cells


def _print_reliability(before: Reliability, after: Reliability | None) -> None:
    print_line(f"\nexpected calibration error {before.error:.3f}, of {before.detections} detections")
    if after is None:
        return
    print_line(f"calibrated: {after.error:.3f}, on images that the calibration was not fitted on")
    print_line()
    print_table(
        ["score", "detections", "mean", "right", "calibrated", "mean", "right"],
        [
            [
                f"{raw.low:.1f} to {raw.high:.1f}",
                *(_shown(value) for value in (raw.detections, raw.mean_score, raw.fraction_right)),
                *(_shown(value) for value in (new.detections, new.mean_score, new.fraction_right)),
            ]
            for raw, new in zip(before.bins, after.bins, strict=True)
        ],
    )


def _shown(value: float | None) -> str:
    if value is None:
        return ""
    return str(value) if isinstance(value, int) else f"{value:.3f}"
