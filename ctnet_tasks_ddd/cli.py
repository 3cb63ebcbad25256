"""The commands that this plugin adds: ``ctnet kitti-eval`` and ``ctnet convert kitti``."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ctnet.plugin import (
    CtnetError,
    ImagesOption,
    JsonOption,
    OutputOption,
    StrictOption,
    print_json,
    print_line,
    print_note,
    print_report,
    print_table,
    read_lines,
)

if TYPE_CHECKING:
    from ctnet_tasks_ddd.kitti_eval import KittiResult

_ENOUGH = 40  # objects: as many as R40 has recall positions


class Iou(str, Enum):
    """Minimum overlaps of a match."""

    strict = "strict"
    shipped = "shipped"
    half = "half"


def kitti_eval_command(
    labels: Path = typer.Option(..., help="Folder or zip of label files NNNNNN.txt."),
    results: Path = typer.Option(..., help="Folder or zip of result files NNNNNN.txt."),
    frames: Path | None = typer.Option(
        None, help="List of the frames to evaluate, one per line. Default: those that have a result file."
    ),
    iou: Iou = typer.Option(
        Iou.strict,
        help="strict: the benchmark's thresholds; shipped: those of the authors' release (from above and in "
        "3D 0.5 for cars, 0.25 for others); half: 0.5 throughout.",
    ),
    curves: bool = typer.Option(False, "--curves", help="With --json: the curves of 41 points as well."),
    as_json: bool = typer.Option(False, "--json", help="Print the figures as JSON on stdout."),
) -> None:
    """Evaluate KITTI result files: 2D AP, orientation, bird's-eye and 3D AP, over 11 and 40 recall positions.

    Gives the numbers of the benchmark's own program, for the results of any detector.

    Examples:

    * `ctnet kitti-eval --labels training/label_2 --results results/data`
    * `ctnet kitti-eval --labels data_object_label_2.zip --results mine.zip --frames ImageSets/val.txt --json`
    """
    from ctnet_tasks_ddd.frame_files import FrameFiles
    from ctnet_tasks_ddd.kitti_eval import LABEL_FOLDERS, evaluate

    if curves and not as_json:
        raise CtnetError("--curves has 41 values per figure; give --json with it")
    names = None
    if frames is not None:
        names = [line.strip() for line in read_lines(frames) if line.strip()]
        if not names:
            raise CtnetError(f"{frames} lists no frame; write one per line, as 000012")
    result = evaluate(labels, results, names, iou.value)
    if frames is None:
        known = len(FrameFiles(labels, LABEL_FOLDERS).names)
        if result.frames < known:
            print_note(
                f"evaluated the {result.frames} frames that have a result file, of {known} with labels; "
                "--frames FILE evaluates a list"
            )
    if as_json:
        print_json(result.as_dict(curves))
    else:
        _print_figures(result)


def convert_kitti(
    source: Annotated[
        Path,
        typer.Argument(
            help="A folder with training/{label_2,calib,image_2}; with --export a COCO data directory."
        ),
    ],
    output: OutputOption,
    split_file: list[Path] = typer.Option(
        [], help="List of frames, one per line; give one for each split. Default: the lists in ImageSets."
    ),
    export: bool = typer.Option(
        False, "--export", help="Write KITTI label files from COCO instead of reading them."
    ),
    results: Path | None = typer.Option(
        None, help="With --export: write these detections (COCO results JSON) as KITTI result files instead."
    ),
    split: str = typer.Option("val", help="With --results: the split of the detections."),
    images: ImagesOption = "link",
    strict: StrictOption = False,
    as_json: JsonOption = False,
) -> None:
    """Convert KITTI's 3D object data to a COCO data directory, or with --export back.

    Labels and calibration may be in the benchmark's zips, and images may be missing.

    Examples:

    * `ctnet convert kitti kitti -o data/kitti`
    * `ctnet convert kitti kitti -o data/kitti --split-file train.txt --split-file val.txt`
    * `ctnet convert kitti data/kitti -o label_2 --export`
    * `ctnet convert kitti data/kitti -o results --export --results results.json --split val`
    """
    from ctnet_tasks_ddd import kitti, kitti_export

    if not export:
        if results is not None:
            raise CtnetError("--results is written as KITTI files: give --export with it")
        report = kitti.convert_kitti(source, output, split_file, images, strict)
        print_report(report, as_json, by_category=True)
        return
    if split_file:
        raise CtnetError(
            "--split-file is for reading KITTI's data; --export has the splits of the data directory"
        )
    if results is None:
        count = kitti_export.write_labels(source, output)
    else:
        count = kitti_export.write_results(source, split, results, output)
    if as_json:
        print_json({"target": str(output), "files": count})
    else:
        print_line(f"{count} files written to {output}")


def _print_figures(result: KittiResult) -> None:
    from ctnet_tasks_ddd.kitti_eval import CLASSES, DIFFICULTIES, IOU
    from ctnet_tasks_ddd.overlaps import METRICS

    rows: list[list[object]] = []
    for name, metrics in result.figures.items():
        for metric, levels in metrics.items():
            row = METRICS.index("detection" if metric == "orientation" else metric)
            figures = [levels[difficulty] for difficulty in DIFFICULTIES]
            threshold = f"> {IOU[result.iou][row][CLASSES.index(name)]}"
            values = [f"{figure.R40:.2f}" for figure in figures] + [f"{figure.R11:.2f}" for figure in figures]
            rows.append([name, metric, threshold, *values])
    titles = [f"{kind} {difficulty}" for kind in ("R40", "R11") for difficulty in DIFFICULTIES]
    print_table(["class", "metric", "IoU", *titles], rows)
    missing = [
        f"{name} {metric}"
        for name in CLASSES
        for metric in ("detection", "orientation", "ground", "3d")
        if metric not in result.figures.get(name, {})
    ]
    print_line(f"\n{result.frames} frames; average precision in percent over 40 and over 11 recall positions")
    few = {
        name: [f"{count} {kind}" for kind, count in result.objects[name].items() if count < _ENOUGH]
        for name in result.figures
    }
    if shown := "; ".join(f"{name} {', '.join(counts)}" for name, counts in few.items() if counts):
        print_line(f"R40 of fewer than {_ENOUGH} objects cannot reach 100, by the benchmark's rule: {shown}")
    if missing:
        print_line(f"not evaluated, because the results lack it: {', '.join(missing)}")
