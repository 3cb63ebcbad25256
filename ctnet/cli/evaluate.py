"""``ctnet eval``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from ctnet.base.errors import CtnetError
from ctnet.base.output import print_json, print_line, print_note
from ctnet.cli.measured import about, print_about, some_names, warn
from ctnet.cli.parameters import (
    Amp,
    BatchSize,
    Compile,
    Data,
    Device,
    Draws,
    DrawSeed,
    Dtype,
    Flip,
    Metric,
    Multiscale,
    Nms,
    Overlap,
    Resize,
    Run,
    Scales,
    Size,
    Split,
    Strict,
    TaskOfResults,
    TaskOptions,
    Tiles,
    Topk,
    Workers,
)
from ctnet.cli.parsing import parse_assignments, parse_size, refuse_given, refuse_other_settings

if TYPE_CHECKING:
    from ctnet.analysis.subject import Subject
    from ctnet.analysis.thresholds import PointFigures
    from ctnet.data.problems import Problem
    from ctnet.evaluation.bootstrap import Intervals
    from ctnet.measuring.reading import Settings
    from ctnet.measuring.run import Evaluation

#: Options that apply with --results and --maps, where no network runs.
_OF_INTERVALS = ("draws", "seed")
_WITH_RESULTS = (
    *("data", "split", "task", "metric", "max_dets", "strict", "curves", "json", "intervals"),
    *_OF_INTERVALS,
)
_WITH_MAPS = (
    *("data", "split", "metric", "max_dets", "strict", "curves", "json", "topk", "nms", "save", "intervals"),
    *_OF_INTERVALS,
)


def evaluate(
    context: typer.Context,
    run: Run = None,
    data: Data = None,
    split: Split = None,
    metric: Metric = None,
    flip: Flip = False,
    multiscale: Multiscale = False,
    scales: Scales = None,
    nms: Nms = None,
    resize: Resize = "fix",
    size: Size = None,
    tiles: Tiles = None,
    overlap: Overlap = None,
    topk: Topk = 100,
    max_dets: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Detections per class and image; default: the metric's own (100 for COCO, 20 for poses).",
        ),
    ] = None,
    option: TaskOptions = None,
    batch_size: BatchSize = 8,
    device: Device = "auto",
    workers: Workers = None,
    amp: Amp = "off",
    dtype: Dtype = "float32",
    compile: Compile = False,
    save: Annotated[Path | None, typer.Option(help="Write all detections to this COCO results file.")] = None,
    save_maps: Annotated[
        Path | None, typer.Option(help="Write the network's output maps to this HDF5 file, for --maps.")
    ] = None,
    curves: Annotated[
        Path | None,
        typer.Option(help="Write the precision at 101 recalls per class and IoU to this JSON file."),
    ] = None,
    results: Annotated[
        Path | None, typer.Option(help="Evaluate this COCO results file instead of a detector.")
    ] = None,
    maps: Annotated[
        Path | None, typer.Option(help="Decode and evaluate the maps in this file instead of a detector.")
    ] = None,
    task: TaskOfResults = None,
    intervals: Annotated[
        bool, typer.Option("--intervals", help="95 % intervals of all metrics, from drawing images again.")
    ] = False,
    draws: Draws = 1000,
    seed: DrawSeed = 0,
    strict: Strict = False,
    json: Annotated[bool, typer.Option("--json", help="Print the metrics as JSON on stdout.")] = False,
) -> None:
    """Evaluate a trained detector on a data set, or a file of results or maps.

    With torchrun, several processes share the images; the metrics stay the same.

    Examples:

    * `ctnet eval runs/ctdet-resfpn18-1 --split test --metric voc07`

    * `ctnet eval best.pt --data DIR --resize keep --flip --multiscale --json`

    * `ctnet eval model.onnx --data DIR`

    * `ctnet eval RUN -O NAME=VALUE`

    * `ctnet eval --save results.json --save-maps maps.h5 --curves curves.json`

    * `ctnet eval --results results.json --data DIR --split val`

    * `ctnet eval --maps maps.h5 --data DIR --nms hard`

    * `ctnet eval RUN --intervals`

    * `torchrun --nproc-per-node 4 --no-python ctnet eval runs/ctdet-dla34-1`
    """
    from ctnet.analysis.subject import Ground, Subject
    from ctnet.base.device import choose_dtype
    from ctnet.base.ranks import device_of_rank, launched_ranks
    from ctnet.inference.prepare import Preparation
    from ctnet.inference.settings import choose_scales, choose_tiles
    from ctnet.measuring.reading import Settings

    _refuse(context, {"results": results, "maps": maps, "save-maps": save_maps}, intervals)
    if dtype != "float32" and amp != "off":
        raise CtnetError("--amp is for a network in float32; leave out --amp or --dtype")
    task = task or (None if results is None else "ctdet")
    settings = Settings(
        flip=flip,
        scales=choose_scales(multiscale, scales),
        nms=nms,
        resize=resize,
        size=parse_size(size),
        **choose_tiles(tiles, overlap),
        topk=max(topk, max_dets or 0),
        batch_size=batch_size,
        metric=metric,
        max_dets=max_dets,
    )
    options = parse_assignments(option or [], "-O")
    with launched_ranks() as ranks:
        ground, preparation = Ground(data, split, strict), Preparation(choose_dtype(dtype), compile)
        subject = Subject.of(run, results, maps, task, ground, device_of_rank(device), options, preparation)
        done = subject.evaluate(subject.on_device(settings, workers, amp), ranks, save_maps)
        if save_maps is not None:
            print_note(f"maps: {save_maps}")
        if ranks.is_first:
            found = _found(subject, done, draws if intervals else 0, seed)
            _warn_of_settings(found.at_points, settings)
            _give(subject, done, json, found)
            _write(subject, done, save, curves)


def _refuse(context: typer.Context, files: Mapping[str, Path | None], intervals: bool) -> None:
    """Refuse options that do not go together."""
    from ctnet.base.ranks import number_of_processes

    for name, path in files.items():
        if path is not None and number_of_processes() > 1:
            raise CtnetError(f"--{name} is for one process; leave out torchrun")
    if files["results"] is not None:
        refuse_other_settings(context, "results", _WITH_RESULTS)
    elif files["maps"] is not None:
        refuse_other_settings(context, "maps", _WITH_MAPS)
    if not intervals:
        refuse_given(context, _OF_INTERVALS, "--intervals")


class _Found(NamedTuple):
    """What there is besides metrics: their intervals, and the same for the operating points."""

    intervals: Intervals | None
    at_points: PointFigures | None
    intervals_at_points: Intervals | None


def _found(subject: Subject, done: Evaluation, draws: int, seed: int) -> _Found:
    """Without intervals if there are no draws."""
    from ctnet.analysis.thresholds import figures_at_points
    from ctnet.evaluation.bootstrap import intervals_of

    at_points = figures_at_points(subject, done)
    if not draws:
        return _Found(None, at_points, None)
    assert done.evaluator is not None
    found = intervals_of(done.evaluator.tally(), done.metrics, draws, seed)
    for line in found.warnings:
        print_note(f"warning: {line}")
    more = None if at_points is None else intervals_of(at_points.tally, at_points.metrics, draws, seed)
    return _Found(found, at_points, more)


def _warn_of_settings(at_points: PointFigures | None, settings: Settings) -> None:
    from ctnet.inference.thresholds import other_settings

    if at_points is not None and (line := other_settings(at_points.points, settings.in_words)):
        print_note(f"warning: {line}")


def _give(subject: Subject, done: Evaluation, json: bool, found: _Found) -> None:
    """Print the metrics before files are written, so that a full disk does not lose them."""
    from ctnet.report.tables import print_intervals, print_metrics, print_points

    problems = [*subject.dataset.problems, *done.problems]
    _warn(subject, done, problems)
    timed = subject.kind != "results"
    if json:
        document = {**about(subject, problems), "metrics": done.metrics}
        if found.intervals is not None:
            document["intervals"] = found.intervals.to_json()
        if found.at_points is not None:
            document["operating_points"] = found.at_points.to_json()
        if found.intervals_at_points is not None:
            document["operating_points"]["intervals"] = found.intervals_at_points.to_json()
        print_json({**document, "timing": done.times.to_json()} if timed else document)
        return
    print_about(subject)
    assert done.evaluator is not None
    print_metrics(done.metrics, units=done.evaluator.units)
    if found.at_points is not None:
        print_line(f"{found.at_points.points.said}; right by {found.at_points.matched}:")
        print_points(found.at_points.rows)
    if found.intervals is not None:
        at_points = found.intervals_at_points.by_metric if found.intervals_at_points else {}
        print_intervals({**found.intervals.by_metric, **at_points}, done.evaluator.units)
        print_line(found.intervals.said)
    if timed:
        print_line(str(done.times))


def _warn(subject: Subject, done: Evaluation, problems: Sequence[Problem]) -> None:
    from ctnet.measuring.results import images_without_results

    warn(problems, subject.dataset)
    assert done.evaluator is not None
    if nowhere := done.evaluator.classes_without_objects():
        names = some_names(nowhere)
        print_note(f"classes without objects, hence without metrics: {len(nowhere)} ({names})")
    if line := done.evaluator.beyond_limit():
        print_note(f"warning: {line}")
    empty = images_without_results(done.evaluator, subject.dataset)
    if subject.kind != "checkpoint" and empty:
        print_note(
            f"{empty} of {len(subject.dataset)} images have no detections in {subject.source}; "
            "their objects count as missed"
        )


def _write(subject: Subject, done: Evaluation, save: Path | None, curves: Path | None) -> None:
    from ctnet.base.files import write_json

    assert done.evaluator is not None
    if save is not None:
        write_json(save, done.results(subject.task), indent=None)
        print_note(f"detections: {save}")
    if curves is not None:
        write_json(curves, done.evaluator.curves(), indent=None)
        print_note(f"curves: {curves}")
