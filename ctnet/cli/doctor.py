"""``ctnet doctor``."""

from __future__ import annotations

from typing import Annotated

import typer

from ctnet.base.output import print_json, print_table


def doctor(json: Annotated[bool, typer.Option("--json", help="JSON on stdout.")] = False) -> None:
    """Check the installation: versions, devices, fast paths against plain ones, plugins.

    The exit code is 1 if something is wrong.

    Example: `ctnet doctor`
    """
    import dataclasses

    from ctnet.doctor import examine

    findings = examine()
    if json:
        print_json([dataclasses.asdict(finding) for finding in findings])
    else:
        rows = [("ok" if finding.good else "WRONG", finding.name, finding.text) for finding in findings]
        print_table(("", "what", "found"), rows)
    if not all(finding.good for finding in findings):
        raise typer.Exit(1)
