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
def coco(
    source: Annotated[
        list[Path], typer.Argument(help="COCO JSON files, or folders with some and their images.")
    ],
    output: OutputOption,
    split: str | None = typer.Option(None, help="Join all files into this split. Default: by their names."),
    image_folder: Path | None = typer.Option(None, help="Where the images are, if not near the files."),
    images: ImagesOption = "link",
    strict: StrictOption = False,
    as_json: JsonOption = False,
) -> None:
    """Make a data directory from COCO JSON in any layout, as exported by annotation tools.

    Splits are taken from the names of files and folders: `instances_val2017.json`,
    `valid/_annotations.coco.json`.

    Examples:

    * `ctnet convert coco roboflow -o data/mine`
    * `ctnet convert coco result.json --image-folder pictures -o data/mine`
    * `ctnet convert coco batch1.json batch2.json --split train -o data/mine`
    """
    from ctnet.convert.coco_import import import_coco

    print_report(import_coco(source, output, images, strict, split, image_folder), as_json)


@app.command()
def voc(
    source: Annotated[
        Path,
        typer.Argument(
            help="A folder with Annotations, ImageSets and JPEGImages, VOCdevkit, or XML next to images."
        ),
    ],
    output: OutputOption,
    images: ImagesOption = "link",
    strict: StrictOption = False,
    as_json: JsonOption = False,
) -> None:
    """Convert Pascal VOC to a COCO data directory.

    Every list of images in ImageSets/Main becomes a split; without lists, folders are the splits. In a
    VOCdevkit with several years, lists with the same name are joined.

    Examples:

    * `ctnet convert voc VOCdevkit -o data/voc`
    * `ctnet convert voc bccd -o data/bccd --images copy --strict`
    """
    from ctnet.convert.voc_folders import import_voc

    print_report(import_voc(source, output, images, strict), as_json)


@app.command()
def yolo(
    source: Annotated[
        Path,
        typer.Argument(
            help="A data.yaml, an obj.data or the folder with it; with --export a COCO data directory."
        ),
    ],
    output: OutputOption,
    export: bool = typer.Option(
        False, "--export", help="Write YOLO labels from COCO instead of reading them."
    ),
    polygons: bool = typer.Option(
        False, "--polygons", help="With --export, write masks as polygons instead of boxes."
    ),
    names: Path | None = typer.Option(None, help="Class names, one per line, if the source has none."),
    images: ImagesOption = "link",
    strict: StrictOption = False,
    as_json: JsonOption = False,
) -> None:
    """Convert YOLO labels to a COCO data directory, or with --export back.

    Examples:

    * `ctnet convert yolo coco8/data.yaml -o data/coco8`
    * `ctnet convert yolo labels -o data/mine --names classes.txt`
    * `ctnet convert yolo data/coco8 -o yolo/coco8 --export`
    * `ctnet convert yolo data/coco8 -o yolo/coco8-seg --export --polygons`
    """
    from ctnet.base.errors import CtnetError

    if polygons and not export:
        raise CtnetError("--polygons is for writing YOLO labels, with --export; reading keeps polygons")

    if export and names is not None:
        raise CtnetError(
            "--names is for reading YOLO labels; with --export the names come from the COCO file"
        )
    if export:
        from ctnet.convert.yolo_export import (
            export_yolo,  # a data set imports torch, which reading does not need
        )

        report = export_yolo(source, output, images, strict, polygons=polygons)
    else:
        from ctnet.convert.yolo import import_yolo

        report = import_yolo(source, output, names, images, strict)
    print_report(report, as_json)


@app.command()
def labelme(
    source: Annotated[Path, typer.Argument(help="A folder with LabelMe's JSON files and their images.")],
    output: OutputOption,
    split: str | None = typer.Option(None, help="The split of all files; by their folders, or train."),
    images: ImagesOption = "link",
    strict: StrictOption = False,
    as_json: JsonOption = False,
) -> None:
    """Convert LabelMe's JSON files, one per image, to a COCO data directory.

    Examples:

    * `ctnet convert labelme pictures -o data/mine`
    """
    from ctnet.convert.labelme import import_labelme

    print_report(import_labelme(source, output, images, strict, split), as_json)


@app.command()
def via(
    source: Annotated[
        Path, typer.Argument(help="A project or annotations of VIA 2, JSON or CSV, or their folder.")
    ],
    output: OutputOption,
    attribute: str | None = typer.Option(None, help="The attribute of regions with the class."),
    split: str | None = typer.Option(None, help="The name of the split; by file and folder, or train."),
    image_folder: Path | None = typer.Option(None, help="Where the images are, if not near the file."),
    images: ImagesOption = "link",
    strict: StrictOption = False,
    as_json: JsonOption = False,
) -> None:
    """Convert annotations of VIA (VGG Image Annotator) to a COCO data directory.

    Examples:

    * `ctnet convert via via_project.json -o data/mine`
    * `ctnet convert via via_export.csv --attribute species --image-folder pictures -o data/mine`
    """
    from ctnet.convert.via import import_via

    print_report(import_via(source, output, images, strict, split, attribute, image_folder), as_json)
