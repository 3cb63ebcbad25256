"""``ctnet convert``: other formats to and from a COCO data directory."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ctnet.cli.convert_checkpoint import checkpoint
from ctnet.convert.command import ImagesOption, JsonOption, OutputOption, StrictOption, print_report

app = typer.Typer(no_args_is_help=True, help="Convert data sets to and from COCO JSON, and checkpoints.")
app.command()(checkpoint)


@app.command()
def voc(
    source: Annotated[
        Path, typer.Argument(help="A folder with Annotations, ImageSets and JPEGImages, or VOCdevkit.")
    ],
    output: OutputOption,
    images: ImagesOption = "link",
    strict: StrictOption = False,
    as_json: JsonOption = False,
) -> None:
    """Convert Pascal VOC to a COCO data directory.

    Every list of images in ImageSets/Main becomes a split.
    Of a VOCdevkit with several years, lists of one name are joined.

    Examples:

    * `ctnet convert voc VOCdevkit -o data/voc`
    * `ctnet convert voc bccd -o data/bccd --images copy --strict`
    """
    from ctnet.convert.voc import convert_voc

    print_report(convert_voc(source, output, images, strict), as_json)


@app.command()
def yolo(
    source: Annotated[
        Path,
        typer.Argument(help="A data.yaml or the folder with it; with --export a COCO data directory."),
    ],
    output: OutputOption,
    export: bool = typer.Option(
        False, "--export", help="Write YOLO labels from COCO instead of reading them."
    ),
    names: Path | None = typer.Option(None, help="Class names, one per line, where the source states none."),
    images: ImagesOption = "link",
    strict: StrictOption = False,
    as_json: JsonOption = False,
) -> None:
    """Convert YOLO labels to a COCO data directory, or with --export the other way.

    Examples:

    * `ctnet convert yolo coco8/data.yaml -o data/coco8`
    * `ctnet convert yolo labels -o data/mine --names classes.txt`
    * `ctnet convert yolo data/coco8 -o yolo/coco8 --export`
    """
    from ctnet.base.errors import CtnetError
    from ctnet.convert.yolo import import_yolo
    from ctnet.convert.yolo_export import export_yolo

    if export and names is not None:
        raise CtnetError(
            "--names is for reading YOLO labels; with --export the names come from the COCO file"
        )
    if export:
        report = export_yolo(source, output, images, strict)
    else:
        report = import_yolo(source, output, names, images, strict)
    print_report(report, as_json)
