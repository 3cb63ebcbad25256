"""``ctnet analyze errors``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ctnet.base.output import print_json, print_line, print_note, print_table
from ctnet.cli.measured import about, figure, overall, print_about, some_names, warn
from ctnet.cli.parameters import (
    Amp,
    BatchSize,
    Data,
    Device,
    Flip,
    Json,
    Metric,
    Nms,
    Resize,
    Run,
    Size,
    Split,
    TaskOfResults,
    Topk,
    Workers,
)
from ctnet.cli.parsing import parse_size, refuse_other_settings

if TYPE_CHECKING:
    from ctnet.analysis import Breakdown, Oracle
    from ctnet.analysis.errors import ErrorStudy
    from ctnet.analysis.subject import Subject

#: Options that apply with --results and --maps, where no network runs.
_WITH_RESULTS = ("data", "split", "task", "iou", "as_json")
_WITH_MAPS = ("data", "split", "heads", "iou", "metric", "nms", "topk", "as_json")


def errors(
    context: typer.Context,
    run: Run = None,
    data: Data = None,
    split: Split = None,
    heads: Annotated[
        list[str],
        typer.Option(help="Replace these heads: heatmap,size (repeatable); all sensible combinations."),
    ] = [],  # noqa: B006  (Typer copies it)
    iou: Annotated[float, typer.Option(help="Minimum IoU of a correct box in the breakdown.")] = 0.5,
    results: Annotated[
        Path | None, typer.Option(help="Break down this COCO results file (of any program) instead.")
    ] = None,
    maps: Annotated[
        Path | None, typer.Option(help="Use the maps in this file (`ctnet eval --save-maps`) instead.")
    ] = None,
    task: TaskOfResults = None,
    metric: Metric = None,
    flip: Flip = False,
    nms: Nms = None,
    resize: Resize = "fix",
    size: Size = None,
    topk: Topk = 100,
    batch_size: BatchSize = 8,
    device: Device = "auto",
    workers: Workers = None,
    amp: Amp = "off",
    as_json: Json = False,
) -> None:
    """Show the cost of a detector's errors: heads replaced by ground truth, and errors by type.

    The first table is the paper's (table 7): some heads' maps are rendered from the annotations, the others
    are the network's. The second classifies wrong detections like TIDE (Bolya et al. 2020), and shows how
    much AP would be gained without errors of that type.

    Examples:

    * `ctnet analyze errors`

    * `ctnet analyze errors runs/ctdet-resfpn18-1 --heads heatmap --heads heatmap,size --iou 0.75`

    * `ctnet analyze errors --results results.json --data DIR --split val --json`

    * `ctnet analyze errors --maps maps.h5 --data DIR`
    """
    from ctnet.analysis.errors import study_errors
    from ctnet.analysis.subject import Ground, Subject
    from ctnet.measuring.reading import Settings

    if results is not None:
        refuse_other_settings(context, "results", _WITH_RESULTS)
        task = task or "ctdet"
    elif maps is not None:
        refuse_other_settings(context, "maps", _WITH_MAPS)
    settings = Settings(
        flip=flip,
        nms=nms,
        topk=topk,
        resize=resize,
        size=parse_size(size),
        batch_size=batch_size,
        metric=metric,
    )
    combinations = [[name.strip() for name in text.split(",")] for text in heads] or None
    subject = Subject.of(run, results, maps, task, Ground(data, split), device)
    study = study_errors(subject, combinations, subject.on_device(settings, workers, amp), iou)
    _give(subject, study, as_json)


def _give(subject: Subject, study: ErrorStudy, as_json: bool) -> None:
    warn(study.problems, subject.dataset)
    if study.empty_images:
        total = len(subject.dataset)
        print_note(
            f"{study.empty_images} of {total} images have no detections; their objects count as missed"
        )
    if absent := study.absent_classes:
        print_note(
            f"no object of {len(absent)} classes, which are not part of the means: {some_names(absent)}"
        )
    if as_json:
        oracle = {} if study.oracle is None else {"oracle": study.oracle.as_dict()}
        print_json({**about(subject, study.problems), **oracle, "breakdown": study.breakdown.as_dict()})
        return
    print_about(subject)
    if study.oracle is not None:
        _print_oracle(study.oracle)
    _print_breakdown(study.breakdown)


def _print_oracle(table: Oracle) -> None:
    names = overall(table.rows[0].metrics)
    print_line()
    print_table(
        ["ground truth for", *names, "gain"],
        [
            [
                " + ".join(row.heads) or "none",
                *(figure(row.metrics, name) for name in names),
                f"{row.gain:+.3f}" if row.heads else "",
            ]
            for row in table.rows
        ],
    )
    for setback in table.setbacks:
        behind = f" added to {' + '.join(setback.heads)}" if setback.heads else " alone"
        print_line(
            f"{setback.added}{behind} does not raise {table.main_metric}: "
            f"{setback.before:.3f} to {setback.after:.3f}"
        )


def _print_breakdown(done: Breakdown) -> None:
    ap = f"AP{100 * done.iou:g}"
    print_line()
    print_table(
        ["error", "count", f"{ap} cost"],
        [[name, error.count, f"{error.cost:.3f}"] for name, error in done.errors.items()],
    )
    print_line(
        f"{ap} {done.ap:.3f}; {done.right} of {done.objects} objects are found, by {done.detections} "
        "detections of any score"
    )
