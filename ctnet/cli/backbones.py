"""``ctnet backbones``."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated

import typer

from ctnet.base.errors import CtnetError, unknown_name
from ctnet.base.output import print_json, print_line, print_table
from ctnet.cli.parameters import SIZE_HELP, Threads
from ctnet.cli.parsing import parse_budget, parse_size, refuse_given

if TYPE_CHECKING:
    from ctnet.backbones import BackboneInfo
    from ctnet.budget.proposal import Candidate, Proposal


def backbones(
    context: typer.Context,
    pattern: Annotated[str, typer.Argument(help="Names to show, with * and ?.")] = "*",
    budget: Annotated[
        str | None,
        typer.Option(
            help="What fits into this time per image on this CPU, measured: 30ms. Without a pattern: of "
            "those that learn from scratch.",
            metavar="TIME",
        ),
    ] = None,
    threads: Threads = None,
    size: Annotated[str | None, typer.Option(help=SIZE_HELP + " For --budget; default: chosen.")] = None,
    task: Annotated[str, typer.Option(help="The task whose heads --budget counts.")] = "ctdet",
    json: Annotated[bool, typer.Option("--json", help="JSON on stdout.")] = False,
) -> None:
    """List backbones: parameters, stride, divisor of the input's sides, and where they come from.

    Examples:

    * `ctnet backbones "res*18"`

    * `ctnet backbones list "timm/resnet*"`

    * `ctnet backbones --budget 30ms --threads 2`

    * `ctnet backbones "timm/mobilenetv4_conv_s*" --budget 30ms --size 256`
    """
    milliseconds = parse_budget(context, budget)
    if milliseconds is None:
        refuse_given(context, ("size", "task"), "--budget")
        _print_rows(_described(pattern), json)
        return
    from ctnet.budget.choice import propose
    from ctnet.budget.proposal import Budget
    from ctnet.core.task import create_task, load_task_class, scenes_of

    heads = create_task(task, scenes_of(load_task_class(task)).categories).heads
    proposal = propose(_to_choose_from(pattern), heads, Budget.of(milliseconds, threads), parse_size(size))
    if json:
        print_json(dataclasses.asdict(proposal))
    else:
        _print_proposal(proposal)


def _described(pattern: str) -> list[BackboneInfo]:
    """The rows of a pattern.

    Raises:
        CtnetError: when it matches none.
    """
    from ctnet.backbones import BackboneInfo, describe_backbone, list_backbones, list_families
    from ctnet.base.progress import track

    # A family of a thousand models is one row, unless the pattern asks for its models.
    families = [family for family in list_families() if pattern in ("*", f"{family.name}/*")]
    whole = any(pattern == f"{family.name}/*" for family in families)
    names = [] if whole else list_backbones(pattern)
    if not names and not families:
        raise _no_match(pattern)
    rows = [describe_backbone(name) for name in track(names, "building", unit="backbones")]
    return rows + [BackboneInfo(f"{family.name}/<model>", family.source()) for family in families]


def _no_match(pattern: str) -> CtnetError:
    from ctnet.backbones import list_backbones

    family_models = f"{pattern.partition('/')[0]}/*"
    return unknown_name("backbone", pattern, list_backbones(family_models) or list_backbones())


def _print_rows(rows: list[BackboneInfo], json: bool) -> None:
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


# --- with a budget


def _to_choose_from(pattern: str) -> list[str]:
    """Backbones of a pattern that can be built here; without one, those that learn from scratch."""
    from ctnet.backbones import describe_backbone, list_backbones
    from ctnet.budget.choice import trainable_backbones

    if pattern == "*":
        return trainable_backbones()
    described = [describe_backbone(name) for name in list_backbones(pattern)]
    if not described:
        raise _no_match(pattern)
    names = [one.name for one in described if not one.error]
    if not names:
        raise CtnetError(described[0].error)
    return names


def _print_proposal(proposal: Proposal) -> None:
    rows = [_candidate_cells(one, proposal.chosen.backbone) for one in proposal.candidates]
    print_table(("backbone", "input", "predicted, ms", "million multiply-adds", ""), rows)
    print_line()
    for line in proposal.lines():
        print_line(line)
    chosen = proposal.chosen
    width, height = chosen.size
    size = f"{width}" if width == height else f"{width}x{height}"
    print_line(f"train it: `ctnet train TASK --backbone {chosen.backbone} --size {size}`")


def _candidate_cells(one: Candidate, chosen: str) -> tuple[object, ...]:
    width, height = one.size
    note = "chosen" if one.backbone == chosen else "" if one.fits else "too slow"
    return one.backbone, f"{width}x{height}", round(one.predicted, 1), round(one.multiply_adds / 1e6), note
