"""Modules whose names are imported on first use, so that importing them costs nothing."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any


def lazy_attributes(module: str, homes: Mapping[str, str]) -> Callable[[str], Any]:
    """A module-level ``__getattr__`` (PEP 562).

    Args:
        module: name of the module that gets it, for the error message.
        homes: public name -> module that defines it; a name equal to the last part of its module's name is
            that module itself.
    """

    def getattr_(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        home = importlib.import_module(homes[name])
        return home if homes[name].rpartition(".")[2] == name else getattr(home, name)

    return getattr_
