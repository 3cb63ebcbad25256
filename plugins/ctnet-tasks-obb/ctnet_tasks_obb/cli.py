"""The command that this plugin adds: ``ctnet convert dota``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ctnet.plugin import (
    CtnetError,
    ImagesOption,
    JsonOption,
    OutputOption,
    StrictOption,
    print_report,
)


def convert_dota(
    source: Annotated[
        Path,
        typer.Argument(
            help="A folder with images and labelTxt, or of such folders; with --export a COCO data directory."
        ),
    ],
    output: OutputOption,
    export: bool = typer.Option(
        False, "--export", help="Write DOTA's labels from COCO instead of reading them."
    ),
    labels: str | None = typer.Option(
        None, help="Name of the folder of labels, where there are several (labelTxt-v1.5)."
    ),
    images: ImagesOption = "link",
    strict: StrictOption = False,
    as_json: JsonOption = False,
) -> None:
    """Convert DOTA's labels of rotated boxes to a COCO data directory, or with --export back.

    Examples:

    * `ctnet convert dota DOTA -o data/dota`
    * `ctnet convert dota DOTA -o data/dota15 --labels labelTxt-v1.5 --strict`
    * `ctnet convert dota data/dota -o labels --export --images none`
    """
    from ctnet_tasks_obb.dota import import_dota
    from ctnet_tasks_obb.dota_export import export_dota

    if export and labels is not None:
        raise CtnetError("--labels is for reading DOTA's labels; with --export they go to labelTxt")
    if export:
        report = export_dota(source, output, images, strict)
    else:
        report = import_dota(source, output, labels, images, strict)
    print_report(report, as_json)
