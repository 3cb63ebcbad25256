"""``ctnet analyze errors | nms | resolution | speed``: studies of a trained detector."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ctnet.base.errors import CtnetError
from ctnet.base.output import print_json, print_line, print_table
from ctnet.cli.parsing import (
    DEVICE_HELP,
    FLIP_HELP,
    NMS_HELP,
    RESIZE_HELP,
    SIZE_HELP,
    parse_size,
    refuse_other_settings,
)

if TYPE_CHECKING:
    from ctnet.analysis import Breakdown, NmsComparison, Oracle, ResolutionComparison, Speed
    from ctnet.core.records import Detections
    from ctnet.data.dataset import Dataset
    from ctnet.data.problems import Problem
    from ctnet.inference import Detector
    from ctnet.measuring.run import Settings

Run = Annotated[Path | None, typer.Argument(help="Run folder or checkpoint; the latest run when left out.")]
Data = Annotated[Path | None, typer.Option(help="Data directory; the run's own when left out.")]
Split = Annotated[str | None, typer.Option(help="Split; the run's validation split when left out.")]
Metric = Annotated[str | None, typer.Option(help="One of the task's metrics, see `ctnet tasks show`.")]
Flip = Annotated[bool, typer.Option("--flip", help=FLIP_HELP)]
Resize = Annotated[str, typer.Option(help=RESIZE_HELP)]
Size = Annotated[str | None, typer.Option(help=SIZE_HELP + " For --resize fix.")]
Topk = Annotated[int, typer.Option(min=1, help="Detections per image.")]
BatchSize = Annotated[int, typer.Option(min=1, help="Images a forward pass.")]
Device = Annotated[str, typer.Option(help=DEVICE_HELP)]
Workers = Annotated[int | None, typer.Option(min=0, help="Loading processes.")]
Amp = Annotated[str, typer.Option(help="Mixed precision: off, auto, bf16, fp16.")]
Json = Annotated[bool, typer.Option("--json", help="Everything as JSON on stdout.")]

#: What makes sense with --results and with --maps: no network looks at images then.
_WITH_RESULTS = ("data", "split", "task", "iou", "as_json")
_WITH_MAPS = ("data", "split", "heads", "iou", "metric", "nms", "topk", "as_json")

#: The overall figures that fit beside each other.
_MOST_FIGURES = 6


def errors(
    context: typer.Context,
    run: Run = None,
    data: Data = None,
    split: Split = None,
    heads: Annotated[
        list[str],
        typer.Option(help="Replace these heads: heatmap,size (repeatable); all sensible combinations."),
    ] = [],  # noqa: B006  (Typer copies it)
    iou: Annotated[float, typer.Option(help="Overlap at which the breakdown takes a box for right.")] = 0.5,
    results: Annotated[
        Path | None, typer.Option(help="Break down this COCO results file, anybody's, instead.")
    ] = None,
    maps: Annotated[
        Path | None, typer.Option(help="Take the maps of this file (`ctnet eval --save-maps`) instead.")
    ] = None,
    task: Annotated[str | None, typer.Option(help="Whose results --results are; ctdet.")] = None,
    metric: Metric = None,
    flip: Flip = False,
    nms: Annotated[str | None, typer.Option(help=NMS_HELP)] = None,
    resize: Resize = "fix",
    size: Size = None,
    topk: Topk = 100,
    batch_size: BatchSize = 8,
    device: Device = "auto",
    workers: Workers = None,
    amp: Amp = "off",
    as_json: Json = False,
) -> None:
    """Say what a detector's errors cost: heads replaced by ground truth, and errors sorted by type.

    The first table is the paper's (table 7): some heads' maps are rendered from the annotations, the others
    are the network's. The second sorts the wrong detections in the manner of TIDE (Bolya et al. 2020), and
    says how much AP would be gained if there were no errors of that type.

    Examples:

    * `ctnet analyze errors`

    * `ctnet analyze errors runs/ctdet-resfpn18-1 --heads heatmap --heads heatmap,size --iou 0.75`

    * `ctnet analyze errors --results results.json --data DIR --split val --json`

    * `ctnet analyze errors --maps maps.h5 --data DIR`
    """
    if results is not None:
        refuse_other_settings(context, "results", _WITH_RESULTS)
        _errors_of_results(results, data, split, task or "ctdet", iou, as_json)
        return
    if task is not None:
        raise CtnetError("--task is for --results; a detector and its maps know their task")
    from ctnet.analysis import oracle
    from ctnet.inference.preprocessing import resize_mode
    from ctnet.measuring.run import Settings
    from ctnet.ops.nms import nms_method

    combinations = [[name.strip() for name in text.split(",")] for text in heads] or None
    settings = Settings(
        flip=flip,
        nms=None if nms is None else nms_method(nms),
        topk=topk,
        resize=resize_mode(resize),
        size=parse_size(size),
        batch_size=batch_size,
        metric=metric,
    )
    _check_iou(iou)
    if maps is not None:
        refuse_other_settings(context, "maps", _WITH_MAPS)
        dataset, table = _oracle_of_maps(maps, data, split, combinations, settings)
        _give_errors("maps", maps, dataset, table, iou, as_json)
        return
    path, detector, dataset = _opened(run, data, split, device)
    table = oracle(detector, combinations, dataset, _complete(settings, detector, workers, amp))
    _give_errors("checkpoint", path, dataset, table, iou, as_json)


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
    """Measure a detector without non-maximum suppression and behind it, hard and soft.

    `duplicates` are detections of an object that a better-scored one has found already (IoU 0.5), and `AP50
    cost` is what they cost. Soft suppression leaves them in, with lower scores.

    Examples:

    * `ctnet analyze nms`

    * `ctnet analyze nms runs/ctdet-resfpn18-1 --split test --flip --json`
    """
    from ctnet.analysis import compare_nms
    from ctnet.inference.preprocessing import resize_mode
    from ctnet.measuring.run import Settings

    settings = Settings(
        flip=flip,
        topk=topk,
        resize=resize_mode(resize),
        size=parse_size(size),
        batch_size=batch_size,
        metric=metric,
    )
    path, detector, dataset = _opened(run, data, split, device)
    done = compare_nms(detector, dataset, _complete(settings, detector, workers, amp))
    problems = [*dataset.problems, *done.problems]
    _warn(problems)
    if as_json:
        print_json({**_about("checkpoint", path, dataset, problems), **done.as_dict()})
    else:
        _print_about(path, dataset)
        _print_nms(done)


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
        int, typer.Option(min=1, help="Images a forward pass; with more than 1, times do not compare.")
    ] = 1,
    device: Device = "auto",
    workers: Workers = None,
    amp: Amp = "off",
    as_json: Json = False,
) -> None:
    """Measure a detector at several sizes of input: AP and time per image (the paper's table 3a).

    `ms` is the time per image from file to detections, by the clock; `network` is the network's part.

    Examples:

    * `ctnet analyze resolution`

    * `ctnet analyze resolution best.pt --data DIR --sizes original,640x480,320x256 --flip`
    """
    from ctnet.analysis import compare_resolutions
    from ctnet.measuring.run import Settings

    chosen = _parse_sizes(sizes)
    path, detector, dataset = _opened(run, data, split, device)
    settings = Settings(flip=flip, topk=topk, batch_size=batch_size, metric=metric)
    done = compare_resolutions(detector, dataset, _complete(settings, detector, workers, amp), chosen)
    problems = [*dataset.problems, *done.problems]
    _warn(problems)
    if as_json:
        about = _about("checkpoint", path, dataset, problems)
        print_json({**about, "hardware": _hardware(detector), **done.as_dict()})
    else:
        _print_about(path, dataset)
        _print_resolutions(done)
        print_line(f"batches of {batch_size} on {_hardware(detector)}")


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
    repeats: Annotated[int, typer.Option(min=1, help="Batches that are measured.")] = 30,
    warm_up: Annotated[int, typer.Option(min=0, help="Batches that go before, unmeasured.")] = 5,
    as_json: Json = False,
) -> None:
    """Take the time from files to detections, stage by stage: median and 95th percentile per image.

    The pictures are drawn scenes of 640x480, so figures of different detectors compare. An accelerator is
    waited for at the end of every stage.

    Examples:

    * `ctnet analyze speed`

    * `ctnet analyze speed runs/ctdet-resfpn18-1 --flip --batch-size 8`

    * `ctnet analyze speed --backbone dla34 --size 512 --device cuda --amp bf16 --json`
    """
    from ctnet.analysis import measure_speed
    from ctnet.base.device import choose_amp
    from ctnet.inference import DetectionSettings, Detector
    from ctnet.inference.detector import checkpoint_of
    from ctnet.training import latest_run

    if backbone is not None:
        if run is not None:
            raise CtnetError(f"{run} has a backbone of its own; leave out the run or --backbone")
        source, detector = f"untrained {backbone}", _untrained(backbone, device)
    else:
        path = run or latest_run()
        source, detector = str(checkpoint_of(path)), Detector.load(path, device)
    settings = DetectionSettings(flip=flip, size=parse_size(size), amp=choose_amp(amp, detector.device))
    done = measure_speed(detector, settings, batch_size, repeats, warm_up)
    if as_json:
        print_json({"detector": source, **done.as_dict()})
    else:
        print_line(source)
        _print_speed(done)


# --- errors


def _errors_of_results(
    results: Path, data: Path | None, split: str | None, task_name: str, iou: float, as_json: bool
) -> None:
    from ctnet.base.files import read_json
    from ctnet.core.task import create_task, load_task_class
    from ctnet.data.dataset import Dataset
    from ctnet.measuring.results import read_results

    if data is None:
        raise CtnetError(f"say which data the results of {results} are of: --data DIR [--split SPLIT]")
    _check_iou(iou)
    dataset = Dataset.open(data, split or "val", load_task_class(task_name))
    task = create_task(task_name, dataset.categories)
    dataset = dataset.with_task(task)
    found = read_results(read_json(results), task, dataset.image_ids.tolist(), str(results))
    _give_breakdown("results", results, dataset, found, iou, list(dataset.problems), None, as_json)


def _oracle_of_maps(
    path: Path,
    data: Path | None,
    split: str | None,
    heads: Sequence[Sequence[str]] | None,
    settings: Settings,
) -> tuple[Dataset, Oracle]:
    from ctnet.analysis.oracles import oracle_of_maps
    from ctnet.data.dataset import Dataset
    from ctnet.inference.maps import MapFile
    from ctnet.training.data import check_categories

    if data is None:
        raise CtnetError(f"say which data the maps of {path} are of: --data DIR [--split SPLIT]")
    with MapFile.open(path) as maps:
        task = maps.description.create_task()
        dataset = Dataset.open(data, split or "val", task)
        check_categories(dataset, task, data)
        return dataset, oracle_of_maps(maps, dataset, heads, settings)


def _give_errors(kind: str, source: Path, dataset: Dataset, table: Oracle, iou: float, as_json: bool) -> None:
    problems = [*dataset.problems, *table.problems]
    _give_breakdown(kind, source, dataset, table.detections, iou, problems, table, as_json)


def _give_breakdown(
    kind: str,
    source: Path,
    dataset: Dataset,
    found: Mapping[int, Detections],
    iou: float,
    problems: list[Problem],
    table: Oracle | None,
    as_json: bool,
) -> None:
    from ctnet.analysis.breakdown import break_down, compare

    done = break_down(compare(dataset, found), iou)
    _warn(problems)
    _note_gaps(dataset, found)
    if as_json:
        document = _about(kind, source, dataset, problems)
        if table is not None:
            document["oracle"] = table.as_dict()
        print_json({**document, "breakdown": done.as_dict()})
        return
    _print_about(source, dataset)
    if table is not None:
        _print_oracle(table)
    _print_breakdown(done)


def _note_gaps(dataset: Dataset, found: Mapping[int, Detections]) -> None:
    """Images without detection and classes without object, which one may not have expected."""
    empty = sum(not len(found.get(image_id, ())) for image_id in dataset.image_ids.tolist())
    if empty:
        print_line(f"{empty} of {len(dataset)} images have no detection; what they show is missed")
    coco = dataset.coco
    present = set(coco.category_ids[dataset.usable & ~coco.crowd].tolist())
    absent = [str(entry["name"]) for entry in dataset.categories if int(entry["id"]) not in present]
    if absent:
        names = ", ".join(absent[:5]) + (", ..." if len(absent) > 5 else "")
        print_line(f"no object of {len(absent)} classes, which play no part in the means: {names}")


def _print_oracle(table: Oracle) -> None:
    names = [name for name in table.rows[0].metrics if "/" not in name][:_MOST_FIGURES]
    print_line()
    print_table(
        ["ground truth for", *names, "gain"],
        [
            [
                " + ".join(row.heads) or "none",
                *(_figure(row.metrics, name) for name in names),
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
        f"{ap} {done.ap:.3f}; {done.right} of {done.objects} objects are found "
        f"by {done.detections} detections of any score"
    )


# --- tables of the others


def _print_nms(done: NmsComparison) -> None:
    names = [name for name in done.rows[0].metrics if "/" not in name][:3]
    print_line()
    print_table(
        ["nms", *names, "gain", "detections", "duplicates", "removed", "AP50 cost"],
        [
            [
                row.method,
                *(_figure(row.metrics, name) for name in names),
                f"{row.gain:+.4f}" if row.method != "none" else "",
                row.detections,
                row.duplicates,
                row.removed,
                f"{row.duplicate_cost:.4f}",
            ]
            for row in done.rows
        ],
    )


def _print_resolutions(done: ResolutionComparison) -> None:
    names = [name for name in done.rows[0].metrics if "/" not in name][:_MOST_FIGURES]
    print_line()
    print_table(
        ["resolution", *names, "ms", "network", "images/s"],
        [
            [
                row.name,
                *(_figure(row.metrics, name) for name in names),
                f"{1000 * row.times.passed / max(row.times.images, 1):.1f}",
                f"{row.times.milliseconds()['network']:.1f}",
                f"{row.times.images_per_second:.1f}",
            ]
            for row in done.rows
        ],
    )


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


def _figure(metrics: Mapping[str, float], name: str) -> str:
    return f"{metrics[name]:.3f}" if name in metrics else ""


# --- what they share


def _opened(
    run: Path | None, data: Path | None, split: str | None, device: str
) -> tuple[Path, Detector, Dataset]:
    """The checkpoint's file, the detector, and what it is measured on."""
    from ctnet.inference import Detector
    from ctnet.inference.detector import checkpoint_of
    from ctnet.training import latest_run
    from ctnet.training.data import evaluation_data

    path = run or latest_run()
    detector = Detector.load(path, device)
    return checkpoint_of(path), detector, evaluation_data(detector, path, data, split)


def _complete(settings: Settings, detector: Detector, workers: int | None, amp: str) -> Settings:
    """The settings with what depends on the device."""
    from ctnet.base.device import choose_amp
    from ctnet.data.workers import default_workers

    return replace(
        settings,
        workers=default_workers(detector.device) if workers is None else workers,
        amp=choose_amp(amp, detector.device),
    )


def _untrained(backbone: str, device: str) -> Detector:
    from ctnet.base.device import choose_device
    from ctnet.checkpoint import Description
    from ctnet.core.task import create_task
    from ctnet.inference import Detector
    from ctnet.model import create_model

    task = create_task("ctdet", [{"id": n, "name": f"class {n}"} for n in range(1, 81)])
    model = create_model(task, backbone)
    return Detector(task, model, Description.of(task, backbone, (512, 512)), choose_device(device))


def _parse_sizes(text: str) -> list[tuple[int, int] | None]:
    parts = [part.strip() for part in text.split(",")]
    try:
        return [None if part == "original" else parse_size(part) for part in parts]
    except CtnetError as error:
        raise CtnetError(
            f"--sizes is {text!r}; write original, 512 or WIDTHxHEIGHT, separated by commas"
        ) from error


def _check_iou(iou: float) -> None:
    """Before the network has run for minutes."""
    from ctnet.analysis.breakdown import check_thresholds

    check_thresholds(iou)


def _hardware(detector: Detector) -> str:
    from ctnet.analysis.speed import hardware

    return hardware(detector.device)


def _about(kind: str, source: Path, dataset: Dataset, problems: Sequence[Problem]) -> dict[str, Any]:
    return {
        kind: str(source),
        "data": str(dataset.coco.path),
        "images": len(dataset),
        "skipped": len(problems),
    }


def _print_about(source: Path, dataset: Dataset) -> None:
    print_line(f"{source} on {len(dataset)} images of {dataset.coco.path}")


def _warn(problems: Sequence[Problem]) -> None:
    from ctnet.data.problems import summarize

    for line in summarize(problems):
        print_line(f"warning: {line}")
