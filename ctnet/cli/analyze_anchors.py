"""``ctnet analyze anchors``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer

from ctnet.base.choices import AnchorVariant
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
    from ctnet.analysis.anchors import UnmatchedAnchors, UnmatchedCount


def anchors(
    directory: Directory,
    split: Split = "train",
    size: list[float] = typer.Option([32, 64, 128, 256, 512], help="Side of a square anchor (repeatable)."),
    ratio: list[float] = typer.Option([0.5, 1, 2], help="Height / width of an anchor (repeatable)."),
    stride: int = typer.Option(16, help="Pixels of the resized image between anchors."),
    shorter_side: int = typer.Option(800, help="Shorter side of the resized image, pixels."),
    iou: float = typer.Option(0.5, help="Minimum IoU of a matching anchor."),
    category: Category = None,
    variant: AnchorVariant = typer.Option(
        "official", help="official: rounded anchors, as the authors' tool; paper: exact ones, as the text."
    ),
    crowd: bool = typer.Option(True, "--crowd/--no-crowd", help="Count crowd regions, as the authors did."),
    as_json: Json = False,
) -> None:
    """Count the objects that no anchor of a RetinaNet matches, so that one has to be assigned anyway.

    The paper's figures for COCO train2017 are 170220 of 860001 objects: 125831 small, 18505 medium and 25884
    large ones. A point detector has no anchors to miss with.

    Examples:

    * `ctnet analyze anchors data/coco`

    * `ctnet analyze anchors data/bccd --split val --variant paper --json`

    * `ctnet analyze anchors data/kitti --size 16 --size 32 --size 64 --ratio 1 --shorter-side 384`
    """
    from ctnet.analysis.anchors import Anchors, count_unmatched_anchors
    from ctnet.data.dataset import Dataset

    dataset = Dataset.open(directory, split)
    kind = Anchors(size, ratio, stride, shorter_side, variant)
    report = count_unmatched_anchors(dataset, kind, iou, category or None, crowd)
    if as_json:
        print_json(report.as_dict())
    else:
        _print_anchors(report)
    print_skipped(dataset)


def _print_anchors(report: UnmatchedAnchors) -> None:
    print_line(f"{report.split}: objects whose best anchor has an IoU below {report.threshold:g}")
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
            [count.name, count.objects, count.unmatched, percent(count.unmatched, count.objects)]
            for count in counts[:FIRST]
        ],
    )
    print_rest(len(counts), "classes with unmatched objects")
