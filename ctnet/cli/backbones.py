"""``ctnet backbones``."""

from __future__ import annotations

from typing import Annotated

import typer

from ctnet.cli.output import print_json, print_table


def backbones(
    pattern: Annotated[str, typer.Argument(help="Names to show, with * and ?.")] = "*",
    json: Annotated[bool, typer.Option("--json", help="JSON on stdout.")] = False,
) -> None:
    """List backbones: parameters, stride, divisor of the input's sides, and where they come from.

    Example: `ctnet backbones "res*18"`
    """
    import dataclasses

    from ctnet.backbones import describe_backbone, list_backbones
    from ctnet.errors import unknown_name

    names = list_backbones(pattern)
    if not names:
        raise unknown_name("backbone", pattern, list_backbones())
    rows = [describe_backbone(name) for name in names]
    if json:
        print_json([dataclasses.asdict(row) for row in rows])
        return
    print_table(
        ("backbone", "parameters", "channels", "stride", "divisor", "from"),
        [
            (row.name, f"{row.parameters / 1e6:.1f} M", row.channels, row.stride, row.divisor, row.source)
            for row in rows
        ],
    )
