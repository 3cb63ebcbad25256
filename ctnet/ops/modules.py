"""Replacing layers of a network."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn


def replace_modules(model: nn.Module, replacements: Mapping[nn.Module, nn.Module]) -> None:
    """Replace some layers, under every name that they have; the order of names is kept.

    Args:
        model: the network; it cannot itself be one of the replaced layers.
        replacements: old layer -> new layer. Layers inside an old layer are not looked at.
    """
    for parent in list(model.modules()):
        for name, child in list(parent._modules.items()):
            if child is not None and child in replacements:
                setattr(parent, name, replacements[child])
