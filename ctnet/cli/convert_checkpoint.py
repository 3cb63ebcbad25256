"""``ctnet convert checkpoint``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ctnet.base.errors import CtnetError
from ctnet.base.output import print_json, print_line
from ctnet.cli.parsing import OPTION_HELP, parse_assignments

_SHOWN = 5


def checkpoint(
    source: Annotated[Path, typer.Argument(help="A checkpoint of the authors' release (.pth).")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The file to write.")],
    back: Annotated[
        bool, typer.Option("--to-official", help="The other way: from ctnet's file to the release's.")
    ] = False,
    names: Annotated[
        Path | None,
        typer.Option(
            help="Categories, where they are not COCO's, VOC's or KITTI's: a text file with one name a line, "
            "or a COCO annotation file."
        ),
    ] = None,
    option: Annotated[list[str] | None, typer.Option("-O", "--option", help=OPTION_HELP)] = None,
    json: Annotated[bool, typer.Option("--json", help="What was found, as JSON on stdout.")] = False,
) -> None:
    """Convert a checkpoint of the authors' release (CenterNet) to ctnet's file, or back.

    Backbone, task and categories are recognised from the weights. The file is read without running code.

    Examples:

    * `ctnet convert checkpoint ctdet_coco_dla_2x.pth -o dla34.pt`

    * `ctnet convert checkpoint mine.pth -o mine.pt --names classes.txt`

    * `ctnet convert checkpoint dla34.pt -o back.pth --to-official`
    """
    from ctnet.checkpoint import from_official, to_official

    if back:
        if names is not None or option:
            raise CtnetError("--names and -O are for reading a file of the release; leave them out")
        done = to_official(source, output)
    else:
        done = from_official(source, output, _categories(names), parse_assignments(option or []))
    found = done.description
    if json:
        print_json(
            {
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
        )
    print_line(f"{found.task} with {found.backbone}, {done.parameters / 1e6:.1f} M parameters")
    print_line(f"categories: {_first_names(found.categories)}")
    if not back:
        width, height = found.size
        print_line(f"input {width}x{height}, mean and std as the release has them for {done.data}")
    if done.dropped:
        print_line(f"left out, since the network never reads them: {', '.join(done.dropped)}")
    print_line(f"written to {output}")


def _first_names(categories: list[dict[str, Any]]) -> str:
    names = [str(category["name"]) for category in categories]
    more = f", ... ({len(names)})" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _categories(path: Path | None) -> list[dict[str, Any]] | None:
    """Categories of a COCO file, or of a list of names."""
    from ctnet.base.files import read_json, read_text

    if path is None:
        return None
    if path.suffix == ".json":
        content = read_json(path)
        found = content.get("categories") if isinstance(content, dict) else None
        if not isinstance(found, list) or not found:
            raise CtnetError(f"{path} has no categories; give a COCO annotation file")
        return found
    names = [line.strip() for line in read_text(path).split("\n") if line.strip()]
    if not names:
        raise CtnetError(f"{path} names no categories; write one name a line")
    return [{"id": place, "name": name} for place, name in enumerate(names, start=1)]
