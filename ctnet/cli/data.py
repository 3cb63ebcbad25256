"""``ctnet data``: inspecting, dividing and packing a data directory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from ctnet.base.output import print_json, print_line, print_note, print_table
from ctnet.cli.data_audit import audit

if TYPE_CHECKING:
    from ctnet.data.check import CheckReport
    from ctnet.data.problems import Problem
    from ctnet.data.stats import DatasetStats
    from ctnet.measuring.ceiling import Ceiling

app = typer.Typer(no_args_is_help=True, help="Check, summarise, draw, divide, pack and audit data sets.")

_DIRECTORY = typer.Argument(
    ..., help="A data directory: `annotations/<prefix>_<split>.json` and images; or a pack of one."
)
_SPLIT = typer.Option(None, "--split", help="One split; by default all.")
_TASK = typer.Option(None, "--task", help="Use this task's annotations, including its own fields.")
_JSON = typer.Option(False, "--json", help="Print everything as JSON on stdout.")

app.command()(audit)

#: Objects that are listed for each cause.
_NAMED = 5


@app.command()
def check(
    directory: Path = _DIRECTORY,
    split: str | None = _SPLIT,
    size: int | None = typer.Option(
        None, min=1, help="Network input size, to find objects smaller than one output cell."
    ),
    images: bool = typer.Option(True, "--images/--no-images", help="Read every image file."),
    task: str | None = _TASK,
    strict: bool = typer.Option(False, "--strict", help="Exit with 1 if there is a bad record."),
    as_json: bool = _JSON,
) -> None:
    """Look for bad records, broken images, duplicates and more.

    Bad records are left out of training and evaluation; warnings are worth a look.
    Exit code: 0; with --strict 1 if there is a bad record; 2 if the data cannot be read at all.

    Examples:

    * `ctnet data check data/bccd`
    * `ctnet data check data/coco --split val2017 --size 512 --strict`
    * `ctnet data check data/coco --no-images --json > findings.json`
    """
    from ctnet.data.check import check_dataset

    report = check_dataset(directory, split, size, images, task)
    if as_json:
        print_json(report.as_dict())
    else:
        _print_check(report)
    if strict and report.bad:
        raise typer.Exit(1)


@app.command()
def stats(
    directory: Path = _DIRECTORY,
    split: str | None = _SPLIT,
    task: str | None = _TASK,
    plots: Path | None = typer.Option(
        None, help="Also plot the objects of each split to this folder, as labels_SPLIT.png."
    ),
    as_json: bool = _JSON,
) -> None:
    """Count images and objects, by class and size, and measure boxes.

    Examples:

    * `ctnet data stats data/bccd`
    * `ctnet data stats data/coco --split train2017 --json`
    * `ctnet data stats data/bccd --plots pictures`
    """
    from ctnet.data.stats import dataset_stats

    figures = dataset_stats(directory, split, task)
    if plots is not None:
        _plot_labels(directory, split, task, plots)
    if as_json:
        print_json(figures.as_dict())
    else:
        _print_stats(figures)


@app.command()
def show(
    directory: Path = _DIRECTORY,
    split: str | None = typer.Option(None, help="The split; default: train, or the only one."),
    number: int = typer.Option(8, "-n", "--number", min=1, help="How many images, drawn at random."),
    output: Path = typer.Option(Path("shown"), "--output", "-o", help="The folder for the drawings."),
    seed: int = typer.Option(0, help="Seed of the random choice."),
    image: list[int] = typer.Option([], help="The id of an image to draw instead; may be repeated."),
    task: str | None = _TASK,
) -> None:
    """Draw annotations on images.

    Examples:

    * `ctnet data show data/bccd -n 4 -o pictures`
    * `ctnet data show data/coco --split val2017 --image 139 --image 285`
    """
    from ctnet.data.dataset import open_splits
    from ctnet.data.directory import splits
    from ctnet.report.samples import draw_samples

    have = splits(directory)
    split = split or (have[0] if len(have) == 1 else "train")
    (dataset,) = open_splits(directory, split, task)
    files, problems = draw_samples(dataset, output, number, seed, image)
    for path in files:
        print(path)
    for problem in problems:
        print_note(f"skipped {problem}")


@app.command()
def split(
    directory: Path = _DIRECTORY,
    val: float = typer.Option(0.0, help="Fraction of the images for validation, such as 0.2."),
    test: float = typer.Option(0.0, help="Fraction of the images for testing."),
    folds: int = typer.Option(0, help="For cross-validation: train0 and val0, train1 and val1, ..."),
    group: str | None = typer.Option(
        None, help="A key of the images' entries: images with the same value stay together."
    ),
    split: str | None = typer.Option(None, "--split", help="The split to divide; default: the only one."),
    seed: int = typer.Option(0, help="Seed of the random division."),
    force: bool = typer.Option(False, "--force", help="Replace existing annotation files."),
    as_json: bool = _JSON,
) -> None:
    """Divide the images of a split into train, val and test, with each class in proportion.

    New annotation files are written next to the old one; images are not moved. If `train` itself is divided,
    the old file is kept as `all`.

    Examples:

    * `ctnet data split data/mine --val 0.2 --test 0.1`
    * `ctnet data split data/mine --split all --val 0.3 --force`
    * `ctnet data split data/mine --folds 5 --group scene`
    """
    from ctnet.data.splitting import Division, split_dataset

    done = split_dataset(directory, Division(val, test, folds, group, seed), split, force)
    if as_json:
        print_json(done.as_dict())
        return
    rows = [[part.name, part.images, sum(part.objects.values())] for part in done.parts]
    print_table(["split", "images", "objects"], rows)
    print_line()
    names = list(dict.fromkeys(name for part in done.parts for name in part.objects))
    print_table(
        ["objects by class", *(part.name for part in done.parts)],
        [[name, *(part.objects.get(name, 0) for part in done.parts)] for name in names],
    )
    for problem in done.problems:
        print_note(f"in no split: {problem}")
    for note in done.notes:
        print_note(f"note: {note}")


@app.command()
def pack(
    directory: Path = _DIRECTORY,
    output: Path = typer.Option(..., "--output", "-o", help="The file, `*.h5`."),
    as_json: bool = _JSON,
) -> None:
    """Put annotations and images into one file, which every command takes in place of the directory.

    Images stay as they are, byte by byte. Everything has a checksum, which is compared when it is read.

    Example: `ctnet data pack data/bccd -o bccd.h5`, then `ctnet train ctdet --data bccd.h5`
    """
    from ctnet.base.output import counted
    from ctnet.data.pack import pack_directory

    report = pack_directory(directory, output)
    if as_json:
        problems = [vars(problem) for problem in report.problems]
        print_json({**vars(report), "path": str(report.path), "problems": problems})
        return
    for problem in report.problems:
        print_note(f"warning: {problem}")
    what = f"{counted(report.images, 'image')} and {counted(report.annotations, 'annotation')}"
    print_line(f"{report.path}: {what}, {report.size / 1e6:.1f} MB")


@app.command()
def ceiling(
    directory: Path = _DIRECTORY,
    split: str = typer.Option("val", help="Which split."),
    task: str = typer.Option("ctdet", "--task", help="The task that encodes and decodes."),
    option: list[str] = typer.Option([], "-O", "--option", help="An option of the task, NAME=VALUE."),
    backbone: str | None = typer.Option(None, help="Take stride and divisor from it; default: 4 and 32."),
    sizes: str = typer.Option(
        "256,384,512,768,keep", help="Input sizes, 512 or WIDTHxHEIGHT; keep: each image's own resolution."
    ),
    topk: int = typer.Option(100, min=1, help="Detections per image."),
    iou: float = typer.Option(0.75, min=0.0, max=1.0, help="IoU below which an object counts as missed."),
    as_json: bool = _JSON,
) -> None:
    """Compute what a perfect network would reach: the metrics that no training can exceed.

    The annotations are encoded, rendered as maps and decoded at several input sizes. Objects that are lost on
    the way are named: those that share a cell, those beside another peak, those under a cell. No image is
    read.

    Examples:

    * `ctnet data ceiling data/bccd`
    * `ctnet data ceiling data/coco --split val2017 --sizes 512,keep --json`
    * `ctnet data ceiling DIR --task TASK --sizes 1280x384 --topk 500`
    """
    from ctnet.backbones import describe_backbone
    from ctnet.base.errors import CtnetError
    from ctnet.cli.parsing import parse_assignments, parse_size
    from ctnet.core.task import create_task, load_task_class
    from ctnet.data.dataset import Dataset
    from ctnet.measuring.ceiling import ceilings

    wanted = [None if size == "keep" else parse_size(size, "sizes") for size in sizes.split(",")]
    stride, divisor = 4, 32
    if backbone is not None:
        described = describe_backbone(backbone)
        if not described.divisor:
            raise CtnetError(f"backbone {backbone} cannot be built: {described.error}")
        stride, divisor = described.stride, described.divisor
    dataset = Dataset.open(directory, split, load_task_class(task))
    bound = create_task(task, dataset.categories, **parse_assignments(option, "-O"))
    found = ceilings(dataset.with_task(bound), bound, wanted, divisor, stride, topk, iou)
    if as_json:
        about = {"data": str(dataset.coco.path), "images": len(dataset), "task": task, "iou": iou}
        print_json({**about, "stride": stride, "ceilings": [each.to_json() for each in found]})
    else:
        _print_ceilings(found, iou)


def _print_ceilings(found: Sequence[Ceiling], iou: float) -> None:
    names = [name for name in found[0].metrics if "/" not in name][:4]
    rows = [
        [
            each.name,
            *(f"{each.metrics[name]:.4f}" if name in each.metrics else "" for name in names),
            each.objects,
            len(each.missed),
            len(each.under_a_cell),
        ]
        for each in found
    ]
    print_table(["input", *names, "objects", f"under IoU {iou:g}", "under a cell"], rows)
    for each in found:
        if each.missed:
            print_line(f"\n{each.name}: missed")
        for cause, count in each.causes().items():
            print_line(f"  {count}: {cause}")
            of_cause = [one for one in each.missed if one.cause == cause]
            for one in of_cause[:_NAMED]:
                x, y, width, height = one.bbox
                print_line(f"    {one.file_name}: {one.category} {width:g}x{height:g} at {x:g}, {y:g}")
            if count > _NAMED:
                print_line(f"    and {count - _NAMED} more; --json lists all")


def _print_check(report: CheckReport) -> None:
    from ctnet.data.check import BAD_IMAGE, PROBLEMS, WARNINGS

    checks = report.splits
    kinds = [kind for kind in PROBLEMS if report.images_read or kind != BAD_IMAGE]
    blank: list[object] = [""] * (len(checks) + 2)
    print_table(
        ["", *(check.split for check in checks), "first"],
        [
            ["images", *(check.images for check in checks), ""],
            ["annotations", *(check.annotations for check in checks), ""],
            blank,
            ["bad records", *(len(check.problems) for check in checks), ""],
            *(_kind_row(kind, [check.problems for check in checks]) for kind in kinds),
            blank,
            ["warnings", *blank[1:]],
            *(_kind_row(kind, [check.warnings for check in checks]) for kind in WARNINGS),
        ],
    )
    print_line()
    if not report.images_read:
        print_note("image files were not read (--no-images)")
    for note in report.notes:
        print_note(f"note: {note}")
    print_line(f"{report.bad} bad records; --json lists every record" if report.bad else "no bad records")


def _kind_row(kind: str, columns: Sequence[Sequence[Problem]]) -> list[object]:
    found = [[problem for problem in column if problem.kind == kind] for column in columns]
    first = next((problem for column in found for problem in column), None)
    return [f"  {kind}", *map(len, found), f"{first.where}: {first.what}" if first else ""]


def _plot_labels(directory: Path, split: str | None, task: str | None, folder: Path) -> None:
    from ctnet.data.dataset import open_splits
    from ctnet.report.plots import plot_labels, require_matplotlib

    require_matplotlib()
    for dataset in open_splits(directory, split, task):
        plot_labels(folder / f"labels_{dataset.split}.png", dataset)
        print_note(str(folder / f"labels_{dataset.split}.png"))


def _print_stats(figures: DatasetStats) -> None:
    from ctnet.data.stats import QUANTILES

    splits = figures.splits
    names = list(dict.fromkeys(name for split in splits for name in split.by_category))
    names.sort(key=lambda name: -sum(split.by_category.get(name, 0) for split in splits))
    print_table(
        ["", *(split.split for split in splits)],
        [
            ["images", *(split.images for split in splits)],
            ["  without object", *(split.images_without_object for split in splits)],
            ["objects", *(split.objects for split in splits)],
            *(
                [f"  {size}", *(split.by_size[size] for split in splits)]
                for size in ("small", "medium", "large")
            ),
            ["crowd regions", *(split.crowd for split in splits)],
        ],
    )
    print_line()
    print_table(
        ["objects by class", *(split.split for split in splits)],
        [[name, *(split.by_category.get(name, 0) for split in splits)] for name in names],
    )
    for title, field in (
        ("objects per image", "objects_per_image"),
        ("box width, px", "width"),
        ("box height, px", "height"),
        ("width / height", "aspect"),
    ):
        print_line()
        rows = [[split.split, *getattr(split, field)] for split in splits if getattr(split, field)]
        print_table([title, *map(_quantile_name, QUANTILES)], rows)
    for title in dict.fromkeys(name for split in splits for name in split.fields):
        print_line()
        rows = [[split.split, *split.fields[title]] for split in splits if split.fields.get(title)]
        print_table([title, *map(_quantile_name, QUANTILES)], rows)
    print_line()
    print_line("small: area under 32 x 32 px, large: from 96 x 96 px; crowd regions are counted separately")
    if figures.skipped:
        print_note(f"{figures.skipped} bad records are not counted; ctnet data check names them")


def _quantile_name(quantile: float) -> str:
    return {0.0: "smallest", 0.5: "median", 1.0: "largest"}.get(quantile, f"{quantile:.0%}")
