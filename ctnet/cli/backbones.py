"""``ctnet backbones``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ctnet.base.output import print_json, print_table

if TYPE_CHECKING:
    from ctnet.backbones import BackboneInfo


def backbones(
    pattern: Annotated[str, typer.Argument(help="Names to show, with * and ?.")] = "*",
    json: Annotated[bool, typer.Option("--json", help="JSON on stdout.")] = False,
) -> None:
    """List backbones: parameters, stride, divisor of the input's sides, and where they come from.

    Examples:

    * `ctnet backbones "res*18"`

    * `ctnet backbones list "timm/resnet*"`
    """
    import dataclasses

    from ctnet.backbones import BackboneInfo, describe_backbone, list_backbones, list_families
    from ctnet.base.errors import unknown_name
    from ctnet.base.progress import track

    # A family of a thousand models is one row, unless the pattern asks for its models.
    families = [family for family in list_families() if pattern in ("*", f"{family.name}/*")]
    whole = any(pattern == f"{family.name}/*" for family in families)
    names = [] if whole else list_backbones(pattern)
    if not names and not families:
        family_models = f"{pattern.partition('/')[0]}/*"
        raise unknown_name("backbone", pattern, list_backbones(family_models) or list_backbones())
    rows = [describe_backbone(name) for name in track(names, "building", unit="backbones")]
    rows += [BackboneInfo(f"{family.name}/<model>", family.source()) for family in families]
    if json:
        print_json([dataclasses.asdict(row) for row in rows])
        return
    print_table(
        ("backbone", "parameters", "channels", "stride", "divisor", "from"), [_cells(row) for row in rows]
    )


def _cells(row: BackboneInfo) -> tuple[object, ...]:
    """A row without values is a family, or a backbone that cannot be built, with the reason."""
    if not row.channels:
        return row.name, "", "", "", "", row.error or row.source
    figures = (row.channels, row.stride, row.divisor)
    return row.name, f"{row.parameters / 1e6:.1f} M", *figures, row.source
