"""The command that this plugin adds: ``ctnet convert dota``."""

from __future__ import annotations

from enum import Enum
from pathlib import Path

import typer

from ctnet.plugin import ConvertReport, CtnetError, print_json, print_line, print_table

_SHOWN = 20


class Images(str, Enum):
    """How images get into the new folder."""

    link = "link"
    copy = "copy"
    none = "none"


def convert_dota(
    source: Path = typer.Argument(
        ...,
        help="A folder with images and labelTxt, or of such folders; with --export a COCO data directory.",
    ),
    output: Path = typer.Option(..., "--output", "-o", help="The folder to write."),
    export: bool = typer.Option(
        False, "--export", help="Write DOTA's labels from COCO instead of reading them."
    ),
    labels: str | None = typer.Option(
        None, help="Name of the folder of labels, where there are several (labelTxt-v1.5)."
    ),
    images: Images = typer.Option(
        Images.link,
        help="link: hard links, which cost no space (copies where there are none); none: leave them.",
    ),
    strict: bool = typer.Option(
        False, "--strict", help="Refuse bad records instead of listing and skipping them."
    ),
    as_json: bool = typer.Option(False, "--json", help="Print the report as JSON on stdout."),
) -> None:
    """Convert DOTA's labels of rotated boxes to a COCO data directory, or with --export the other way.

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
        report = export_dota(source, output, images.value, strict)
    else:
        report = import_dota(source, output, labels, images.value, strict)
    _print(report, as_json)


def _print(report: ConvertReport, as_json: bool) -> None:
    if as_json:
        print_json(report.as_dict())
        return
    rows = [[split.name, split.images, sum(split.objects.values())] for split in report.splits]
    print_table(["split", "images", "objects"], rows)
    if report.problems:
        print_line(f"\nskipped {len(report.problems)} bad records:")
        for problem in report.problems[:_SHOWN]:
            print_line(f"  {problem}")
        if len(report.problems) > _SHOWN:
            print_line(f"  ... and {len(report.problems) - _SHOWN} more; --json lists them all")
    for note in report.notes:
        print_line(f"note: {note}")
    print_line(f"\nwritten to {report.target}")
