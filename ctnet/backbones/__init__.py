"""Backbones: images -> feature maps at a quarter of the input size. See ``Backbone`` for the contract."""

from ctnet.backbones import dla, hourglass, light, resnet, timm_models  # noqa: F401  (they register theirs)
from ctnet.backbones._registry import (
    MEAN,
    STD,
    Backbone,
    BackboneInfo,
    Family,
    create_backbone,
    describe_backbone,
    list_backbones,
    list_families,
    register_backbone,
    register_family,
)

__all__ = [
    "MEAN",
    "STD",
    "Backbone",
    "BackboneInfo",
    "Family",
    "create_backbone",
    "describe_backbone",
    "list_backbones",
    "list_families",
    "register_backbone",
    "register_family",
]
