"""Shared parts of the converters' commands: options, and the printed report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ctnet.base.choices import ImageMode
from ctnet.base.output import counted, print_json, print_line, print_note, print_table
from ctnet.convert.report import ConvertReport

_SHOWN = 20


#: The option --output of a converter's command, the folder to write.
OutputOption = Annotated[Path, typer.Option("--output", "-o", help="The folder to write.")]

#: The option --images, how images get into the new folder; its default is "link".
ImagesOption = Annotated[
    ImageMode,
    typer.Option(
        help="link: hard links, which take no space (copies where not supported); none: do not place images."
    ),
]

#: The option --strict: refuse bad records.
StrictOption = Annotated[
    bool, typer.Option("--strict", help="Refuse bad records instead of listing and skipping them.")
]

#: The option --json: print the report as JSON.
JsonOption = Annotated[bool, typer.Option("--json", help="Print the report as JSON on stdout.")]


def print_report(report: ConvertReport, as_json: bool, by_category: bool = False) -> None:
    """Show what a conversion did: as JSON on stdout, or for people.

    Args:
        report: the report of the conversion.
        as_json: print JSON.
        by_category: in the text, count the objects of each category instead of all together.
    """
    if as_json:
        print_json(report.as_dict())
        return
    categories = list(dict.fromkeys(name for split in report.splits for name in split.objects))
    if by_category:
        rows = [[split.name, split.images, *split.objects.values()] for split in report.splits]
        print_table(["split", "images", *categories], rows)
    else:
        rows = [[split.name, split.images, sum(split.objects.values())] for split in report.splits]
        print_table(["split", "images", "objects"], rows)
        print_line(f"\n{counted(len(categories), 'category')}: {', '.join(categories)}")
    if report.problems:
        print_note(f"\n{counted(len(report.problems), 'bad record')}, skipped unless stated otherwise:")
        for problem in report.problems[:_SHOWN]:
            print_note(f"  {problem}")
        if len(report.problems) > _SHOWN:
            print_note(f"  ... and {len(report.problems) - _SHOWN} more; --json lists them all")
    for note in report.notes:
        print_note(f"note: {note}")
    pictures = sum(split.images for split in report.splits)
    objects = sum(sum(split.objects.values()) for split in report.splits)
    print_line(f"\n{counted(pictures, 'image')} and {counted(objects, 'object')} written to {report.target}")
