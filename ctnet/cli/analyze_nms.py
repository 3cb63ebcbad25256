"""``ctnet analyze nms``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ctnet.base.output import print_json, print_line, print_table
from ctnet.cli.measured import about, figure, overall, print_about, warn
from ctnet.cli.parameters import (
    Amp,
    BatchSize,
    Data,
    Device,
    Flip,
    Json,
    Metric,
    Resize,
    Run,
    Size,
    Split,
    Topk,
    Workers,
)
from ctnet.cli.parsing import parse_size

if TYPE_CHECKING:
    from ctnet.analysis import NmsComparison


def nms(
    run: Run = None,
    data: Data = None,
    split: Split = None,
    metric: Metric = None,
    flip: Flip = False,
    resize: Resize = "fix",
    size: Size = None,
    topk: Topk = 100,
    batch_size: BatchSize = 8,
    device: Device = "auto",
    workers: Workers = None,
    amp: Amp = "off",
    as_json: Json = False,
) -> None:
    """Evaluate a detector without non-maximum suppression, and with hard and soft suppression.

    `duplicates` are detections of an object that one with a higher score already found (IoU 0.5), and `AP50
    cost` is the AP50 that they cost. Soft suppression keeps them with lower scores.

    Examples:

    * `ctnet analyze nms`

    * `ctnet analyze nms runs/ctdet-resfpn18-1 --split test --flip --json`
    """
    from ctnet.analysis import compare_nms
    from ctnet.analysis.subject import DetectorSubject, Ground
    from ctnet.measuring.reading import Settings

    settings = Settings(
        flip=flip, topk=topk, resize=resize, size=parse_size(size), batch_size=batch_size, metric=metric
    )
    subject = DetectorSubject.open(run, Ground(data, split), device)
    settings = subject.on_device(settings, workers, amp)
    done = compare_nms(subject.detector, subject.dataset, settings)
    problems = [*subject.dataset.problems, *done.problems]
    warn(problems, subject.dataset)
    if as_json:
        print_json({**about(subject, problems), **done.as_dict()})
    else:
        print_about(subject)
        _print_nms(done)


def _print_nms(done: NmsComparison) -> None:
    names = overall(done.rows[0].metrics, 3)
    print_line()
    print_table(
        ["nms", *names, "gain", "detections", "duplicates", "removed", "AP50 cost"],
        [
            [
                row.method,
                *(figure(row.metrics, name) for name in names),
                f"{row.gain:+.4f}" if row.method != "none" else "",
                row.detections,
                row.duplicates,
                row.removed,
                f"{row.duplicate_cost:.4f}",
            ]
            for row in done.rows
        ],
    )
