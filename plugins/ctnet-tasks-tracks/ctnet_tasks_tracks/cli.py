"""The commands of this plugin: ``ctnet convert mot``, ``convert kitti-tracking``, ``analyze tracks``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ctnet.plugin import (
    ImagesOption,
    JsonOption,
    OutputOption,
    StrictOption,
    print_json,
    print_metrics,
    print_report,
)

_EXPORT = typer.Option(False, "--export", help="Write these labels from COCO instead of reading them.")


def convert_mot(
    source: Annotated[
        Path, typer.Argument(help="A folder of sequences, or of train and test; with --export COCO data.")
    ],
    output: OutputOption,
    export: bool = _EXPORT,
    images: ImagesOption = "link",
    strict: StrictOption = False,
    as_json: JsonOption = False,
) -> None:
    """Convert MOTChallenge's sequences (MOT17, MOT20) to a COCO data directory, or with --export back.

    Examples:

    * `ctnet convert mot MOT17 -o data/mot17`
    * `ctnet convert mot data/mot17 -o sequences --export --images none`
    """
    from ctnet_tasks_tracks.mot import export_mot, import_mot

    report = (export_mot if export else import_mot)(source, output, images, strict)
    print_report(report, as_json)


def convert_kitti_tracking(
    source: Annotated[
        Path,
        typer.Argument(help="A folder with training and testing, or image_02 and label_02; or COCO data."),
    ],
    output: OutputOption,
    export: bool = _EXPORT,
    images: ImagesOption = "link",
    strict: StrictOption = False,
    as_json: JsonOption = False,
) -> None:
    """Convert KITTI's tracking labels to a COCO data directory, or with --export back.

    Examples:

    * `ctnet convert kitti-tracking KITTI -o data/kitti`
    * `ctnet convert kitti-tracking data/kitti -o labels --export --images none`
    """
    from ctnet_tasks_tracks.kitti import export_kitti, import_kitti

    report = (export_kitti if export else import_kitti)(source, output, images, strict)
    print_report(report, as_json)


def analyze_tracks(
    tracks: Annotated[Path, typer.Argument(help="Folder with VIDEO.txt in MOTChallenge's format.")],
    data: Annotated[Path, typer.Option(help="The data directory with the annotated videos.")],
    split: Annotated[str, typer.Option(help="Its split.")] = "val",
    as_json: JsonOption = False,
) -> None:
    """HOTA, IDF1, MOTA and identity switches of tracks in files, as `ctnet predict --track` writes them.

    Example: `ctnet analyze tracks predictions --data data/mot17 --split val`
    """
    from ctnet_tasks_tracks.files import measure_files

    figures = measure_files(tracks, data, split)
    if as_json:
        print_json(figures)
    else:
        print_metrics(figures)
