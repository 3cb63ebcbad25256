"""``ctnet convert``: other formats to and from a COCO data directory."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from ctnet.base.output import print_json, print_line, print_table
from ctnet.cli.convert_checkpoint import checkpoint

if TYPE_CHECKING:
    from ctnet.convert.report import ConvertReport

app = typer.Typer(no_args_is_help=True, help="Convert data sets to and from COCO JSON, and checkpoints.")
app.command()(checkpoint)

_SHOWN = 20


class Images(str, Enum):
    """How images get into the new folder."""

    link = "link"
    copy = "copy"
    none = "none"


_OUTPUT = typer.Option(..., "--output", "-o", help="The folder to write.")
_IMAGES = typer.Option(
    Images.link, help="link: hard links, which cost no space (copies where there are none); none: leave them."
)
_STRICT = typer.Option(False, "--strict", help="Refuse bad records instead of listing and skipping them.")
_JSON = typer.Option(False, "--json", help="Print the report as JSON on stdout.")


@app.command()
def coco(
    source: list[Path] = typer.Argument(..., help="COCO JSON files, or folders with some and their images."),
    output: Path = _OUTPUT,
    split: str | None = typer.Option(None, help="Join all files into this split. Default: by their names."),
    image_folder: Path | None = typer.Option(None, help="Where the images lie, if not near the files."),
    images: Images = _IMAGES,
    strict: bool = _STRICT,
    as_json: bool = _JSON,
) -> None:
    """Make a data directory of COCO JSON in any other layout, as annotation tools export it.

    Names of files and folders say the split: `instances_val2017.json`, `valid/_annotations.coco.json`.

    Examples:

    * `ctnet convert coco roboflow -o data/mine`
    * `ctnet convert coco result.json --image-folder pictures -o data/mine`
    * `ctnet convert coco batch1.json batch2.json --split train -o data/mine`
    """
    from ctnet.convert.coco_import import import_coco

    _print(import_coco(source, output, images.value, strict, split, image_folder), as_json)


@app.command()
def voc(
    source: Path = typer.Argument(
        ..., help="A folder with Annotations, ImageSets and JPEGImages, VOCdevkit, or XML beside images."
    ),
    output: Path = _OUTPUT,
    images: Images = _IMAGES,
    strict: bool = _STRICT,
    as_json: bool = _JSON,
) -> None:
    """Convert Pascal VOC to a COCO data directory.

    Every list of images in ImageSets/Main becomes a split; without lists, folders say it.
    Of a VOCdevkit with several years, lists of one name are joined.

    Examples:

    * `ctnet convert voc VOCdevkit -o data/voc`
    * `ctnet convert voc bccd -o data/bccd --images copy --strict`
    """
    from ctnet.convert.voc_folders import import_voc

    _print(import_voc(source, output, images.value, strict), as_json)


@app.command()
def yolo(
    source: Path = typer.Argument(
        ..., help="A data.yaml, an obj.data or the folder with it; with --export a COCO data directory."
    ),
    output: Path = _OUTPUT,
    export: bool = typer.Option(
        False, "--export", help="Write YOLO labels from COCO instead of reading them."
    ),
    names: Path | None = typer.Option(None, help="Class names, one a line, where the source states none."),
    images: Images = _IMAGES,
    strict: bool = _STRICT,
    as_json: bool = _JSON,
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
        report = export_yolo(source, output, images.value, strict)
    else:
        report = import_yolo(source, output, names, images.value, strict)
    _print(report, as_json)


@app.command()
def labelme(
    source: Path = typer.Argument(..., help="A folder with LabelMe's JSON files and their images."),
    output: Path = _OUTPUT,
    split: str | None = typer.Option(
        None, help="The split of all files. Default: by their folders, or train."
    ),
    images: Images = _IMAGES,
    strict: bool = _STRICT,
    as_json: bool = _JSON,
) -> None:
    """Convert LabelMe's JSON files, one an image, to a COCO data directory.

    Examples:

    * `ctnet convert labelme pictures -o data/mine`
    """
    from ctnet.convert.labelme import import_labelme

    _print(import_labelme(source, output, images.value, strict, split), as_json)


@app.command()
def via(
    source: Path = typer.Argument(
        ..., help="A project or annotations of VIA 2, JSON or CSV, or their folder."
    ),
    output: Path = _OUTPUT,
    attribute: str | None = typer.Option(None, help="The attribute of regions that is the class."),
    split: str | None = typer.Option(
        None, help="The name of the split. Default: by file and folder, or train."
    ),
    image_folder: Path | None = typer.Option(None, help="Where the images lie, if not near the file."),
    images: Images = _IMAGES,
    strict: bool = _STRICT,
    as_json: bool = _JSON,
) -> None:
    """Convert annotations of VIA (VGG Image Annotator) to a COCO data directory.

    Examples:

    * `ctnet convert via via_project.json -o data/mine`
    * `ctnet convert via via_export.csv --attribute species --image-folder pictures -o data/mine`
    """
    from ctnet.convert.via import import_via

    _print(import_via(source, output, images.value, strict, split, attribute, image_folder), as_json)


def _print(report: ConvertReport, as_json: bool) -> None:
    if as_json:
        print_json(report.as_dict())
        return
    rows = [[split.name, split.images, sum(split.objects.values())] for split in report.splits]
    print_table(["split", "images", "objects"], rows)
    categories = list(dict.fromkeys(name for split in report.splits for name in split.objects))
    print_line(f"\n{len(categories)} categories: {', '.join(categories)}")
    if report.problems:
        print_line(f"\nskipped {len(report.problems)} bad records:")
        for problem in report.problems[:_SHOWN]:
            print_line(f"  {problem}")
        if len(report.problems) > _SHOWN:
            print_line(f"  ... and {len(report.problems) - _SHOWN} more; --json lists them all")
    for note in report.notes:
        print_line(f"note: {note}")
    counts = [(split.images, sum(split.objects.values())) for split in report.splits]
    pictures, objects = (sum(column) for column in zip(*counts, strict=True)) if counts else (0, 0)
    print_line(f"\n{pictures} images and {objects} objects written to {report.target}")
