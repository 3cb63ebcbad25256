"""Fields of a recipe as options: ``--patience 10`` for ``-R patience=10``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from typer.core import TyperCommand


class RecipeCommand(TyperCommand):
    """A command with ``-R FIELD=VALUE`` that also takes every field of a recipe as an option.

    A help screen with an option for every field would not be read; who knows a field's name may write it
    either way.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        own = {name for parameter in self.params for name in (*parameter.opts, *parameter.secondary_opts)}
        return super().parse_args(ctx, as_assignments(args, own | set(ctx.help_option_names)))


def as_assignments(args: Sequence[str], own: set[str]) -> list[str]:
    """Arguments with the options that are fields of a recipe as ``-R FIELD=VALUE``; others as they are.

    Args:
        args: the arguments of a command line.
        own: the command's own options.
    """
    left = list(args)
    written: list[str] = []
    while left:
        text = left.pop(0)
        if text == "--":
            return [*written, text, *left]
        name, equals, value = text.partition("=")
        field = name.removeprefix("--").replace("-", "_")
        kinds = _fields() if name.startswith("--") and name not in own else {}
        if field not in kinds:
            written.append(text)
            continue
        if not equals:
            is_switch = kinds[field] is bool and (not left or left[0].lower() not in ("true", "false"))
            # A missing value is left to the check of -R, which knows what the field may be.
            value = "true" if is_switch else (left.pop(0) if left else "")
        written += ["-R", f"{field}={value}"]
    return written


def _fields() -> Mapping[str, Any]:
    from ctnet.core.recipe import recipe_fields

    return recipe_fields()
