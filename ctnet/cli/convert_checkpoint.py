"""``ctnet convert checkpoint``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ctnet.base.errors import CtnetError
from ctnet.base.output import print_json, print_line
from ctnet.cli.parameters import TaskOptions
from ctnet.cli.parsing import parse_assignments

if TYPE_CHECKING:
    from ctnet.checkpoint.official import Conversion

_SHOWN = 5


def checkpoint(
    source: Annotated[Path, typer.Argument(help="A checkpoint of the authors' release (.pth).")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The file to write.")],
    back: Annotated[
        bool, typer.Option("--to-official", help="The other direction: from ctnet's file to the authors'.")
    ] = False,
    names: Annotated[
        Path | None,
        typer.Option(
            help="Categories, where they are not COCO's, VOC's or KITTI's: a text file, one name per line, "
            "or a COCO annotation file."
        ),
    ] = None,
    option: TaskOptions = None,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")] = False,
) -> None:
    """Convert a checkpoint of the authors' release (CenterNet) to ctnet's file, or back.

    Backbone, task and categories are recognised from the weights. The file is read without running code.

    Examples:

    * `ctnet convert checkpoint ctdet_coco_dla_2x.pth -o dla34.pt`

    * `ctnet convert checkpoint mine.pth -o mine.pt --names classes.txt`

    * `ctnet convert checkpoint dla34.pt -o back.pth --to-official`
    """
    from ctnet.checkpoint import from_official, to_official
    from ctnet.convert.files import read_categories

    if not back:
        categories = None if names is None else read_categories(names)
        done = from_official(source, output, categories, parse_assignments(option or [], "-O"))
    elif names is None and not option:
        done = to_official(source, output)
    else:
        raise CtnetError("--names and -O are for reading a released file; leave them out")
    if json:
        print_json(_document(done, output))
    else:
        _give(done, output, back)


def _document(done: Conversion, output: Path) -> dict[str, Any]:
    found = done.description
    return {
        "file": str(output),
        "task": found.task,
        "options": found.options,
        "backbone": found.backbone,
        "parameters": done.parameters,
        "categories": found.categories,
        "data": done.data,
        "size": found.size,
        "mean": found.mean,
        "std": found.std,
        "dropped": done.dropped,
    }


def _give(done: Conversion, output: Path, back: bool) -> None:
    found = done.description
    print_line(f"{found.task} with {found.backbone}, {done.parameters / 1e6:.1f} M parameters")
    print_line(f"categories: {_first_names(found.categories)}")
    if not back:
        width, height = found.size
        print_line(f"input {width}x{height}, with the released mean and std of {done.data}")
    if done.dropped:
        print_line(f"left out, since the network does not use them: {', '.join(done.dropped)}")
    print_line(f"written to {output}")


def _first_names(categories: list[dict[str, Any]]) -> str:
    names = [str(category["name"]) for category in categories]
    more = f", ... ({len(names)})" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
