"""Exchanging layers of a network."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn


def replace_modules(model: nn.Module, replacements: Mapping[nn.Module, nn.Module]) -> None:
    """Put other layers in the places of some, under every name that they have; the order of names stays.

    Args:
        model: the network; it cannot be one of those replaced itself.
        replacements: old layer -> new layer. What lies within an old layer stays as it is.
    """
    for parent in list(model.modules()):
        for name, child in list(parent._modules.items()):
            if child is not None and child in replacements:
                setattr(parent, name, replacements[child])
