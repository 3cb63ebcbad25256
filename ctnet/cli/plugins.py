"""Commands of plugins: listed by name without importing them, loaded when called."""

from __future__ import annotations

import sys
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from ctnet.base.errors import CtnetError
from ctnet.base.plugins import Plugin, discover


def plugin_group(entry_points: str) -> type[TyperGroup]:
    """A command group that plugins can extend: the ``cls`` of a ``typer.Typer`` or ``add_typer``.

    Args:
        entry_points: the entry-point group that the plugins register in.
    """

    def plugins(ctx: Any) -> dict[str, Plugin]:
        if entry_points not in ctx.meta:  # searched once per call of ctnet
            ctx.meta[entry_points] = discover(entry_points)
        found: dict[str, Plugin] = ctx.meta[entry_points]
        return found

    class Group(TyperGroup):
        def list_commands(self, ctx: Any) -> list[str]:
            own = super().list_commands(ctx)
            return [*own, *(name for name in plugins(ctx) if name not in own)]

        def get_command(self, ctx: Any, cmd_name: str) -> Any:
            own = super().get_command(ctx, cmd_name)
            plugin = plugins(ctx).get(cmd_name)
            if plugin is None:
                return own
            if own is None:
                return _PluginCommand(plugin)
            print(
                f"warning: command {cmd_name!r} of {plugin.origin} is hidden by ctnet's own command of that "
                "name",
                file=sys.stderr,
            )
            return own

    return Group


class _PluginCommand(TyperCommand):
    """A placeholder for a plugin's command in the help, replaced by the command when called."""

    def __init__(self, plugin: Plugin) -> None:
        super().__init__(plugin.name, help=f"of {plugin.origin}", rich_help_panel="Plugins")
        self._plugin = plugin

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        return _command(self._plugin).make_context(info_name, args, parent, **extra)


def _command(plugin: Plugin) -> Any:
    """Import a plugin's command.

    Raises:
        CtnetError: when it does not load, or is neither a function nor a Typer app.
    """
    loaded = plugin.load()
    holder = typer.Typer(add_completion=False, rich_markup_mode="markdown")
    if isinstance(loaded, typer.Typer):
        holder.add_typer(loaded, name=plugin.name)
    elif callable(loaded) and not isinstance(loaded, type):
        holder.command(name=plugin.name)(loaded)
    else:
        raise CtnetError(
            f"command {plugin.name!r} of {plugin.origin} is {loaded!r}, neither a function nor a "
            "typer.Typer; report it to its author"
        )
    try:
        made: Any = typer.main.get_command(holder)
    except Exception as error:  # a parameter that Typer cannot turn into an option
        raise CtnetError(
            f"command {plugin.name!r} of {plugin.origin} cannot be turned into a command: {error}; "
            "report it to its author"
        ) from error
    return made.commands[plugin.name] if isinstance(loaded, typer.Typer) else made
