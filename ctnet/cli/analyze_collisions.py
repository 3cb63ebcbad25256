"""``ctnet analyze collisions``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer

from ctnet.base.choices import Rounding
from ctnet.base.output import print_json, print_line, print_table
from ctnet.cli.analyze_parameters import (
    FIRST,
    Category,
    Directory,
    Split,
    percent,
    print_rest,
    print_skipped,
)
from ctnet.cli.parameters import Json

if TYPE_CHECKING:
    from ctnet.analysis.collisions import Collisions, Group


def collisions(
    directory: Directory,
    split: Split = "train",
    stride: float = typer.Option(4, help="Image pixels per cell of the output grid."),
    iou: list[float] = typer.Option([0.7, 0.5], help="Count pairs with an IoU above this (repeatable)."),
    category: Category = None,
    rounding: Rounding = typer.Option(
        "floor", help="The cell of centre c: floor (c / stride) or nearest (c / stride + 0.5, floored)."
    ),
    inclusive: bool = typer.Option(
        True,
        "--inclusive/--exact",
        help="IoU of boxes including their last pixel (+1), as in the authors' tool, or of exact boxes.",
    ),
    crowd: bool = typer.Option(False, "--crowd/--no-crowd", help="Also compare crowd regions."),
    as_json: Json = False,
) -> None:
    """Count objects of one class that share an output cell, or overlap so much that NMS removes one.

    `pairs` are what the paper counts: 614 in one cell, 715 and 5179 with an IoU above 0.7 and 0.5, of the
    860001 objects of COCO train2017. `objects` are those in a pair. `lost` are those missed with one
    detection per cell, or removed by NMS from perfect detections. Images are counted at their own size.

    Examples:

    * `ctnet analyze collisions data/coco`

    * `ctnet analyze collisions data/bccd --split val --stride 8 --category RBC`

    * `ctnet analyze collisions data/coco --split val2017 --exact --crowd --json > collisions.json`
    """
    from ctnet.analysis.collisions import count_collisions
    from ctnet.data.dataset import Dataset

    dataset = Dataset.open(directory, split)
    report = count_collisions(dataset, stride, iou, category or None, rounding, inclusive, crowd)
    if as_json:
        print_json(report.as_dict())
    else:
        _print_collisions(report)
    print_skipped(dataset)


def _print_collisions(report: Collisions) -> None:
    total = report.total
    print_line(f"{report.split}: {total.objects} objects, {report.crowd_regions} of them crowd regions")
    print_line()
    print_table(
        ["collisions", "pairs", "objects", "lost", "% lost"],
        [
            [kind, count.pairs, count.objects, count.lost, percent(count.lost, total.objects)]
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
        f"IoU of boxes {'including their last pixel (+1)' if report.inclusive else 'with exact edges'}; "
        f"crowd regions {'are compared like objects' if report.crowd else 'are not compared'}"
    )


def _print_pairs(title: str, kinds: Sequence[str], groups: Sequence[Group]) -> None:
    print_line()
    print_table(
        [f"pairs by {title}", *kinds, "of objects"],
        [[group.name, *_pairs(group), group.objects] for group in groups[:FIRST]],
    )
    print_rest(len(groups), "classes with a collision")


def _print_images(report: Collisions) -> None:
    print_line()
    print_table(
        ["image", "file", *report.kinds],
        [
            [str(image.image_id), image.file_name, *map(len, image.pairs.values())]
            for image in report.images[:FIRST]
        ],
    )
    print_rest(len(report.images), "images with a collision")


def _pairs(group: Group) -> list[int]:
    return [count.pairs for count in group.collisions.values()]
