"""``ctnet analyze``: the studies of the paper."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from ctnet.base.output import print_json, print_line, print_table
from ctnet.cli import analyze_runs

if TYPE_CHECKING:
    from ctnet.analysis.anchors import UnmatchedAnchors, UnmatchedCount
    from ctnet.analysis.collisions import Collisions, Group
    from ctnet.data.dataset import Dataset

app = typer.Typer(no_args_is_help=True, help="Repeat the studies of the paper on any data set or run.")

_DIRECTORY = typer.Argument(..., help="A data directory: `annotations/<prefix>_<split>.json` and images.")
_SPLIT = typer.Option("train", help="Which split.")
_CATEGORY = typer.Option([], help="Look at this category alone (repeatable).")
_JSON = typer.Option(False, "--json", help="Print everything as JSON on stdout.")

_FIRST = 10  # rows of the longer tables


@app.command()
def collisions(
    directory: Path = _DIRECTORY,
    split: str = _SPLIT,
    stride: float = typer.Option(4, help="Image pixels a cell of the output grid."),
    iou: list[float] = typer.Option([0.7, 0.5], help="Count pairs with an IoU above this (repeatable)."),
    category: list[str] = _CATEGORY,
    rounding: str = typer.Option(
        "floor", help="The cell of centre c: floor (c / stride) or nearest (c / stride + 0.5, floored)."
    ),
    inclusive: bool = typer.Option(
        True,
        "--inclusive/--exact",
        help="IoU of boxes that own their last pixel (+1), as the authors counted, or of boxes in the plane.",
    ),
    crowd: bool = typer.Option(False, "--crowd/--no-crowd", help="Let crowd regions collide, too."),
    as_json: bool = _JSON,
) -> None:
    """Count objects of one class that share an output cell, or overlap so much that NMS drops one.

    `pairs` are what the paper counts: 614 in one cell, 715 and 5179 with an IoU above 0.7 and 0.5, of the
    860001 objects of COCO train2017. `objects` are those in a pair. `lost` are those that one detection a
    cell cannot give, or that NMS would remove from perfect detections. Images count at their own size.

    Examples:

    * `ctnet analyze collisions data/coco`

    * `ctnet analyze collisions data/bccd --split val --stride 8 --category RBC`

    * `ctnet analyze collisions data/coco --split val2017 --exact --crowd --json > collisions.json`
    """
    from typing import cast

    from ctnet.analysis.collisions import Rounding, count_collisions
    from ctnet.data.dataset import Dataset

    dataset = Dataset.open(directory, split)
    report = count_collisions(
        dataset, stride, iou, category or None, cast(Rounding, rounding), inclusive, crowd
    )
    if as_json:
        print_json(report.as_dict())
    else:
        _print_collisions(report)
    _print_skipped(dataset)


@app.command()
def anchors(
    directory: Path = _DIRECTORY,
    split: str = _SPLIT,
    size: list[float] = typer.Option([32, 64, 128, 256, 512], help="Side of a square anchor (repeatable)."),
    ratio: list[float] = typer.Option([0.5, 1, 2], help="Height / width of an anchor (repeatable)."),
    stride: int = typer.Option(16, help="Pixels of the resized image between anchors."),
    shorter_side: int = typer.Option(800, help="The image is resized until its shorter side has this."),
    iou: float = typer.Option(0.5, help="An anchor matches an object from this IoU on."),
    category: list[str] = _CATEGORY,
    variant: str = typer.Option(
        "official", help="official: rounded anchors as in the authors' tool; paper: exact ones, as it writes."
    ),
    crowd: bool = typer.Option(True, "--crowd/--no-crowd", help="Count crowd regions, as the authors did."),
    as_json: bool = _JSON,
) -> None:
    """Count the objects that no anchor of a RetinaNet matches, so that one is forced upon them.

    The paper's figures for COCO train2017 are 170220 of 860001 objects: 125831 small, 18505 medium and 25884
    large ones. A point detector has no anchors to miss with.

    Examples:

    * `ctnet analyze anchors data/coco`

    * `ctnet analyze anchors data/bccd --split val --variant paper --json`

    * `ctnet analyze anchors data/kitti --size 16 --size 32 --size 64 --ratio 1 --shorter-side 384`
    """
    from typing import cast

    from ctnet.analysis.anchors import AnchorVariant, count_unmatched_anchors
    from ctnet.data.dataset import Dataset

    dataset = Dataset.open(directory, split)
    report = count_unmatched_anchors(
        dataset,
        size,
        ratio,
        stride,
        shorter_side,
        iou,
        category or None,
        cast(AnchorVariant, variant),
        crowd,
    )
    if as_json:
        print_json(report.as_dict())
    else:
        _print_anchors(report)
    _print_skipped(dataset)


def _print_collisions(report: Collisions) -> None:
    total = report.total
    print_line(f"{report.split}: {total.objects} objects, {report.crowd_regions} of them crowd regions")
    print_line()
    print_table(
        ["collisions", "pairs", "objects", "lost", "% lost"],
        [
            [kind, count.pairs, count.objects, count.lost, _percent(count.lost, total.objects)]
            for kind, count in total.collisions.items()
        ],
    )
    _print_pairs("size", report.kinds, report.by_size)
    colliding = [group for group in report.by_category if any(_pairs(group))]
    colliding.sort(key=_pairs, reverse=True)
    if colliding:
        _print_pairs("class", report.kinds, colliding)
        _print_images(report)
    print_line()
    print_line(
        f"center: same class, same cell of {report.stride:g} px ({report.rounding}); "
        f"IoU of boxes {'with their last pixel (+1)' if report.inclusive else 'in the plane'}; "
        f"crowd regions {'collide like objects' if report.crowd else 'do not collide'}"
    )


def _print_pairs(title: str, kinds: Sequence[str], groups: Sequence[Group]) -> None:
    print_line()
    print_table(
        [f"pairs by {title}", *kinds, "of objects"],
        [[group.name, *_pairs(group), group.objects] for group in groups[:_FIRST]],
    )
    _print_rest(len(groups), "classes with a collision")


def _print_images(report: Collisions) -> None:
    print_line()
    print_table(
        ["image", "file", *report.kinds],
        [
            [str(image.image_id), image.file_name, *map(len, image.pairs.values())]
            for image in report.images[:_FIRST]
        ],
    )
    _print_rest(len(report.images), "images with a collision")


def _pairs(group: Group) -> list[int]:
    return [count.pairs for count in group.collisions.values()]


def _print_anchors(report: UnmatchedAnchors) -> None:
    print_line(f"{report.split}: objects whose best anchor has an IoU under {report.threshold:g}")
    print_line()
    _print_unmatched("size", [*report.by_size, report.total])
    missed = [count for count in report.by_category if count.unmatched]
    missed.sort(key=lambda count: count.unmatched, reverse=True)
    if missed:
        print_line()
        _print_unmatched("class", missed)
    print_line()
    print_line(
        f"{len(report.sizes) * len(report.ratios)} anchors ({report.variant}) every {report.stride} px, "
        f"shorter side {report.shorter_side} px; "
        f"{report.crowd_regions} crowd regions {'counted' if report.crowd else 'left out'}"
    )


def _print_unmatched(title: str, counts: Sequence[UnmatchedCount]) -> None:
    print_table(
        [f"unmatched by {title}", "objects", "unmatched", "%"],
        [
            [count.name, count.objects, count.unmatched, _percent(count.unmatched, count.objects)]
            for count in counts[:_FIRST]
        ],
    )
    _print_rest(len(counts), "classes with unmatched objects")


def _print_rest(number: int, what: str) -> None:
    if number > _FIRST:
        print_line(f"and {number - _FIRST} more {what}; --json lists all")


def _print_skipped(dataset: Dataset) -> None:
    if problems := dataset.problems:
        print_line(f"{len(problems)} bad records are not counted; ctnet data check names them")


def _percent(part: int, whole: int) -> float:
    return 100 * part / max(whole, 1)


for _study in (analyze_runs.errors, analyze_runs.nms, analyze_runs.resolution, analyze_runs.speed):
    app.command()(_study)
