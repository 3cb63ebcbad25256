"""Finding plugins: entry points of installed distributions, listed without importing any of them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib import metadata
from typing import Any

from ctnet.base.errors import CtnetError, unknown_name

#: The oldest and the newest version of the contract that this ctnet supports. A plugin states the one that it
#: was written for, or its own oldest and newest, as the attribute ``contract`` of the object that its entry
#: point names; a plugin that states none is loaded without a check.
CONTRACTS = (2, 2)


@dataclass(frozen=True)
class Plugin:
    """A name in an entry-point group; more than one entry point is a conflict that loading reports."""

    group: str
    name: str
    entry_points: tuple[metadata.EntryPoint, ...]

    @property
    def builtin(self) -> bool:
        return self.entry_points[0].value.startswith("ctnet.")

    @property
    def distribution(self) -> str:
        """The distribution's name; with a conflict, the names of all distributions in it."""
        return ", ".join(name for name, _ in self._distributions())

    @property
    def version(self) -> str:
        return ", ".join(version for _, version in self._distributions())

    @property
    def origin(self) -> str:
        """Distribution and version, for messages."""
        return " and ".join(f"{name} {version}" for name, version in self._distributions())

    def _distributions(self) -> list[tuple[str, str]]:
        """Names and versions, without duplicates."""
        found = (
            (point.dist.name, point.dist.version) if point.dist else ("an unknown distribution", "?")
            for point in self.entry_points
        )
        return list(dict.fromkeys(found))

    def load(self) -> Any:
        """Import what the entry point names.

        Raises:
            CtnetError: naming the distribution: when the import fails, when two plugins have the name, and
                when the plugin was written for another contract.
        """
        if len(self.entry_points) > 1:
            values = " and ".join(point.value for point in self.entry_points)
            others = [name for name, _ in self._distributions() if name != "ctnet-toolkit"]
            raise CtnetError(
                f"two plugins are called {self.name!r} ({values} of {self.origin}); "
                f"uninstall {others[0] if len(others) == 1 else 'one of them'}"
            )
        try:
            loaded = self.entry_points[0].load()
        except (Exception, SystemExit) as error:
            raise CtnetError(f"plugin {self.name!r} of {self.origin} {self._reason(error)}") from error
        self._check_contract(getattr(loaded, "contract", CONTRACTS))
        return loaded

    def _check_contract(self, stated: object) -> None:
        """Refuse a plugin whose contract versions are all older or all newer than the supported ones."""
        versions = stated if isinstance(stated, tuple) else (stated, stated)
        if len(versions) != 2 or not all(isinstance(version, int) for version in versions):
            raise CtnetError(
                f"plugin {self.name!r} of {self.origin} states contract version {stated!r}, which is "
                f"neither a whole number nor (oldest, newest); update {self.distribution}"
            )
        older = versions[1] < CONTRACTS[0]
        if older or versions[0] > CONTRACTS[1]:
            from ctnet.base.version import __version__

            raise CtnetError(
                f"plugin {self.name!r} of {self.origin} was written for {_versions(versions)} of ctnet's "
                f"contract, and ctnet {__version__} supports {_versions(CONTRACTS)}; "
                f"update {self.distribution if older else 'ctnet-toolkit'}"
            )

    def _reason(self, error: BaseException) -> str:
        """Why it does not load, and the fix."""
        missing = (error.name or "") if isinstance(error, ImportError) else ""
        root = missing.partition(".")[0]
        text = f"{type(error).__name__}: {' '.join(str(error).split())}"
        if root == "ctnet":
            return f"was written for another version of ctnet ({text}); update {self.distribution}"
        own = self.entry_points[0].value.partition(":")[0].partition(".")[0]
        if isinstance(error, ModuleNotFoundError) and root != own:
            return (
                f"needs the Python module {missing!r}, which is not installed; install what "
                f"{self.distribution} depends on, or uninstall it"
            )
        return f"does not load: {text}; update or uninstall {self.distribution}"


def _versions(versions: tuple[int, ...]) -> str:
    """A range of versions in words."""
    oldest, newest = versions
    return f"version {oldest}" if oldest == newest else f"versions {oldest} to {newest}"


def discover(group: str) -> dict[str, Plugin]:
    """All plugins of an entry-point group, by name, sorted. Nothing is imported.

    The environment variable ``CTNET_PLUGINS`` (comma-separated names, or ``none``) restricts what is found;
    ctnet's own are always included.

    Args:
        group: "ctnet.tasks", "ctnet.backbones", "ctnet.commands", "ctnet.converters", "ctnet.analyses",
            "ctnet.observers" or "ctnet.report_sections".
    """
    found: dict[str, Plugin] = {}
    for point in metadata.entry_points(group=group):
        if not _allowed(point):
            continue
        earlier = found[point.name].entry_points if point.name in found else ()
        # An editable install next to a built one lists the same entry point twice.
        if point.value not in {other.value for other in earlier}:
            found[point.name] = Plugin(group, point.name, (*earlier, point))
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
