"""Finding plugins: entry points of installed distributions, listed without importing any of them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib import metadata
from typing import Any

from ctnet.errors import CtnetError, unknown_name


@dataclass(frozen=True)
class Plugin:
    """One entry point of one installed distribution."""

    group: str
    name: str
    distribution: str
    version: str
    entry_points: tuple[metadata.EntryPoint, ...]

    @property
    def builtin(self) -> bool:
        return self.entry_points[0].value.startswith("ctnet.")

    def load(self) -> Any:
        """Import what the entry point names.

        Raises:
            CtnetError: naming the distribution, when the import fails or two distributions claim the name.
        """
        if len(self.entry_points) > 1:
            values = " and ".join(point.value for point in self.entry_points)
            raise CtnetError(
                f"two plugins are called {self.name!r} ({self.distribution}: {values}); uninstall one of them"
            )
        try:
            return self.entry_points[0].load()
        except Exception as error:
            raise CtnetError(
                f"plugin {self.name!r} of {self.distribution} {self.version} does not load: "
                f"{type(error).__name__}: {error}; update or uninstall {self.distribution}"
            ) from error


def discover(group: str) -> dict[str, Plugin]:
    """All plugins of an entry-point group, by name, sorted. Nothing is imported.

    The environment variable ``CTNET_PLUGINS`` (comma-separated names, or ``none``) restricts what is found;
    what ctnet itself contains always stays.

    Args:
        group: "ctnet.tasks" or "ctnet.backbones".
    """
    found: dict[str, Plugin] = {}
    for point in metadata.entry_points(group=group):
        if not _allowed(point):
            continue
        distribution = point.dist.name if point.dist else "an unknown distribution"
        version = point.dist.version if point.dist else "?"
        plugin = Plugin(group, point.name, distribution, version, (point,))
        found[point.name] = _joined(found[point.name], plugin) if point.name in found else plugin
    return dict(sorted(found.items()))


def load_plugin(group: str, name: str, kind: str) -> Any:
    """Load one plugin by name.

    Args:
        group: the entry-point group.
        name: the entry point's name.
        kind: what such a plugin is called in messages ("task", "backbone").

    Raises:
        CtnetError: for an unknown name (offering the nearest) or a plugin that does not load.
    """
    plugins = discover(group)
    if name not in plugins:
        raise unknown_name(kind, name, plugins)
    return plugins[name].load()


def _allowed(point: metadata.EntryPoint) -> bool:
    wanted = os.environ.get("CTNET_PLUGINS")
    if wanted is None or point.value.startswith("ctnet."):
        return True
    return point.name in {name.strip() for name in wanted.split(",")}


def _joined(first: Plugin, second: Plugin) -> Plugin:
    """Two entry points of one name: the same one seen twice (an editable install), or a conflict."""
    if second.entry_points[0].value in {point.value for point in first.entry_points}:
        return first
    distribution = first.distribution
    if second.distribution != distribution:
        distribution = f"{distribution}, {second.distribution}"
    return Plugin(
        first.group, first.name, distribution, first.version, first.entry_points + second.entry_points
    )
