"""Keeping the first stages of a backbone as they are."""

from __future__ import annotations

from ctnet.backbones import Backbone, BackboneInfo
from ctnet.base.errors import CtnetError


def check_freeze(count: int, backbone: BackboneInfo) -> None:
    """Refuse more stages than the backbone has.

    Args:
        count: the recipe's ``freeze``.
        backbone: the description of the backbone.

    Raises:
        CtnetError: naming the stages that it has.
    """
    names = backbone.stages
    if count and not names:
        raise CtnetError(f"{backbone.name} has no stages that can be frozen; leave out freeze={count}")
    if count > len(names):
        raise CtnetError(
            f"freeze is {count}, but {backbone.name} has {len(names)} stages ({', '.join(names)}); choose at "
            f"most {len(names)}"
        )


def freeze_stages(backbone: Backbone, count: int) -> None:
    """Keep weights and batch norm statistics of the first stages; to be repeated after ``train()``."""
    for modules in [*backbone.freezable_stages().values()][:count]:
        for module in modules:
            module.eval().requires_grad_(False)
