"""Write cli.md, every command with its arguments and options: python docs/reference/generate.py.

The page follows the code: what ``ctnet COMMAND --help`` shows, of the commands that come with ctnet.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints
from unittest.mock import patch

import typer

from ctnet.cli import app

FOLDER = Path(__file__).parent
NOTE = "<!-- Written by docs/reference/generate.py; change the docstrings and helps instead. -->"
#: Commands of the packages that ship with ctnet; those of installed plugins are on the plugins' own pages.
SHIPPED = "kitti,kitti-eval"
INTRODUCTION = """Tables and figures go to stdout, progress and warnings to stderr; `--json` prints one
document. A user's mistake is one line on stderr and exit code 2. `ctnet COMMAND --help` shows the same as
this page, and `ctnet --install-completion` makes the shell complete commands, options and choices."""


def pages() -> dict[str, str]:
    """The generated pages by path from this folder."""
    return {"cli.md": cli_page()}


def cli_page() -> str:
    """All commands, in the order of ``ctnet --help``."""
    lines = [NOTE, "", "# Command line", "", INTRODUCTION, ""]
    with patch.dict(os.environ, {"CTNET_PLUGINS": SHIPPED}):
        commands = list(all_commands())
        lines += [
            f"- [`{name}`](#{name.replace(' ', '-')}): {summary(command)}" for name, command in commands
        ]
        for name, command in commands:
            lines += ["", f"## {name}", "", *described(name, command)]
    return "\n".join(lines) + "\n"


def all_commands() -> Iterator[tuple[str, Any]]:
    """(full name, command), groups opened."""
    yield from _commands("ctnet", typer.main.get_command(app), None)


def _commands(name: str, command: Any, parent: Any) -> Iterator[tuple[str, Any]]:
    context = command.make_context(name.rpartition(" ")[2], [], parent=parent, resilient_parsing=True)
    command = context.command  # of a plugin: the placeholder is replaced
    if not hasattr(command, "list_commands"):
        yield name, command
        return
    for child in command.list_commands(context):
        yield from _commands(f"{name} {child}", command.get_command(context, child), context)


def summary(command: Any) -> str:
    """The first paragraph of the help, on one line."""
    return " ".join(inspect.cleandoc(command.help or "").partition("\n\n")[0].split())


def described(name: str, command: Any) -> Iterator[str]:
    """Usage, help, and a table of arguments and options."""
    arguments = [each for each in command.params if each.param_type_name == "argument"]
    options = [each for each in command.params if each.param_type_name == "option" and not each.hidden]
    usage = [name, *(usage_of(each) for each in arguments), *(["[OPTIONS]"] if options else [])]
    yield from ("```text", " ".join(usage), "```", "")
    yield from inspect.cleandoc(command.help or "").replace("\f", "").splitlines()
    choices = choices_of(command.callback)
    if arguments:
        yield from ("", "| argument | |", "|---|---|")
        yield from (f"| `{each.name}` | {told(each, choices)} |" for each in arguments)
    if options:
        yield from ("", "| option | |", "|---|---|")
        yield from (f"| {spelled(each)} | {told(each, choices)} |" for each in options)


def usage_of(argument: Any) -> str:
    """As in a usage line."""
    text = argument.name.upper() + ("..." if argument.nargs == -1 else "")
    return text if argument.required else f"[{text}]"


def spelled(option: Any) -> str:
    """All names of an option."""
    names = ", ".join(f"`{name}`" for name in sorted(option.opts, key=len, reverse=True))
    return names + "".join(f" / `{name}`" for name in option.secondary_opts)


def choices_of(function: Any) -> dict[str, str]:
    """The values that a parameter takes, where they are few."""

    def values(hint: Any) -> tuple[Any, ...]:
        if get_origin(hint) is Literal:
            return get_args(hint)
        if isinstance(hint, type) and issubclass(hint, Enum):
            return tuple(member.value for member in hint)
        return tuple(value for part in get_args(hint) for value in values(part))

    hints = get_type_hints(inspect.unwrap(function)) if function else {}
    return {
        name: r" \| ".join(f"`{v}`" for v in values(hint)) for name, hint in hints.items() if values(hint)
    }


def told(parameter: Any, choices: dict[str, str]) -> str:
    """Help, choices and default."""
    text = (parameter.help or "").replace("|", r"\|")
    if parameter.name in choices:
        text += f" {choices[parameter.name]}."
    default = parameter.default
    shown = default is not None and default != () and not isinstance(default, bool) and not callable(default)
    if parameter.show_default is not False and shown:
        text += f" Default: `{default.value if isinstance(default, Enum) else default}`."
    return " ".join(text.split())


if __name__ == "__main__":
    for path, text in pages().items():
        (FOLDER / path).write_text(text, "utf-8")
