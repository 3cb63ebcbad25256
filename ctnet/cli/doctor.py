"""``ctnet doctor``."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from ctnet.base.output import print_json, print_table, width_of

if TYPE_CHECKING:
    from ctnet.doctor import Finding

#: On a terminal that is narrower, lines break where they do.
_NARROWEST = 24


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
        print_table(("", "what", "found"), _rows(findings))
    if not all(finding.good for finding in findings):
        raise typer.Exit(1)


def _rows(findings: Sequence[Finding]) -> list[tuple[str, str, str]]:
    """The table's rows; on a terminal, texts that are too long for a line go on in the next one."""
    columns = width_of(sys.stdout)
    left = len("WRONG") + max(len(finding.name) for finding in findings) + 4
    rows = []
    for finding in findings:
        lines = [finding.text]
        if columns is not None:
            width = max(columns - left, _NARROWEST)
            lines = textwrap.wrap(finding.text, width, break_long_words=False, break_on_hyphens=False) or [""]
        rows.append(("ok" if finding.good else "WRONG", finding.name, lines[0]))
        rows += [("", "", line) for line in lines[1:]]
    return rows
