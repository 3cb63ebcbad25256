"""Backbones: images -> feature maps at a quarter of the input size. See ``Backbone`` for the contract."""

from ctnet.backbones import resnet as _resnet  # noqa: F401  (registers its backbones)
from ctnet.backbones._registry import (
    Backbone,
    BackboneInfo,
    create_backbone,
    describe_backbone,
    list_backbones,
    register_backbone,
)

__all__ = [
    "Backbone",
    "BackboneInfo",
    "create_backbone",
    "describe_backbone",
    "list_backbones",
    "register_backbone",
]
