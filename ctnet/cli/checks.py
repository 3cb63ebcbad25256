"""``ctnet tasks check`` and ``ctnet backbones check``: the conformance kit as a table."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from ctnet.base.output import print_json, print_line, print_table
from ctnet.cli.backbones import backbones
from ctnet.cli.parameters import TaskOptions
from ctnet.cli.parsing import parse_assignments

if TYPE_CHECKING:
    from ctnet.testing import Outcome

_JSON = typer.Option("--json", help="JSON on stdout.")


class _ListByDefault(TyperGroup):
    """``ctnet backbones PATTERN`` is short for ``ctnet backbones list PATTERN``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not args or args[0] not in (*self.commands, *ctx.help_option_names):
            args = ["list", *args]
        return super().parse_args(ctx, args)


backbones_app = typer.Typer(
    cls=_ListByDefault, help="List backbones (`ctnet backbones PATTERN`), or check one against the contract."
)
backbones_app.command(name="list")(backbones)


def check_task(
    name: Annotated[str, typer.Argument(help="Task, see `ctnet tasks list`.")],
    option: TaskOptions = None,
    json: Annotated[bool, _JSON] = False,
) -> None:
    """Check a task against the contract, on its own example scenes. Exit code 1 if a check fails.

    Examples:

    * `ctnet tasks check ctdet`

    * `ctnet tasks check ctdet -O class_specific_size=true`
    """
    from ctnet.testing.check import outcomes
    from ctnet.testing.tasks import TASK_CHECKS, as_task

    task = as_task(name, **parse_assignments(option or [], "-O"))
    _report(outcomes(TASK_CHECKS, task), len(TASK_CHECKS), f"task {name}", json)


@backbones_app.command(name="check")
def check_backbone(
    name: Annotated[str, typer.Argument(help="Backbone, see `ctnet backbones`.")],
    json: Annotated[bool, _JSON] = False,
) -> None:
    """Check a backbone against the contract, on tiny images. Exit code 1 if a check fails.

    Example: `ctnet backbones check resfpn18`
    """
    from ctnet.backbones import describe_backbone
    from ctnet.base.errors import CtnetError
    from ctnet.testing.backbones import BACKBONE_CHECKS, as_factory
    from ctnet.testing.check import outcomes

    if error := describe_backbone(name).error:
        raise CtnetError(error)
    _report(outcomes(BACKBONE_CHECKS, as_factory(name)), len(BACKBONE_CHECKS), f"backbone {name}", json)


def _report(running: Iterable[Outcome], total: int, what: str, json: bool) -> None:
    """Run checks, print their outcomes, and exit with 1 when one fails."""
    from ctnet.base.progress import track

    done = list(track(running, f"checking {what}", total=total, unit="checks"))
    failed = [outcome for outcome in done if outcome.result == "failed"]
    if json:
        import dataclasses

        print_json([dataclasses.asdict(outcome) for outcome in done])
    else:
        _print(done, failed, what)
    if failed:
        raise typer.Exit(1)


def _print(done: list[Outcome], failed: list[Outcome], what: str) -> None:
    print_table(
        ("check", "result", "seconds"),
        [
            (
                outcome.check,
                outcome.result.upper() if outcome in failed else outcome.result,
                round(outcome.seconds, 2),
            )
            for outcome in done
        ],
    )
    for outcome in done:
        if outcome.reason and outcome not in failed:
            _print_lines(f"\n{outcome.result}: {outcome.check}: {outcome.reason}")
    for outcome in failed:
        _print_lines(f"\nFAILED: {outcome.reason}")
    count = len(failed) or "none"
    print_line(f"\n{what}: {len(done)} checks, {count} failed")


def _print_lines(text: str) -> None:
    for line in text.splitlines():
        print_line(line)
