"""``ctnet tasks new``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ctnet.base.output import print_line


def new_task(
    name: Annotated[str, typer.Argument(help="Name of the task: lower-case letters, digits, underscores.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The folder to create; default: ctnet-tasks-NAME.")
    ] = None,
) -> None:
    """Write a plugin with a new task: a complete, working distribution with tests.

    Example: `ctnet tasks new dials`
    """
    from ctnet.new_task import write_new_task

    folder = write_new_task(name, output)
    print_line(f"written to {folder}; now")
    print_line(f"  pip install -e {folder}")
    print_line(f"  ctnet tasks check {name}")
    print_line(f"  ctnet demo {name}")
